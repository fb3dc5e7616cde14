/**
 * `flexmesh train`: trains an expert beside the public model on an owner's text and keeps it in the home folder. Can
 * be interrupted at any moment; the next run resumes from the last checkpoint. Knows nothing about packages.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { Corpus } from '../data/corpus.ts'
import { type CorpusWarning, corpusWarnings } from '../data/corpus-warnings.ts'
import type { PrepareProgress } from '../data/prepare-progress.ts'
import { windowSampler } from '../data/token-file.ts'
import { ensurePrivateDir, pathExists } from '../lib/files.ts'
import { reportingUntilStopped } from '../lib/reporting.ts'
import type { ModelConfig } from '../model/config.ts'
import { zeroRows } from '../model/params.ts'
import type { DpParameters } from '../privacy/mechanism.ts'
import type { PrivacyRequest } from '../privacy/private-plan.ts'
import type { Engine } from '../tensor/engine.ts'
import { releasedExpert } from '../training/pair.ts'
import { EMBEDDING_WINDOW, embedForRouter, type RouterEmbedding } from '../training/router-embedding.ts'
import type { StepReport } from '../training/train.ts'
import type { TrainingPlan } from '../training/training-plan.ts'
import { type Calibrated, calibrate } from './calibrate.ts'
import { SCORED_BYTES } from './held-out.ts'
import { type PrivateRun, privateRun } from './private-run.ts'
import { begunPrivacy, settle } from './private-text.ts'
import { openReplay } from './replay.ts'
import { settleTraining, spendTraining } from './spend-training.ts'
import { ownStatistics, publicStatistics, unitStatistics } from './statistics.ts'
import { TRAIN_DEFAULTS } from './train-defaults.ts'
import { planOf } from './train-plan.ts'
import { type StepCost, trainSteps } from './train-steps.ts'
import {
  loadConstantRows,
  saveConstantRows,
  saveExpert,
  saveResult,
  type TrainingDirs,
  type TrainResult,
  trainingDirs,
} from './training-folder.ts'
import { amountOf, openOrPrepare, ownTokensRead, publicRowsOf } from './training-text.ts'

export interface TrainRequest {
  readonly name: string
  /** Files and folders with text; empty resumes on the text that an earlier run prepared. */
  readonly paths: readonly string[]
  /** Column of tables, or member of JSON objects, that holds the text; default `text`. */
  readonly column?: string | undefined
  /** Default: `TRAIN_DEFAULTS.steps`, with privacy `privateSteps`; a private training keeps its number. */
  readonly steps: number | undefined
  /** Micro-batches of B rows per step: a larger batch in the same memory. */
  readonly accumulate: number
  /**
   * Rank of the trained difference from the public FFN; 0 trains a whole FFN. Undefined: the rank with which the
   * training was begun, or as `planTraining` chooses.
   */
  readonly rank?: number | undefined
  /** Bytes of memory that the training may take; undefined: `defaultMemoryBudget`. */
  readonly memory?: number | undefined
  /** Guarantee for the units of the text; undefined: that with which the training was begun, or none. */
  readonly privacy?: PrivacyRequest | undefined
  /** Number of canaries among which an audit guesses; undefined: as `defaultCanaries`. */
  readonly canaries?: number | undefined
  readonly seed: number
}

/** Work before the first step and after the last one, beside reading and tokenizing. */
export type TrainPhase = 'public-text' | 'router-rows' | 'compile' | 'first-step' | 'score'

export interface PhaseEvent {
  readonly stage: 'phase'
  readonly phase: TrainPhase
  /** Share of the phase that is done, 0 to 1; absent if it does not count its work. */
  readonly share?: number
}

/** Progress before the first step. */
export type StartEvent = PrepareProgress | PhaseEvent

export type TrainEvent =
  | StartEvent
  /** `tokensRead`: number of tokens of own text that the steps read. */
  | { readonly stage: 'prepared'; readonly stats: Corpus['stats']; readonly tokensRead: number }
  | ({ readonly stage: 'warning' } & CorpusWarning)
  | ({ readonly stage: 'plan' } & TrainingPlan)
  /** Before the first step of a private training. */
  | ({ readonly stage: 'privacy' } & DpParameters)
  | ({ readonly stage: 'forecast' } & StepCost & { readonly secondsLeft: number })
  | ({ readonly stage: 'step' } & StepReport)
  | { readonly stage: 'done'; readonly result: TrainResult }

