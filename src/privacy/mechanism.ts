/**
 * The parameters of a differentially private training, as the training, the accountant and the manifest exchange them.
 * Knows nothing about how they are chosen, spent or stored.
 */

/**
 * What one unit of protection is: a document of the prepared text, or a source (everything of one folder, or of one
 * value of the field or column `source`: a patient, an author).
 */
export type PrivacyUnit = 'document' | 'source'

/**
 * One run of DP-SGD (Abadi et al. 2016, arXiv 1607.00133) with truncated Poisson sampling (Chua et al. 2024, arXiv
 * 2411.04205). Neighbouring texts differ by the addition or removal of one unit.
 */
export interface DpParameters {
  readonly unit: PrivacyUnit
  readonly epsilon: number
  /** The whole delta, including `truncationDelta`. */
  readonly delta: number
  /** Part of `delta` that pays for the truncation of batches with more than `capacity` units. */
  readonly truncationDelta: number
  /** Maximum L2 norm of a unit's gradient over everything that is trained. */
  readonly clip: number
  /** Standard deviation of the noise on the sum of clipped gradients, as a multiple of `clip`. */
  readonly noiseMultiplier: number
  /** Probability with which each unit takes part in a step. */
  readonly sampleRate: number
  readonly steps: number
  /** `sampleRate` times `units`; the constant by which noised sums are divided. */
  readonly expectedBatch: number
  /** Maximum number of units of a step. */
  readonly capacity: number
  /** Number of units of the training text. Neighbouring texts differ in it, so publishing it treats it as public. */
  readonly units: number
  /** Maximum number of windows of a unit whose gradients are averaged before they are clipped. */
  readonly windowsPerUnit: number
}
