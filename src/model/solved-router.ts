/**
 * A router that is solved in closed form, not trained: each owner publishes how often each token occurs in its text,
 * and a node computes one gate for exactly the experts that it composes. Implements protocols/expert-package, section
 * "Router statistics". Does not know engines, files or peers.
 *
 * The gate is a naive Bayes classifier (Maron 1961) with exponential forgetting: its logits are the log-odds of the
 * tokens so far under the owners' unigram models, where older tokens count less. They are the same in every layer and
 * are added to the logits of the router rows.
 */

/** Maximum number of tokens of one document in router statistics. */
export const STATISTICS_WINDOW = 128

/** Statistics of an owner's text: means over its documents. */
export interface RouterStatistics {
  /** Share of each token of the vocabulary (V): not negative, with sum 1. */
  readonly tokens: Float32Array
}

/**
 * A linear router on tokens. Its logits (E) after tokens x_0 .. x_t are the sum over s of GATE_DECAY^(t - s)
 * weights[x_s], plus offsets. Expert 0 is the public one.
 */
export interface Gate {
  /** (V, E). */
  readonly weights: Float32Array
  /** (E). */
  readonly offsets: Float32Array
  /** Weight of the router-row logits (with bias) relative to the gate's; 0 uses the gate alone. */
  readonly rowScale: number
}

/**
 * Factor by which each token reduces the evidence of earlier ones, chosen by rows gate, gate-decay-0.8 and
 * gate-decay-0.95 of the table in scripts/paper/README.md.
 */
export const GATE_DECAY = 0.9
/**
 * Share of the common model (the mean over all owners) in every owner's unigram model. It makes a token that an owner
 * never used unlikely instead of impossible.
 */
const SMOOTHING = 0.01
/** Share of the uniform distribution in the common model, for tokens that no owner used. */
const UNIFORM = 0.1
/** `Gate.rowScale` of every solved gate, chosen by row gate-alone of that table. */
const ROW_SCALE = 1

export interface GateCalibration {
  /** Factor of the log-odds, below 1 because neighbouring tokens are not independent evidence. */
  readonly scale: number
  /** Logit offset of the public expert, so that text that points to no owner goes to the public expert. */
  readonly prior: number
}

/** Chosen by rows gate, gate-odds, gate-quarter and gate-no-prior of the table in scripts/paper/README.md. */
export const GATE_CALIBRATION: GateCalibration = { scale: 0.5, prior: 1 }

/**
 * Solves the gate: weights[v, e] = scale log(p_e(v) / p_0(v)), where p_e is the smoothed unigram model of owner e and
 * p_0 that of the public text. When an owner is added or withdrawn, only the common model changes.
 *
 * An expert without statistics gets the logit of the public expert at every token: between these two the router rows
 * alone decide, as in a composition without a gate, and the logits of all other experts stay as they are without it.
 * @param statistics those of the public text, then those of the experts in the order of the mixture
 */
export function solveGate(
  statistics: readonly (RouterStatistics | undefined)[],
  { scale, prior }: GateCalibration = GATE_CALIBRATION,
): Gate {
  const E = statistics.length
  const V = statistics[0]?.tokens.length ?? 0
  const known = statistics.flatMap((of, e) => (of === undefined ? [] : [{ e, tokens: of.tokens }]))
  const weights = new Float32Array(V * E)
  const logs = new Float64Array(E)
  for (let v = 0; v < V; v++) {
    let sum = 0
    for (const { tokens } of known) sum += tokens[v] as number
    const common = SMOOTHING * (((1 - UNIFORM) * sum) / known.length + UNIFORM / V)
    for (const { e, tokens } of known) logs[e] = Math.log((1 - SMOOTHING) * (tokens[v] as number) + common)
    for (const { e } of known) weights[v * E + e] = scale * ((logs[e] as number) - (logs[0] as number))
  }
  const offsets = Float32Array.from(statistics, (of, e) => (e === 0 || of === undefined ? prior : 0))
  return { weights, offsets, rowScale: ROW_SCALE }
}

/**
 * Computes a gate's logits after one more token of a sequence, from the sums of the previous token.
 * @param position number of tokens of the sequence before this one
 * @param sums (positions, E): decayed sums of weights, without offsets; reads row `position - 1`, writes row `position`
 * @param logits receives E values from index `to` on
 */
export function gateToken(
  { weights, offsets }: Gate,
  token: number,
  position: number,
  sums: Float32Array,
  logits: Float32Array,
  to: number,
): void {
  const E = offsets.length
  const now = position * E
  for (let e = 0; e < E; e++) {
    const before = position === 0 ? 0 : (sums[now - E + e] as number)
    const sum = GATE_DECAY * before + (weights[token * E + e] as number)
    sums[now + e] = sum
    logits[to + e] = sum + (offsets[e] as number)
  }
}

/** (T, T): row t holds the weight of each token up to t in the sums after token t, and 0 for later tokens. */
export function decayWeights(T: number): Float32Array {
  const values = new Float32Array(T * T)
  for (let t = 0; t < T; t++) {
    for (let s = 0; s <= t; s++) values[t * T + s] = GATE_DECAY ** (t - s)
  }
  return values
}
