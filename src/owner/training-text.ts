/**
 * The text of a training: how much of it is needed, and its preparation, which an interrupted training does not repeat.
 * Does not know how the text is trained on.
 */
import { join } from 'node:path'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { type Corpus, openCorpus, type SideStats } from '../data/corpus.ts'
import { type PrepareInit, prepareCorpus } from '../data/prepare-corpus.ts'
import type { PrepareProgress } from '../data/prepare-progress.ts'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir, pathExists } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { reporting } from '../lib/reporting.ts'
import type { Engine } from '../tensor/engine.ts'
import { checkCanaries, hideInText } from './canary-file.ts'
import { type SettledRequest, settle } from './private-text.ts'
import { requireNoLimit } from './spend-training.ts'
import { TRAIN_DEFAULTS } from './train-defaults.ts'
import type { PairRequest, TrainRequest } from './train-expert.ts'
import { planOf } from './train-plan.ts'
import { trainingDirs } from './training-folder.ts'

/**
 * Prepare the text of a training, unless an earlier run did. The training then only opens it. As a job of its own, it
 * gives back the memory that reading and tokenizing take before the training needs it.
 * @throws InputError as `trainExpert` before its first step.
 */
export async function* prepareText(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  asked: TrainRequest,
  signal: AbortSignal,
): AsyncGenerator<PrepareProgress, void, void> {
  const dirs = trainingDirs(trainingRoot, asked.name)
  const request = await settle(dirs, asked)
  // What does not fit is refused before hours of reading.
  await planOf(model.config, dirs, request)
  if (request.privacy === undefined) await requireNoLimit(trainingRoot, request.name)
  await ensurePrivateDir(dirs.dir)
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  // A number that is chosen from the size of the text would be a figure of it outside of the guarantee.
  const canaries = request.privacy === undefined ? request.canaries : (request.canaries ?? 0)
  const append = (text: SideStats): Promise<Int32Array[]> =>
    hideInText(engine, model, dirs, canaries, text, either)
  const prepared = { ...request, ...amountOf(request), append }
  let preparing: Promise<void> | undefined
  try {
    yield* reporting<PrepareProgress, void>((report) => {
      preparing = openOrPrepare(model, dirs.corpus, prepared, either, report).then((corpus) => corpus.close())
      return preparing
    })
    await checkCanaries(dirs, request.name, request.canaries)
  } finally {
    stop.abort() // Has an effect only if the caller has left the iteration.
    await preparing?.catch(() => undefined)
  }
}

/** Number of rows of public text among the rows of a batch. */
export function publicRowsOf(rows: number): number {
  return Math.round(rows * TRAIN_DEFAULTS.replayShare)
}

/** How much of its text a training prepares, and how. */
export function amountOf(request: SettledRequest): Pick<PairRequest, 'maxTrainBytes' | 'independent'> {
  return request.privacy === undefined
    ? { maxTrainBytes: sampleBytes(ownTokensRead(request)) }
    : { independent: true }
}

/** Number of tokens of own text that all steps read together, without differential privacy. */
export function ownTokensRead({ steps, accumulate }: SettledRequest): number {
  const rows = TRAIN_DEFAULTS.B * accumulate
  return steps * (rows - publicRowsOf(rows)) * TRAIN_DEFAULTS.T
}

/**
 * Bytes of own text that are enough for a number of tokens: several times as many, so that hardly any window is read
 * twice. Undefined, which means all text, if the sample would not fit into memory.
 */
function sampleBytes(tokens: number): number | undefined {
  const bytes = Math.max(limit('sampledTrainBytes'), SAMPLE_FACTOR * BYTES_PER_TOKEN * tokens)
  return bytes <= limit('sampledTrainBytesInMemory') ? bytes : undefined
}
const SAMPLE_FACTOR = 4
/** English has about 3.3 bytes per token with 4096 tokens, and more with larger vocabularies. */
const BYTES_PER_TOKEN = 4

/** The corpus that an earlier run prepared, if it is of the same paths and column; else a new one. */
export async function openOrPrepare(
  model: PublicModel,
  outDir: string,
  request: Omit<PairRequest, 'seed'> & Pick<PrepareInit, 'append'>,
  signal: AbortSignal,
  onProgress: (progress: PrepareProgress) => void,
): Promise<Corpus> {
  if (await pathExists(join(outDir, 'corpus.json'))) {
    const corpus = await openCorpus(outDir, model.tokenizer)
    const isSameText = request.paths.length === 0 || request.paths.join('\n') === corpus.paths.join('\n')
    const isSameColumn = request.column === undefined || request.column === corpus.column
    if (isSameText && isSameColumn) return corpus
    await corpus.close()
    const column = corpus.column === undefined ? '' : ` (column ${corpus.column})`
    throw new InputError(
      'exists',
      `training ${request.name} was begun on ${corpus.paths.join(', ')}${column}; leave out --data and --column to continue it, or choose another --name`,
    )
  }
  if (request.paths.length === 0) throw noTextGiven(request.name)
  return prepareCorpus({
    paths: request.paths,
    column: request.column,
    tokenizer: model.tokenizer,
    outDir,
    minTrainTokens: limit('trainTokens'),
    maxTrainBytes: request.maxTrainBytes,
    independent: request.independent,
    append: request.append,
    signal,
    onProgress,
  })
}

/** The refusal of a request that names no text for a training that was not begun. */
export function noTextGiven(name: string): InputError {
  return new InputError('not-found', `no training named ${name} was begun; give its text with --data`)
}
