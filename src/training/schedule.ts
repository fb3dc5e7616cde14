/** Learning rate by step: linear warmup, then cosine to a share of the peak (flexolmo 2.1, 2.2). */
export interface Schedule {
  readonly peak: number
  readonly warmupSteps: number
  readonly totalSteps: number
  /** Learning rate at the end, as a share of the peak; a tenth where absent. */
  readonly finalShare?: number
}

const FINAL_SHARE = 0.1

/** `step` counts from 0. */
export function learningRate(schedule: Schedule, step: number): number {
  const { peak, warmupSteps, totalSteps, finalShare = FINAL_SHARE } = schedule
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps))
  return peak * (finalShare + (1 - finalShare) * 0.5 * (1 + Math.cos(Math.PI * progress)))
}

/** Peak of an expert's training and the width it was chosen at (row rate-0.01-gate of scripts/paper/README.md). */
const PEAK = 5e-3
const PEAK_WIDTH = 192

/**
 * Peak for a model of another width. AdamW moves every element by the rate whatever the width, and an output sums
 * `hiddenSize` of them, so the rate falls with the width (Yang et al. 2022, arXiv 2203.03466, table 3).
 */
export function peakLearningRate(hiddenSize: number): number {
  return PEAK * Math.min(1, PEAK_WIDTH / hiddenSize)
}