/** What training starts from: the text, and router rows computed from it. */
export interface PairStart {
  readonly corpus: Corpus
  readonly replay: Corpus
  readonly embedding: RouterEmbedding
  /**
   * The batch of a step: `rows` windows of T + 1 token ids each, those of public text first. The number of public
   * rows is `rows` times `TRAIN_DEFAULTS.replayShare`, rounded. A pure function of `step` and `rows`.
   */
  batch(step: number, rows: number): Promise<Int32Array[]>
  /** `count` windows of T + 1 ids of public text. A pure function of `step` and `count`. */
  publicWindows(step: number, count: number): Promise<Int32Array[]>
  /** Close the text. */
  close(): Promise<void>
}

/** What `startPair` needs to know of a training. */
export type PairRequest = Pick<TrainRequest, 'name' | 'paths' | 'column' | 'seed'> & {
  /** Maximum number of bytes of own text that are turned into tokens; default all. */
  readonly maxTrainBytes?: number | undefined
  /**
   * Whether nothing but the gradients may depend on the own text (`PrepareInit.independent`): router rows then start
   * from zero, and constant rows from public text.
   */
  readonly independent?: boolean | undefined
  /** Router rows that an earlier run has computed; default: they are computed. */
  readonly embedding?: RouterEmbedding | undefined
}

/**
 * Open or prepare the text of a training and compute its first router rows. The caller has claimed the training's
 * folder.
 * @throws InputError of `prepareCorpus`; `exists` if the training was begun on other text; `not-found` without text.
 */
