/**
 * What differential privacy costs: trains the experts of the three example institutions without a guarantee and with
 * several values of epsilon, and scores each composition on the held-out text of every domain. Trainings stay in a
 * folder, so an interrupted run resumes. Does not print.
 *
 * The unit is the document. The files of the archive hold ten articles of law each, so they are cut into articles, which
 * is how an archive keeps them and how the text was selected (examples/archive/PROVENANCE.md).
 */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { loadPublicModel, type PublicModel } from '../../../src/checkpoint/public-model.ts'
import { DEFAULT_TOP_K } from '../../../src/composition/compose.ts'
import { InputError } from '../../../src/lib/errors.ts'
import { writeFileAtomic } from '../../../src/lib/files.ts'
import { createEvaluator, type HeldOutDocument } from '../../../src/model/evaluate.ts'
import { type Expert, mixtureWeights, zeroRows } from '../../../src/model/params.ts'
import { LEFT_OUT } from '../../../src/model/routing-plan.ts'
import { ownHeldOut, publicHeldOut } from '../../../src/owner/held-out.ts'
import type { OwnerWorkplace } from '../../../src/owner/owner-jobs.ts'
import { trainExpert } from '../../../src/owner/train-expert.ts'
import { finishedTrainings, loadTrained } from '../../../src/owner/training-folder.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'

export const DOMAINS = { biomedicine: 'hospital', law: 'archive', theorems: 'university' } as const
export type Domain = keyof typeof DOMAINS
const NAMES = Object.keys(DOMAINS) as Domain[]
/** Sets of held-out text, in the order of the scores. */
export const SETS = [...NAMES, 'public'] as const
export type Bits = Readonly<Record<(typeof SETS)[number] | 'macro', number>>

/** Epsilon of a training without a guarantee. */
export const NONE = 'none'
export const EPSILONS = [NONE, '8', '2', '1'] as const
/** Without a guarantee: the demo's steps. */
const STEPS = 100
/** Steps and batch of private trainings: small enough that all of them take minutes. Chosen on the text of the hospital. */
const PRIVATE = { steps: 20, batch: 64 } as const
/**
 * Rank of private experts by epsilon. At epsilon 1 the noise in the factors of rank 4 would be larger than all that the
 * articles can teach, and `train` refuses and recommends a lower rank.
 */
const RANKS: Readonly<Record<string, number>> = { '8': 4, '2': 4, '1': 1 }
const RANK = 4
const ROOT = resolve(import.meta.dirname, '../../..')

export interface UtilityOptions {
  readonly steps?: number | undefined
  /** Expected number of documents of a step. */
  readonly batch?: number | undefined
  readonly rank?: number | undefined
  readonly say: (line: string) => void
}

/** A composition of the experts that were trained with one epsilon. */
export interface Composition {
  readonly bits: Bits
  readonly experts: number
  /** Why a domain has no expert. */
  readonly refused: Readonly<Partial<Record<Domain, string>>>
}

export interface Utility {
  readonly publicModel: Bits
  /** By epsilon, in the order asked for; `none` is always among them. */
  readonly compositions: ReadonlyMap<string, Composition>
}

/** Share of the gain without a guarantee that a composition keeps, by the mean over all sets. */
export function keptGain({ publicModel, compositions }: Utility, epsilon: string): number {
  const gain = (name: string): number =>
    publicModel.macro - (compositions.get(name) as Composition).bits.macro
  return gain(epsilon) / gain(NONE)
}

/** The public model, the engine and the folder of the trainings. */
export async function utilityWorkplace(work: string): Promise<OwnerWorkplace> {
  const publicModel = await loadPublicModel(join(ROOT, 'models/small'))
  return { engine: onnxEngine(), publicModel, training: resolve(work) }
}

export const trainingName = (domain: Domain, epsilon: string): string => `${domain}-${epsilon}`

