/**
 * What trainings and publications spend of the account of privacy. Knows neither weights nor packages.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { type Corpus, openCorpus } from '../data/corpus.ts'
import { fromUtf8, toHex, utf8 } from '../lib/bytes.ts'
import { pathExists, readFileBounded } from '../lib/files.ts'
import type { DpParameters } from '../privacy/mechanism.ts'
import { type PlannedSpending, PrivacyBudget } from './budget.ts'
import { createOnce } from './budget-log.ts'
import type { TextSet } from './budget-texts.ts'
import { checkpointFile } from './checkpoint-file.ts'
import { type TrainingDirs, trainingDirs } from './training-folder.ts'

/** Holds the id of the run; removed with the training, so that one of the same name is another run. */
const RUN_FILE = 'run'
const RUN_BYTES = 16

/**
 * Spend what a training takes. Must be called before its first step; a run that continues it spends nothing again.
 * @param parameters undefined for a training without a guarantee, which spends nothing before it is published.
 * @throws InputError `over-budget`; nothing is spent.
 */
export async function spendTraining(
  model: Pick<PublicModel, 'tokenizer'>,
  trainingRoot: string,
  name: string,
  corpus: Pick<Corpus, 'train'>,
  parameters: Omit<DpParameters, 'clip'> | undefined,
  signal: AbortSignal,
): Promise<void> {
  const budget = new PrivacyBudget(trainingRoot)
  const run = await runOf(trainingDirs(trainingRoot, name))
  const texts = await budget.textsOf(corpus.train, model.tokenizer.endOfText, signal)
  const common = { training: name, by: 'training', run } as const
  if (parameters === undefined) {
    await requireNoLimit(trainingRoot, name)
    const purpose = 'training without a guarantee'
    await budget.spend(texts, { ...common, purpose, mechanisms: [], truncationDelta: 0 })
    return
  }
  const { noiseMultiplier, sampleRate, steps, truncationDelta, delta } = parameters
  await budget.spend(texts, {
    ...common,
    purpose: `training of ${steps} steps`,
    mechanisms: [{ noiseMultiplier, sampleRate, steps }],
    truncationDelta,
    delta,
  })
}

/**
 * Refuse a training without a guarantee if the operator has set a limit, which its publication would exceed.
 * @throws InputError `over-budget`.
 */
export async function requireNoLimit(trainingRoot: string, name: string): Promise<void> {
  const budget = new PrivacyBudget(trainingRoot)
  await budget.requireNoLimit(`training ${name} without a guarantee`, 'train with --epsilon')
}

/**
 * Settle a training that was stopped: it has spent the steps that its checkpoint holds. Later ones are lost with the
 * process.
 */
export async function settleTraining(trainingRoot: string, name: string): Promise<void> {
  const dirs = trainingDirs(trainingRoot, name)
  if (!(await pathExists(join(dirs.dir, RUN_FILE)))) return
  const checkpoint = await checkpointFile(dirs.checkpoint).load()
  await new PrivacyBudget(trainingRoot).settle(await runOf(dirs), checkpoint?.step ?? 0)
}

/** What a publication will spend; undefined if it spends nothing. */
export interface PublicationSpending {
  readonly texts: TextSet
  readonly planned: PlannedSpending
  /** What the owner can do instead. */
  readonly instead: string
}

/**
 * What the publication of a training spends, and from how many trainings it was chosen.
 * @param statisticsNoise noise of the router statistics relative to the maximum change by one unit; 0 without them.
 * @returns `spending` undefined if the text is not known here, or if the training has paid for all that is published.
 */
export async function publicationSpending(
  model: Pick<PublicModel, 'tokenizer'>,
  trainingRoot: string,
  name: string,
  parameters: DpParameters | undefined,
  statisticsNoise: number,
  signal: AbortSignal,
): Promise<{ readonly spending: PublicationSpending | undefined; readonly tunedRuns: number }> {
  const { corpus: folder } = trainingDirs(trainingRoot, name)
  if (!(await pathExists(join(folder, 'corpus.json')))) return { spending: undefined, tunedRuns: 1 }
  const budget = new PrivacyBudget(trainingRoot)
  const corpus = await openCorpus(folder, model.tokenizer)
  try {
    const texts = await budget.textsOf(corpus.train, model.tokenizer.endOfText, signal)
    const tunedRuns = Math.max(1, await budget.runsOn(texts))
    const common = { training: name, by: 'publication', run: newRun(), truncationDelta: 0 } as const
    if (parameters === undefined) {
      const purpose = 'publication without a guarantee'
      const planned = { ...common, purpose, mechanisms: undefined }
      return { spending: { texts, planned, instead: 'train it again with --epsilon' }, tunedRuns }
    }
    if (statisticsNoise === 0) return { spending: undefined, tunedRuns }
    const mechanisms = [{ noiseMultiplier: statisticsNoise, sampleRate: 1, steps: 1 }]
    const planned = { ...common, purpose: 'publication of router statistics', mechanisms }
    const instead = 'publish it with --router-statistics none or a lower --noise'
    return { spending: { texts, planned, instead }, tunedRuns }
  } finally {
    await corpus.close()
  }
}

async function runOf({ dir }: TrainingDirs): Promise<string> {
  const path = join(dir, RUN_FILE)
  if (!(await pathExists(path))) await createOnce(path, utf8(newRun()))
  return fromUtf8(await readFileBounded(path, 2 * RUN_BYTES))
}

function newRun(): string {
  return toHex(randomBytes(RUN_BYTES))
}
