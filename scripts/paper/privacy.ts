/**
 * `npx tsx scripts/paper/privacy.ts [--work DIR] [--steps N] [--batch B] [--epsilon E]...`: what differential privacy
 * costs. Trains the experts of the three example institutions without a guarantee and with several values of epsilon,
 * and prints the bits per byte of each composition on the held-out text of every domain. Trainings stay in DIR, so an
 * interrupted run resumes. The units are documents.
 */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { loadPublicModel, type PublicModel } from '../../src/checkpoint/public-model.ts'
import { DEFAULT_TOP_K } from '../../src/composition/compose.ts'
import { InputError } from '../../src/lib/errors.ts'
import { createEvaluator, type HeldOutDocument } from '../../src/model/evaluate.ts'
import { type Expert, mixtureWeights, zeroRows } from '../../src/model/params.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import { ownHeldOut, publicHeldOut } from '../../src/owner/held-out.ts'
import { trainExpert } from '../../src/owner/train-expert.ts'
import { finishedTrainings, loadTrained } from '../../src/owner/training-folder.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'

const DOMAINS = { biomedicine: 'hospital', law: 'archive', theorems: 'university' } as const
type Domain = keyof typeof DOMAINS
const NAMES = Object.keys(DOMAINS) as Domain[]
const SETS = [...NAMES, 'public'] as const
const ROOT = resolve(import.meta.dirname, '../..')
const NONE = 'none'

interface Options {
  readonly work: string
  /** Steps and expected units of a step of private trainings; default: those of `flexmesh train`. */
  readonly steps: number | undefined
  readonly batch: number | undefined
}

const { values } = parseArgs({
  options: {
    work: { type: 'string', default: '.bench/privacy' },
    steps: { type: 'string' },
    batch: { type: 'string' },
    epsilon: { type: 'string', multiple: true, default: [NONE, '8', '2', '1'] },
  },
})
const number = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Number(text)
const options: Options = {
  work: resolve(values.work),
  steps: number(values.steps),
  batch: number(values.batch),
}
const signal = new AbortController().signal
const model = await loadPublicModel(resolve(ROOT, 'models/small'))
const engine = onnxEngine()

/** Train the expert of a domain unless it was. @returns the reason if its text is too small for the epsilon. */
async function train(domain: Domain, epsilon: string): Promise<string | undefined> {
  const name = `${domain}-${epsilon}`
  if ((await finishedTrainings(options.work)).includes(name)) return undefined
  const isPrivate = epsilon !== NONE
  const request = {
    name,
    paths: [resolve(ROOT, 'examples', DOMAINS[domain], 'text')],
    // The demo's steps without a guarantee.
    steps: isPrivate ? options.steps : 100,
    accumulate: 1,
    seed: 1,
    ...(isPrivate
      ? { privacy: { unit: 'document' as const, epsilon: Number(epsilon), batch: options.batch } }
      : {}),
  }
  const started = performance.now()
  try {
    for await (const event of trainExpert(engine, model, options.work, request, signal)) {
      if (event.stage === 'privacy') console.error(`${name}: ${JSON.stringify(event)}`)
      if (event.stage !== 'step') continue
      const seconds = Math.round((performance.now() - started) / 1000)
      console.error(
        `${name}: step ${event.step} of ${event.totalSteps}, ${seconds} s, loss ${event.loss.toFixed(3)}`,
      )
    }
    return undefined
  } catch (error) {
    if (error instanceof InputError && error.code === 'too-small') return error.message
    throw error
  }
}

/** Bits per byte of mixtures of the public model and experts on every set, by mask: which of the experts are in use. */
async function score(
  publicModel: PublicModel,
  tensorEngine: Engine,
  experts: readonly Expert[],
  texts: ReadonlyMap<string, readonly HeldOutDocument[]>,
): Promise<Map<string, number[]>> {
  const { config, weights, tokenizer } = publicModel
  const E = experts.length + 1
  const mixture = mixtureWeights(config, weights, zeroRows(config), experts)
  const init = { E, topK: Math.min(E, DEFAULT_TOP_K), endOfText: tokenizer.endOfText }
  const evaluator = createEvaluator(tensorEngine, config, mixture, init)
  const publicAlone = new Float32Array(E).fill(LEFT_OUT, 1)
  const routings = [{ mask: new Float32Array(E) }, { mask: publicAlone }]
  try {
    const sets = [...texts]
    const scores = await evaluator.evaluateAll(
      sets.map(([, documents]) => ({ documents, routings })),
      { signal },
    )
    return new Map(sets.map(([set], i) => [set, (scores[i] ?? []).map(({ bitsPerByte }) => bitsPerByte)]))
  } finally {
    await evaluator.dispose()
  }
}

const mean = (bits: readonly number[]): number => bits.reduce((sum, x) => sum + x, 0) / bits.length
const line = (title: string, bits: readonly number[], note = ''): void =>
  console.log(`| ${[title, ...[...bits, mean(bits)].map((x) => x.toFixed(3)), note].join(' | ')} |`)

for (const domain of NAMES) await train(domain, NONE)
const texts = new Map<string, readonly HeldOutDocument[]>()
for (const domain of NAMES) texts.set(domain, await ownHeldOut(model, options.work, `${domain}-${NONE}`))
texts.set('public', await publicHeldOut(model, options.work, signal))
console.log(`| composition by rows | ${SETS.join(' | ')} | macro | experts |`)
console.log(`| --- |${' ---: |'.repeat(SETS.length + 1)} --- |`)
for (const [index, epsilon] of [...new Set([NONE, ...values.epsilon])].entries()) {
  const experts: Expert[] = []
  const missing: string[] = []
  for (const domain of NAMES) {
    const reason = await train(domain, epsilon)
    if (reason !== undefined) missing.push(`${domain}: ${reason.split(':')[0]}`)
    else
      experts.push({
        ...(await loadTrained(model, options.work, `${domain}-${epsilon}`)).expert,
        statistics: undefined,
      })
  }
  const scores = await score(model, engine, experts, texts)
  const of = (routing: number): number[] => SETS.map((set) => scores.get(set)?.[routing] as number)
  if (index === 0) line('public model', of(1))
  line(
    epsilon === NONE ? 'no guarantee' : `epsilon ${epsilon}`,
    of(0),
    missing.join('; ') || String(experts.length),
  )
}