export async function startPair(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  request: PairRequest,
  signal: AbortSignal,
  report: (event: StartEvent) => void = () => undefined,
): Promise<PairStart> {
  const dirs = trainingDirs(trainingRoot, request.name)
  const opened: Corpus[] = []
  const close = async (): Promise<void> => {
    await Promise.all(opened.map((text) => text.close()))
  }
  try {
    await ensurePrivateDir(dirs.dir)
    const corpus = await openOrPrepare(model, dirs.corpus, request, signal, report)
    opened.push(corpus)
    report({ stage: 'phase', phase: 'public-text' })
    const replay = await openReplay(model, trainingRoot, signal)
    opened.push(replay)
    const { T } = TRAIN_DEFAULTS
    const own = windowSampler(corpus.train, T + 1, request.seed)
    const shared = windowSampler(replay.train, T + 1, request.seed + 1)
    const windows = async (sampler: typeof own, from = 0): Promise<Int32Array[]> => {
      const indexes = Array.from({ length: TRAIN_DEFAULTS.embeddingWindows }, (_, i) => -1 - from - i)
      const all = await Promise.all(indexes.map((index) => sampler(index)))
      return all.map((window) => window.subarray(0, EMBEDDING_WINDOW))
    }
    if (request.embedding === undefined) report({ stage: 'phase', phase: 'router-rows' })
    const embed = async (): Promise<RouterEmbedding> => {
      const source = {
        own: await (request.independent === true
          ? windows(shared, TRAIN_DEFAULTS.embeddingWindows)
          : windows(own)),
        public: await windows(shared),
      }
      const embedding = await embedForRouter(engine, model.config, model.weights, source, {
        signal,
        onProgress: (share) => report({ stage: 'phase', phase: 'router-rows', share }),
      })
      return request.independent === true ? { ...embedding, rows: zeroRows(model.config) } : embedding
    }
    const embedding = request.embedding ?? (await embed())
    return {
      corpus,
      replay,
      embedding,
      publicWindows: (step, count) =>
        Promise.all(Array.from({ length: count }, (_, i) => shared(step * count + i))),
      batch: (step, rows) => {
        const publicRows = publicRowsOf(rows)
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

/**
 * Train an expert and score it. Each step computes `accumulate` times B rows of T + 1 token ids (B and T of
 * `TRAIN_DEFAULTS`), as many rows at once as its plan says: ids are the first T of each row, labels the last T.
 * @throws InputError as `startPair`; as `planOf`; `mismatch` for a checkpoint of another rank. The reason of `signal`.
 */
export async function* trainExpert(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  asked: TrainRequest,
  signal: AbortSignal,
): AsyncGenerator<TrainEvent, void, void> {
  const { config } = model
  const dirs = trainingDirs(trainingRoot, asked.name)
  const request = await settle(dirs, asked)
  const plan = await planOf(config, dirs, request)
  const known = await begunEmbedding(config, dirs)
  const start = yield* reportingUntilStopped<StartEvent, PairStart>(
    (report, stop) =>
      startPair(
        engine,
        model,
        trainingRoot,
        { ...request, ...amountOf(request), embedding: known },
        AbortSignal.any([signal, stop]),
        report,
      ),
    (started) => started.close(),
  )
  let isFinished = false
  let run: PrivateRun | undefined
  try {
    const { corpus, embedding } = start
    run = await privateRun(config, dirs, request, plan, start)
    const tokensRead = run === undefined ? ownTokensRead(request) : run.tokensRead
    await spendTraining(model, trainingRoot, request.name, corpus, run?.parameters, signal)
    yield { stage: 'prepared', stats: corpus.stats, tokensRead }
    // More steps of a private training need more noise, so it is not told to read all of its text.
    const tokens = run === undefined ? tokensRead : corpus.stats.train.tokens
    const warnings = corpusWarnings(corpus.stats, { steps: request.steps, tokens })
    for (const warning of warnings) yield { stage: 'warning', ...warning }
    // Kept before the first step, so that a run that continues this one does not compute them again.
    if (known === undefined) await saveConstantRows(dirs, embedding.constantRows)
    yield { stage: 'plan', ...plan }
    const { trainables, cost } = yield* trainSteps(engine, model, start, dirs, request, plan, run, signal)
    signal.throwIfAborted()
    yield { stage: 'phase', phase: 'score' }
    const privacy = run === undefined ? undefined : await begunPrivacy(dirs)
    const own = await (run === undefined
      ? ownStatistics(model, corpus)
      : unitStatistics(model, corpus, run.units))
    const trained = {
      ...releasedExpert(config, trainables, embedding.constantRows),
      // Calibration would depend on exact statistics, which are outside of a guarantee.
      statistics: privacy === undefined ? own?.statistics : undefined,
    }
    const texts = {
      own: await corpus.heldOut(SCORED_BYTES),
      public: await start.replay.heldOut(SCORED_BYTES),
    }
    const { constantRows } = embedding
    const { expert, calibration, score } = yield* reportingUntilStopped<TrainEvent, Calibrated>(
      (report, stop) =>
        calibrate(
          {
            engine,
            model,
            constantRows,
            publicStatistics: () => publicStatistics(model, trainingRoot, signal),
            texts,
            signal: AbortSignal.any([signal, stop]),
            onProgress: (share) => report({ stage: 'phase', phase: 'score', share }),
          },
          trained,
        ),
    )
    const result: TrainResult = {
      name: request.name,
      steps: request.steps,
      tokens: corpus.stats.train.tokens,
      documents: corpus.stats.train.documents,
      replayShareMilli: Math.round(TRAIN_DEFAULTS.replayShare * 1000),
      statisticsDocuments: own?.documents ?? 0,
      ...(privacy === undefined ? {} : { statisticsPerUnit: 1 }),
      rank: plan.rank,
      ...score,
      ...(calibration === undefined ? {} : { calibration }),
      ...(warnings.length === 0 ? {} : { warnings }),
      reading: corpus.stats.reading,
      ...(privacy === undefined ? {} : { privacy }),
    }
    await saveExpert(config, dirs, { ...expert, statistics: own?.statistics })
    await saveResult(dirs, result)
    isFinished = true
    yield {
      stage: 'done',
      result: { ...result, ...(cost === undefined ? {} : { cost: { plannedBytes: plan.bytes, ...cost } }) },
    }
  } finally {
    await start.close()
    if (run !== undefined && !isFinished) await settleTraining(trainingRoot, request.name)
  }
}

/**
 * What an earlier run has computed of the router rows, if it has a checkpoint: the constant rows. The checkpoint holds
 * the trained rows, so the initial ones are not needed.
 */
async function begunEmbedding(config: ModelConfig, dirs: TrainingDirs): Promise<RouterEmbedding | undefined> {
  if (!(await pathExists(dirs.checkpoint))) return undefined
  const constantRows = await loadConstantRows(dirs, config)
  return constantRows && { rows: zeroRows(config), constantRows }
}
