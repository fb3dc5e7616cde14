/**
 * Learning rate by step: linear warmup, then cosine decay to a share of the peak, as in FlexOlmo's training scripts.
 */
export interface Schedule {
  readonly peak: number
  readonly warmupSteps: number
  readonly totalSteps: number
  /** Learning rate at the end as a share of the peak; one tenth if absent. */
  readonly finalShare?: number
}

const FINAL_SHARE = 0.1

/** @param step counts from 0. */
export function learningRate(schedule: Schedule, step: number): number {
  const { peak, warmupSteps, totalSteps, finalShare = FINAL_SHARE } = schedule
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps))
  return peak * (finalShare + (1 - finalShare) * 0.5 * (1 + Math.cos(Math.PI * progress)))
}

/**
 * Peak learning rate of an expert, and the hidden size for which it was chosen (row rate-0.01-gate of
 * scripts/paper/README.md).
 */
const PEAK = 5e-3
const PEAK_WIDTH = 192

/**
 * Peak learning rate for a model of any width. AdamW moves every element by the learning rate whatever the width, and
 * an output sums `hiddenSize` elements, so the rate falls with the width (Yang et al. 2022, arXiv 2203.03466, table
 * 3).
 */
export function peakLearningRate(hiddenSize: number): number {
  return PEAK * Math.min(1, PEAK_WIDTH / hiddenSize)
}
