/**
 * `flexmesh train`: an owner's text and the public model in, a trained expert in the home folder out.
 * Interruptible at any moment and resumed from its last checkpoint.
 */
import { join } from 'node:path'
import { checkpointFile } from '../checkpoint/checkpoint-file.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { type Corpus, openCorpus, prepareCorpus } from '../data/corpus.ts'
import { type CorpusWarning, corpusWarnings } from '../data/corpus-warnings.ts'
import { windowSampler } from '../data/token-file.ts'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir, pathExists } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { checkRank } from '../model/low-rank.ts'
import { zeroRows } from '../model/params.ts'
import type { Engine } from '../tensor/engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../training/optimizer.ts'
import { compilePairStep, initialTrainables, releasedExpert } from '../training/pair.ts'
import { EMBEDDING_WINDOW, embedForRouter, type RouterEmbedding } from '../training/router-embedding.ts'
import { peakLearningRate } from '../training/schedule.ts'
import { type StepReport, train } from '../training/train.ts'
import { pairScores } from './score.ts'
import { ownStatistics } from './statistics.ts'
import { openReplay, saveExpert, saveResult, type TrainResult, trainingDirs } from './training-folder.ts'

export interface TrainRequest {
  readonly name: string
  /** Files and folders; none resumes on the text prepared before. */
  readonly paths: readonly string[]
  readonly steps: number
  /** Micro-batches of B rows a step; the batch grows, memory does not. */
  readonly accumulate: number
  /** Of the difference from the public FFN that is trained; 0 trains a whole FFN. */
  readonly rank: number
  readonly seed: number
}

/** Chosen by rows of the table in scripts/paper/README.md: gate, replay-0.5-gate, hidden-start-gate. */
export const TRAIN_DEFAULTS = {
  steps: 200,
  accumulate: 1,
  rank: 0,
  /** Rows of a micro-batch and tokens of a row. */
  B: 8,
  T: 128,
  /** Share of rows that are public text. */
  replayShare: 0.25,
  warmupSteps: 10,
  checkpointEvery: 50,
  /** Held-out text scored before and after, bytes. */
  evaluationBytes: 32_768,
  embeddingWindows: 128,
} as const

export type TrainEvent =
  | { readonly stage: 'data'; readonly documents: number; readonly bytes: number }
  | { readonly stage: 'prepared'; readonly stats: Corpus['stats'] }
  | ({ readonly stage: 'warning' } & CorpusWarning)
  | ({ readonly stage: 'step' } & StepReport)
  | { readonly stage: 'done'; readonly result: TrainResult }

/** Everything that training starts from: text, and router rows made from it. */
export interface PairStart {
  readonly corpus: Corpus
  readonly replay: Corpus
  readonly embedding: RouterEmbedding
  /** Rows of a step: `b` of the batch, public text first. */
  batch(step: number, rows: number): Promise<Int32Array[]>
  close(): Promise<void>
}

