/**
 * The steps of a training: compiles the step, continues from the checkpoint, reports every step and what one takes.
 * Does not know how the text was prepared or how the expert is scored.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { zeroRows } from '../model/params.ts'
import type { Engine } from '../tensor/engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../training/optimizer.ts'
import { compilePairStep, initialTrainables, type Trainables } from '../training/pair.ts'
import { peakLearningRate } from '../training/schedule.ts'
import { train } from '../training/train.ts'
import type { TrainingPlan } from '../training/training-plan.ts'
import { checkpointFile } from './checkpoint-file.ts'
import { TRAIN_DEFAULTS } from './train-defaults.ts'
import type { PairStart, TrainEvent, TrainRequest } from './train-expert.ts'
import type { TrainingDirs } from './training-folder.ts'

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
  request: TrainRequest,
  { rank, rows, microBatches }: TrainingPlan,
  signal: AbortSignal,
): AsyncGenerator<TrainEvent, { trainables: Trainables; cost: StepCost | undefined }, void> {
  const { B, T } = TRAIN_DEFAULTS
  yield { stage: 'phase', phase: 'compile' }
  const options = { rank, signal }
  const trainables = await initialTrainables(config, weights, start.embedding.rows, options)
  const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
  const compiled = await compilePairStep(engine, config, weights, zeroRows(config), rows, T, options)
  let cost: StepCost | undefined
  yield { stage: 'phase', phase: 'first-step' }
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
      accumulate: microBatches,
      checkpoints: checkpointFile(dirs.checkpoint),
      checkpointEvery: TRAIN_DEFAULTS.checkpointEvery,
      checkpointAfterMs: TRAIN_DEFAULTS.checkpointAfterMs,
      signal,
      clock: () => performance.now(),
    })
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
