/**
 * `flexmesh train`: an owner's text and the public model in, a trained expert in the home folder out.
 * Interruptible at any moment and resumed from its last checkpoint.
 */
import { join } from 'node:path'
import { type Corpus, openCorpus, prepareCorpus } from './data/corpus.ts'
import { windowSampler } from './data/token-file.ts'
import { fromUtf8 } from './lib/bytes.ts'
import { InputError } from './lib/errors.ts'
import { Fields } from './lib/fields.ts'
import { ensurePrivateDir, pathExists, readFileBounded, writeFileAtomic } from './lib/files.ts'
import { createEvaluator, type Evaluation, type HeldOutDocument } from './model/evaluate.ts'
import { type Expert, mixtureParams, zeroRows } from './model/params.ts'
import { LEFT_OUT } from './model/router.ts'
import { checkpointFile } from './packaging/checkpoint-file.ts'
import type { PublicModel } from './public-model.ts'
import type { Engine } from './tensor/engine.ts'
import { ADAMW_DEFAULTS, AdamW } from './training/optimizer.ts'
import { compilePairStep, initialTrainables, releasedExpert } from './training/pair.ts'
import { EMBEDDING_WINDOW, initialRouterRows } from './training/router-embedding.ts'
import { type StepReport, train } from './training/train.ts'

export interface TrainRequest {
  readonly name: string
  /** Files and folders; none resumes on the text prepared before. */
  readonly paths: readonly string[]
  readonly steps: number
  /** Micro-batches of B rows a step; the batch grows, memory does not. */
  readonly accumulate: number
  readonly seed: number
}

export const TRAIN_DEFAULTS = {
  steps: 200,
  accumulate: 1,
  /** Rows of a micro-batch and tokens of a row. */
  B: 8,
  T: 128,
  /** Share of rows that are public text. */
  replayShare: 0.5,
  peakLearningRate: 2e-3,
  warmupSteps: 10,
  checkpointEvery: 50,
  /** Held-out text scored before and after, bytes. */
  evaluationBytes: 32_768,
  embeddingWindows: 128,
} as const

export type TrainEvent =
  | { readonly stage: 'data'; readonly documents: number; readonly bytes: number }
  | { readonly stage: 'prepared'; readonly stats: Corpus['stats'] }
  | ({ readonly stage: 'step' } & StepReport)
  | { readonly stage: 'done'; readonly result: TrainResult }

/** What is kept of a run beside its checkpoint. */
export interface TrainResult {
  readonly name: string
  readonly steps: number
  readonly tokens: number
  readonly documents: number
  readonly own: { readonly before: number; readonly after: number }
  readonly public: { readonly before: number; readonly after: number }
}

export function trainingDirs(
  root: string,
  name: string,
): { dir: string; corpus: string; checkpoint: string; result: string } {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
    throw new InputError('usage', `--name: expected letters, digits, ".", "_" and "-", got "${name}"`)
  }
  const dir = join(root, name)
  return {
    dir,
    corpus: join(dir, 'corpus'),
    checkpoint: join(dir, 'checkpoint.safetensors'),
    result: join(dir, 'result.json'),
  }
}

