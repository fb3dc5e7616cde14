/**
 * The steps of a training: compiles the step, continues from the checkpoint, reports every step and what one takes.
 * Does not know how the text was prepared or how the expert is scored.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { zeroRows } from '../model/params.ts'
import type { Compiled, Engine } from '../tensor/engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../training/optimizer.ts'
import { compilePairStep, initialTrainables, type Trainables } from '../training/pair.ts'
import { peakLearningRate } from '../training/schedule.ts'
import { optimize, type StepReport, train } from '../training/train.ts'
import type { TrainingPlan } from '../training/training-plan.ts'
import { checkpointFile } from './checkpoint-file.ts'
import type { PrivateRun } from './private-run.ts'
import type { SettledRequest } from './private-text.ts'
import { TRAIN_DEFAULTS } from './train-defaults.ts'
import type { PairStart, TrainEvent } from './train-expert.ts'
import type { TrainingDirs } from './training-folder.ts'

/**
 * Optimizer of a private training. The norm of a noised gradient is that of its noise, so it is not clipped again.
 */
const PRIVATE_ADAMW = { ...ADAMW_DEFAULTS, maxGradNorm: Number.POSITIVE_INFINITY }

/** What a step of this run takes, as measured after its second step. */
export interface StepCost {
  readonly secondsPerStep: number
  /** Resident memory of the process. */
  readonly residentBytes: number
}

/**
 * Compute the steps. The compiled step, its weights and the optimizer can be freed when this returns.
 * @returns the trained arrays, and what a step took if this run computed at least two.
 * @throws InputError `mismatch` for a checkpoint of another rank; FormatError for a damaged one.
 */
export async function* trainSteps(
  engine: Engine,
  { config, weights }: PublicModel,
  start: PairStart,
  dirs: TrainingDirs,
  request: SettledRequest,
  { rank, rows, microBatches }: TrainingPlan,
  run: PrivateRun | undefined,
  signal: AbortSignal,
): AsyncGenerator<TrainEvent, { trainables: Trainables; cost: StepCost | undefined }, void> {
  const { B, T } = TRAIN_DEFAULTS
  yield { stage: 'phase', phase: 'compile' }
  const options = { rank, signal }
  const trainables = await initialTrainables(config, weights, start.embedding.rows, options)
  const loop = {
    trainables,
    checkpoints: checkpointFile(dirs.checkpoint),
    checkpointEvery: TRAIN_DEFAULTS.checkpointEvery,
    checkpointAfterMs: TRAIN_DEFAULTS.checkpointAfterMs,
    signal,
    clock: () => performance.now(),
  }
  const schedule = {
    peak: peakLearningRate(config.hiddenSize),
    warmupSteps: TRAIN_DEFAULTS.warmupSteps,
    totalSteps: request.steps,
  }
  let steps: AsyncGenerator<StepReport, void, void>
  let compiled: Pick<Compiled, 'dispose'>
  if (run === undefined) {
    const step = await compilePairStep(engine, config, weights, zeroRows(config), rows, T, options)
    compiled = step
    steps = train({
      ...loop,
      compiled: step,
      optimizer: new AdamW(ADAMW_DEFAULTS, trainables),
      schedule,
      batches: (step) => start.batch(step, B * request.accumulate),
      accumulate: microBatches,
    })
  } else {
    const prepared = await run.prepare(engine, { config, weights }, trainables, options)
    compiled = prepared.compiled
    yield { stage: 'privacy', ...prepared.parameters }
    const optimizer = new AdamW(PRIVATE_ADAMW, trainables)
    steps = optimize({ ...loop, optimizer, schedule: run.schedule(schedule) }, prepared.source)
  }
  let cost: StepCost | undefined
  yield { stage: 'phase', phase: 'first-step' }
  try {
    // The first step allocates memory, so the second one is measured.
    let afterFirst: number | undefined
    for await (const report of steps) {
      const now = performance.now()
      if (afterFirst !== undefined && cost === undefined) {
        const secondsPerStep = (now - afterFirst) / 1000
        cost = { secondsPerStep, residentBytes: process.memoryUsage.rss() }
        yield { stage: 'forecast', ...cost, secondsLeft: (report.totalSteps - report.step) * secondsPerStep }
      }
      afterFirst ??= now
      yield { stage: 'step', ...report }
    }
  } finally {
    await compiled.dispose()
  }
  return { trainables, cost }
}
