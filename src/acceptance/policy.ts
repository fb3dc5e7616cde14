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
  /** The same for a gate solved from its router statistics and those of the public text. */
  readonly maxPublicGateShare: number
  /** Largest worsening of bits per byte on public text, as a share. */
  readonly maxPublicLoss: number
  /** Largest worsening on the acceptor's own held-out text, as a share. */
  readonly maxOwnLoss: number
}

export const DEFAULT_POLICY: AcceptancePolicy = {
  maxTensorRmsRatio: 4, // honest training moves a tensor's RMS by percents; a scaled expert by multiples
  maxDeltaRatio: 3, // neuron permutation gives about 1.4 and is still caught by value; noise gives more
  maxRouterRowNorm: 32, // rows of honest training lie between 1 and 10; a hijacking row is scaled up
  maxPublicLoadShare: 0.3, // honest experts take 4 to 9 % of the public text; a guest that takes most public tokens routes by size, not by content
  maxPublicGateShare: 0.3, // statistics of the public text itself take a half; those of the owners in scripts/paper/README.md 2 to 21 %
  maxPublicLoss: 0.01, // honest experts cost 0.1 to 0.3 % each
  maxOwnLoss: 0.15, // routed by rows, honest experts cost up to 12 % at the sample's size, by gates less; a hijacker takes it all
}