/** Train what is missing and score the compositions. */
export async function measureUtility(
  workplace: OwnerWorkplace,
  epsilons: readonly string[],
  options: UtilityOptions,
  signal: AbortSignal,
): Promise<Utility> {
  const { publicModel: model, training } = workplace
  for (const domain of NAMES) await train(workplace, domain, NONE, options, signal)
  const texts = new Map<string, readonly HeldOutDocument[]>()
  for (const domain of NAMES) texts.set(domain, await ownHeldOut(model, training, trainingName(domain, NONE)))
  texts.set('public', await publicHeldOut(model, training, signal))
  const compositions = new Map<string, Composition>()
  let alone: Bits | undefined
  for (const epsilon of new Set([NONE, ...epsilons])) {
    const experts: Expert[] = []
    const refused: Partial<Record<Domain, string>> = {}
    for (const domain of NAMES) {
      const reason = await train(workplace, domain, epsilon, options, signal)
      if (reason !== undefined) refused[domain] = reason
      else {
        const { expert } = await loadTrained(model, training, trainingName(domain, epsilon))
        experts.push({ ...expert, statistics: undefined })
      }
    }
    const [bits, before] = await score(workplace, experts, texts, signal)
    alone ??= before
    compositions.set(epsilon, { bits, experts: experts.length, refused })
  }
  return { publicModel: alone as Bits, compositions }
}

/** Train the expert of a domain unless it was. @returns the reason if its text is too small for the epsilon. */
async function train(
  { engine, publicModel, training }: OwnerWorkplace,
  domain: Domain,
  epsilon: string,
  { steps, batch, rank, say }: UtilityOptions,
  signal: AbortSignal,
): Promise<string | undefined> {
  const name = trainingName(domain, epsilon)
  if ((await finishedTrainings(training)).includes(name)) return undefined
  const common = { name, paths: [await textOf(domain, training)], accumulate: 1, seed: 1, canaries: 0 }
  const request =
    epsilon === NONE
      ? { ...common, steps: STEPS }
      : {
          ...common,
          steps: steps ?? PRIVATE.steps,
          rank: rank ?? RANKS[epsilon] ?? RANK,
          privacy: { unit: 'document' as const, epsilon: Number(epsilon), batch: batch ?? PRIVATE.batch },
        }
  const started = performance.now()
  try {
    for await (const event of trainExpert(engine, publicModel, training, request, signal)) {
      if (event.stage === 'privacy') say(`${name}: ${JSON.stringify(event)}`)
      if (event.stage !== 'step') continue
      const seconds = Math.round((performance.now() - started) / 1000)
      say(`${name}: step ${event.step} of ${event.totalSteps}, ${seconds} s, loss ${event.loss.toFixed(3)}`)
    }
    return undefined
  } catch (error) {
    if (error instanceof InputError && error.code === 'too-small') return error.message
    throw error
  }
}

/** Path of the text of a domain. */
async function textOf(domain: Domain, work: string): Promise<string> {
  const folder = join(ROOT, 'examples', DOMAINS[domain], 'text')
  if (domain !== 'law') return folder
  const articles: string[] = []
  for (const file of (await readdir(folder)).sort()) {
    articles.push(...(await readFile(join(folder, file), 'utf8')).split(/^(?=Article )/m))
  }
  const lines = articles
    .map((article) => article.trim())
    .filter((article) => article !== '')
    .map((text) => JSON.stringify({ text }))
  const path = join(work, 'articles.jsonl')
  await mkdir(work, { recursive: true })
  await writeFileAtomic(path, `${lines.join('\n')}\n`)
  return path
}

/** Bits per byte of the composition of some experts, and of the public model alone. */
async function score(
  { engine, publicModel }: Pick<OwnerWorkplace, 'engine'> & { readonly publicModel: PublicModel },
  experts: readonly Expert[],
  texts: ReadonlyMap<string, readonly HeldOutDocument[]>,
  signal: AbortSignal,
): Promise<[Bits, Bits]> {
  const { config, weights, tokenizer } = publicModel
  const E = experts.length + 1
  const mixture = mixtureWeights(config, weights, zeroRows(config), experts)
  const init = { E, topK: Math.min(E, DEFAULT_TOP_K), endOfText: tokenizer.endOfText }
  const evaluator = createEvaluator(engine, config, mixture, init)
  const routings = [{ mask: new Float32Array(E) }, { mask: new Float32Array(E).fill(LEFT_OUT, 1) }]
  try {
    const sets = [...texts.values()].map((documents) => ({ documents, routings }))
    const scores = await evaluator.evaluateAll(sets, { signal })
    const bitsOf = (routing: number): Bits => {
      const all = scores.map((of) => of[routing]?.bitsPerByte ?? Number.NaN)
      const macro = all.reduce((sum, bits) => sum + bits, 0) / all.length
      return { ...Object.fromEntries(SETS.map((set, i) => [set, all[i]])), macro } as Bits
    }
    return [bitsOf(0), bitsOf(1)]
  } finally {
    await evaluator.dispose()
  }
}