/** @throws InputError of `prepareCorpus`, `exists`, `not-found`. */
export async function startPair(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  request: Pick<TrainRequest, 'name' | 'paths' | 'seed'>,
  signal: AbortSignal,
): Promise<PairStart> {
  const dirs = trainingDirs(trainingRoot, request.name)
  await ensurePrivateDir(dirs.dir)
  const corpus = await openOrPrepare(model, dirs.corpus, request, signal)
  const replay = await openReplay(model, trainingRoot, signal)
  const close = async (): Promise<void> => void (await Promise.all([corpus.close(), replay.close()]))
  try {
    const { T } = TRAIN_DEFAULTS
    const own = windowSampler(corpus.train, T + 1, request.seed)
    const shared = windowSampler(replay.train, T + 1, request.seed + 1)
    const windows = async (sampler: typeof own): Promise<Int32Array[]> => {
      const indexes = Array.from({ length: TRAIN_DEFAULTS.embeddingWindows }, (_, i) => -1 - i)
      const all = await Promise.all(indexes.map((index) => sampler(index)))
      return all.map((window) => window.subarray(0, EMBEDDING_WINDOW))
    }
    const embedding = await embedForRouter(engine, model.config, model.params, {
      own: await windows(own),
      public: await windows(shared),
    })
    return {
      corpus,
      replay,
      embedding,
      batch: (step, rows) => {
        const publicRows = Math.round(rows * TRAIN_DEFAULTS.replayShare)
        return Promise.all(
          Array.from({ length: rows }, (_, b) => (b < publicRows ? shared : own)(step * rows + b)),
        )
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

export async function* trainExpert(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  request: TrainRequest,
  signal: AbortSignal,
): AsyncGenerator<TrainEvent, void, void> {
  const { config, params } = model
  const dirs = trainingDirs(trainingRoot, request.name)
  const { rank } = request
  checkRank(config, rank)
  const start = await startPair(engine, model, trainingRoot, request, signal)
  try {
    const { corpus, embedding } = start
    yield { stage: 'prepared', stats: corpus.stats }
    const warnings = corpusWarnings(corpus.stats)
    for (const warning of warnings) yield { stage: 'warning', ...warning }
    const { B, T } = TRAIN_DEFAULTS
    const trainables = initialTrainables(config, params, embedding.rows, { rank })
    const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
    const compiled = await compilePairStep(engine, config, params, zeroRows(config), B, T, { rank })
    try {
      const steps = train({
        compiled,
        trainables,
        optimizer,
        schedule: {
          peak: peakLearningRate(config.hiddenSize),
          warmupSteps: TRAIN_DEFAULTS.warmupSteps,
          totalSteps: request.steps,
        },
        batches: (step) => start.batch(step, B * request.accumulate),
        accumulate: request.accumulate,
        checkpoints: checkpointFile(dirs.checkpoint),
        checkpointEvery: TRAIN_DEFAULTS.checkpointEvery,
        signal,
        clock: () => performance.now(),
      })
      for await (const report of steps) yield { stage: 'step', ...report }
    } finally {
      await compiled.dispose()
    }
    signal.throwIfAborted()
    const own = await ownStatistics(model, corpus)
    const expert = {
      ...releasedExpert(config, trainables, embedding.constantRows),
      statistics: own?.statistics,
    }
    const score = await pairScores(engine, model, expert, {
      own: await corpus.heldOut(TRAIN_DEFAULTS.evaluationBytes),
      public: await start.replay.heldOut(TRAIN_DEFAULTS.evaluationBytes),
    })
    const result: TrainResult = {
      name: request.name,
      steps: request.steps,
      tokens: corpus.stats.train.tokens,
      documents: corpus.stats.train.documents,
      replayShareMilli: Math.round(TRAIN_DEFAULTS.replayShare * 1000),
      statisticsDocuments: own?.documents ?? 0,
      ...score,
      ...(warnings.length === 0 ? {} : { warnings }),
    }
    await saveExpert(config, dirs, expert)
    await saveResult(dirs, result)
    yield { stage: 'done', result }
  } finally {
    await start.close()
  }
}

async function openOrPrepare(
  model: PublicModel,
  outDir: string,
  request: Pick<TrainRequest, 'name' | 'paths'>,
  signal: AbortSignal,
): Promise<Corpus> {
  if (await pathExists(join(outDir, 'corpus.json'))) {
    const corpus = await openCorpus(outDir, model.tokenizer)
    if (request.paths.length === 0 || request.paths.join('\n') === corpus.paths.join('\n')) return corpus
    await corpus.close()
    throw new InputError(
      'exists',
      `training ${request.name} was begun on ${corpus.paths.join(', ')}; leave out --data to go on with it, or choose another --name`,
    )
  }
  if (request.paths.length === 0) {
    throw new InputError(
      'not-found',
      `no training named ${request.name} was begun; give its text with --data`,
    )
  }
  return prepareCorpus({
    paths: request.paths,
    tokenizer: model.tokenizer,
    outDir,
    minTrainTokens: limit('trainTokens'),
    signal,
  })
}
