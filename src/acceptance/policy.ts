/** What a node accepts: data with defaults and reasons. Knows no package. */
export interface AcceptancePolicy {
  /** Largest RMS of one FFN tensor, as a multiple of the public tensor's. */
  readonly maxTensorRmsRatio: number
  /** Largest norm of the difference from the public FFN, as a multiple of the public tensor's norm. */
  readonly maxDeltaRatio: number
  /** Largest L2 norm of a router row. */
  readonly maxRouterRowNorm: number
  /** Largest share of routing on public text that one guest may take in a pair. */
  readonly maxPublicLoadShare: number
  /** Largest worsening of bits per byte on public text, as a share. */
  readonly maxPublicLoss: number
  /** Largest worsening on the acceptor's own held-out text, as a share. */
  readonly maxOwnLoss: number
}

export const DEFAULT_POLICY: AcceptancePolicy = {
  maxTensorRmsRatio: 4, // honest training moves a tensor's RMS by percents; a scaled expert by multiples
  maxDeltaRatio: 3, // neuron permutation gives about 1.4 and is still caught by value; noise gives more
  maxRouterRowNorm: 64, // rows start below 1 and grow to tens; a hijacking row is scaled up
  maxPublicLoadShare: 0.6, // a guest that takes most public tokens routes by size, not by content
  maxPublicLoss: 0.05, // at the size of the sample model, replay leaves about 2 % an expert
  maxOwnLoss: 0.05, // a foreign expert may cost a little of what the acceptor itself has
}