export async function* trainExpert(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  request: TrainRequest,
  signal: AbortSignal,
): AsyncGenerator<TrainEvent, void, void> {
  const dirs = trainingDirs(trainingRoot, request.name)
  await ensurePrivateDir(dirs.dir)
  const corpus = await openOrPrepare(model, dirs.corpus, request, signal)
  const replay = await openReplay(model, join(trainingRoot, '.replay'), signal)
  try {
    yield { stage: 'prepared', stats: corpus.stats }
    const { B, T } = TRAIN_DEFAULTS
    const batchRows = B * request.accumulate
    const publicRowsOfBatch = Math.round(batchRows * TRAIN_DEFAULTS.replayShare)
    const own = windowSampler(corpus.train, T + 1, request.seed)
    const shared = windowSampler(replay.train, T + 1, request.seed + 1)
    const windows = (sampler: typeof own): Promise<Int32Array[]> =>
      Promise.all(Array.from({ length: TRAIN_DEFAULTS.embeddingWindows }, (_, i) => sampler(-1 - i)))
    const rows = await initialRouterRows(engine, model.config, model.params, {
      own: (await windows(own)).map((window) => window.subarray(0, EMBEDDING_WINDOW)),
      public: (await windows(shared)).map((window) => window.subarray(0, EMBEDDING_WINDOW)),
    })
    const trainables = initialTrainables(model.config, model.params, rows)
    const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
    const compiled = await compilePairStep(engine, model.config, model.params, zeroRows(model.config), B, T)
    try {
      const steps = train({
        compiled,
        trainables,
        optimizer,
        schedule: {
          peak: TRAIN_DEFAULTS.peakLearningRate,
          warmupSteps: TRAIN_DEFAULTS.warmupSteps,
          totalSteps: request.steps,
        },
        batches: (step) =>
          Promise.all(
            Array.from({ length: batchRows }, (_, b) =>
              b < publicRowsOfBatch ? shared(step * batchRows + b) : own(step * batchRows + b),
            ),
          ),
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
    const score = await pairScores(engine, model, releasedExpert(model.config, trainables), corpus, replay)
    const result: TrainResult = {
      name: request.name,
      steps: request.steps,
      tokens: corpus.stats.train.tokens,
      documents: corpus.stats.train.documents,
      ...score,
    }
    await writeFileAtomic(dirs.result, `${JSON.stringify(result, null, 2)}\n`)
    yield { stage: 'done', result }
  } finally {
    await corpus.close()
    await replay.close()
  }
}

/** The trained expert and what its run recorded. @throws InputError `not-found` before training ended. */
export async function loadTrained(
  model: PublicModel,
  trainingRoot: string,
  name: string,
): Promise<{ expert: Expert; result: TrainResult }> {
  const dirs = trainingDirs(trainingRoot, name)
  if (!(await pathExists(dirs.result))) {
    throw new InputError(
      'not-found',
      `no finished training named ${name}; run "flexmesh train --name ${name} --data PATH" first`,
    )
  }
  const checkpoint = await checkpointFile(dirs.checkpoint).load()
  const trainables = new Map([...(checkpoint?.arrays ?? [])].filter(([key]) => !/^[mv]\./.test(key)))
  return {
    expert: releasedExpert(model.config, trainables),
    result: readResult(await readFileBounded(dirs.result, 65_536)),
  }
}

/** Held-out documents of a finished training: the owner's own text, for acceptance and evaluation. */
export async function ownHeldOut(
  model: PublicModel,
  trainingRoot: string,
  name: string,
  maxBytes: number = TRAIN_DEFAULTS.evaluationBytes,
): Promise<HeldOutDocument[]> {
  const corpus = await openCorpus(trainingDirs(trainingRoot, name).corpus, model.tokenizer)
  try {
    return await corpus.heldOut(maxBytes)
  } finally {
    await corpus.close()
  }
}

/** Held-out public text that ships with the public model. */
export async function publicHeldOut(
  model: PublicModel,
  trainingRoot: string,
  signal: AbortSignal,
  maxBytes: number = TRAIN_DEFAULTS.evaluationBytes,
): Promise<HeldOutDocument[]> {
  const replay = await openReplay(model, join(trainingRoot, '.replay'), signal)
  try {
    return await replay.heldOut(maxBytes)
  } finally {
    await replay.close()
  }
}

async function openOrPrepare(
  model: PublicModel,
  outDir: string,
  request: TrainRequest,
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
  return prepareCorpus({ paths: request.paths, tokenizer: model.tokenizer, outDir, signal })
}

async function openReplay(model: PublicModel, outDir: string, signal: AbortSignal): Promise<Corpus> {
  if (await pathExists(join(outDir, 'corpus.json'))) return openCorpus(outDir, model.tokenizer)
  return prepareCorpus({ paths: [model.replay], tokenizer: model.tokenizer, outDir, signal })
}

async function pairScores(
  engine: Engine,
  model: PublicModel,
  expert: Expert,
  corpus: Corpus,
  replay: Corpus,
): Promise<Pick<TrainResult, 'own' | 'public'>> {
  const params = mixtureParams(model.config, model.params, zeroRows(model.config), [expert])
  const evaluator = await createEvaluator(engine, model.config, params, {
    E: 2,
    topK: 2,
    B: 8,
    T: 128,
    endOfText: model.tokenizer.endOfText,
  })
  const score = async (from: Corpus): Promise<{ before: number; after: number }> => {
    const documents = await from.heldOut(TRAIN_DEFAULTS.evaluationBytes)
    const before: Evaluation = await evaluator.evaluate(documents, Float32Array.of(0, LEFT_OUT))
    const after: Evaluation = await evaluator.evaluate(documents, Float32Array.of(0, 0))
    return { before: before.bitsPerByte, after: after.bitsPerByte }
  }
  try {
    return { own: await score(corpus), public: await score(replay) }
  } finally {
    await evaluator.dispose()
  }
}

function readResult(bytes: Uint8Array): TrainResult {
  const fields = new Fields(JSON.parse(fromUtf8(bytes)), 'result.json')
  const side = (name: string): { before: number; after: number } => {
    const value = JSON.parse(fromUtf8(bytes)) as Record<string, { before: number; after: number }>
    return value[name] as { before: number; after: number }
  }
  return {
    name: fields.text('name', 64),
    steps: fields.uint('steps'),
    tokens: fields.uint('tokens'),
    documents: fields.uint('documents'),
    own: side('own'),
    public: side('public'),
  }
}
