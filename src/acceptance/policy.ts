/** The bounds of a node's acceptance policy, with defaults and their reasons. Knows nothing about packages. */
export interface AcceptancePolicy {
  /** Maximum RMS of an FFN tensor, as a multiple of the public tensor's RMS. */
  readonly maxTensorRmsRatio: number
  /** Maximum norm of the difference from the public FFN tensor, as a multiple of the public tensor's norm. */
  readonly maxDeltaRatio: number
  /**
   * Maximum norm of a router row times the root mean square of the elements that it reads: the standard deviation of
   * the logits that the row would give to directions drawn at random.
   */
  readonly maxRouterLogit: number
  /** Maximum share of the routing on public text that an expert takes. */
  readonly maxPublicLoadShare: number
  /** Maximum share of public text that a gate solved from the expert's and the public router statistics gives it. */
  readonly maxPublicGateShare: number
  /** Maximum number of packages of one publisher that are in use. */
  readonly maxPackagesPerPublisher: number
  /** Maximum relative increase of bits per byte on public text. */
  readonly maxPublicLoss: number
  /** Maximum relative increase of bits per byte on the node's own held-out text. */
  readonly maxOwnLoss: number
  /**
   * Maximum epsilon, in millionths, that the manifest of another member's expert may state. Undefined: experts without
   * a guarantee are accepted, too.
   */
  readonly maxEpsilonMicro?: number
  /** Whether the packages of other members wait until their manifests are final: cosigned by enough members. */
  readonly requireFinal?: boolean
}

export const DEFAULT_POLICY: AcceptancePolicy = {
  // Honest training gives 1.1 to 1.2 after 200 steps, 1.6 after 1000, and 1.9 at rank 16. A scale of 2 or 3 is therefore
  // no evidence, and is left to the measurements.
  maxTensorRmsRatio: 4,
  // Honest training gives 0.5 to 0.7 after 200 steps, and 1.6 at rank 16. A permutation of neurons gives about 1.4 and
  // is left to the measurements; noise gives more than the bound.
  maxDeltaRatio: 3,
  // Rows of honest training have 3 to 11 beside the sample's public model and 15 to 31 beside the tests' model of random
  // weights. A row that hijacks the routing is scaled up.
  maxRouterLogit: 50,
  // Honest experts take 4 to 9 % of public text. A guest that takes most of it wins by size, not by content.
  maxPublicLoadShare: 0.3,
  // Statistics of the public text itself get 1/2; those of the owners in scripts/paper/README.md get 2 to 21 %. English
  // that the public text has some of, such as speeches and glosses, gets 30 to 40 % and takes 4 % of the routing.
  maxPublicGateShare: 0.45,
  // Eight members with eight experts each fill a composition. Each package takes memory of every node.
  maxPackagesPerPublisher: 8,
  // Honest experts cost 0.1 to 0.3 % each. Owners calibrate theirs to half of the bound with the
  // default router (owner/calibrate.ts).
  maxPublicLoss: 0.01,
  // With router rows, honest experts cost up to 12 % at the size of the sample, with gates less. An expert that hijacks
  // the routing takes all of the text.
  maxOwnLoss: 0.15,
}

/** `policy` with a bound on epsilon; undefined asks for no guarantee. */
export function policyWith(maxEpsilonMicro: number | undefined, policy = DEFAULT_POLICY): AcceptancePolicy {
  return maxEpsilonMicro === undefined ? policy : { ...policy, maxEpsilonMicro }
}
