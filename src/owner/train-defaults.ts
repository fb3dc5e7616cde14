/** Default settings of training and publishing. Does not load what they need. */
import type { FloatDtype } from '../lib/float-formats.ts'

/** Format of the FFN weights of a published expert. */
export const PUBLISHED_DTYPE: FloatDtype = 'BF16'

/** Chosen by the rows gate, replay-0.5-gate and hidden-start-gate of the table in scripts/paper/README.md. */
export const TRAIN_DEFAULTS = {
  steps: 200,
  accumulate: 1,
  /** Rows per micro-batch of `accumulate`, and tokens per row. A large model's micro-batches are split further. */
  B: 8,
  T: 128,
  /** Share of the rows of a batch that are public text. */
  replayShare: 0.25,
  /**
   * With differential privacy: fewer, larger steps, because the noise of a step is the same however many units it sums.
   * Few trained values, because each of them gets noise.
   */
  privateSteps: 60,
  privateRank: 4,
  /** Windows of a unit of which a step averages the gradient. */
  windowsPerUnit: 4,
  warmupSteps: 10,
  /** Steps between checkpoints. */
  checkpointEvery: 50,
  /** Time without a checkpoint after which the next step is followed by one, ms: slow steps lose little in a crash. */
  checkpointAfterMs: 600_000,
  /** Windows of own text, and as many of public text, from which router rows start. */
  embeddingWindows: 128,
} as const
