/**
 * A router that is solved, not trained: each owner publishes how often each token occurs in its text, and a node
 * makes one gate for exactly the experts that it composes, in closed form. Implements protocols/expert-package,
 * section "Router statistics". Knows no engine, no files and no peers.
 *
 * The gate is a naive Bayes classifier (Maron 1961) that forgets: its logits are the log-odds of the tokens so far
 * under the owners' unigram models, those of older tokens decayed. They are the same in every layer and are added to
 * those of the router rows.
 */

/** Tokens of a document at most. */
export const STATISTICS_WINDOW = 128

/** Means over an owner's documents; V is the size of the vocabulary. */
export interface RouterStatistics {
  /** Share of each token of the vocabulary (V): none below 0, together 1. */
  readonly tokens: Float32Array
}

/** logits (E) after tokens x_0 .. x_t: the sum of GATE_DECAY^(t - s) weights[x_s], plus offsets. Expert 0 is the public one. */
export interface Gate {
  /** (V, E). */
  readonly weights: Float32Array
  /** (E). */
  readonly offsets: Float32Array
  /** What the logits of the router rows, biases included, count for beside the gate's; 0: the gate alone. */
  readonly rowScale: number
}

/** Weight of what was known before each token (rows gate, gate-decay-0.8 and gate-decay-0.95). */
export const GATE_DECAY = 0.9
/** Share of every owner's unigram model that is what all owners have in common: a token that one never used is unlikely, not ruled out. */
const SMOOTHING = 0.01
/** Share of the common model that is uniform, for tokens that nobody used. */
const UNIFORM = 0.1
/** `Gate.rowScale` of every solved gate (row gate-alone). */
const ROW_SCALE = 1

export interface GateCalibration {
  /** Factor of the log-odds: neighbouring tokens tell much the same, so a token is worth less than its odds say. */
  readonly scale: number
  /** Logit of the public expert beside the owners': text that could be anybody's is public. */
  readonly prior: number
}

/** Rows gate, gate-odds, gate-quarter and gate-no-prior of the table in scripts/paper/README.md. */
export const GATE_CALIBRATION: GateCalibration = { scale: 0.5, prior: 1 }

/**
 * With p_e the smoothed unigram model of owner e, 0 being the public text, weights[v, e] = scale log(p_e(v) / p_0(v)).
 * Adding or withdrawing an owner changes a mean alone.
 */
export function solveGate(
  statistics: readonly RouterStatistics[],
  { scale, prior }: GateCalibration = GATE_CALIBRATION,
): Gate {
  const E = statistics.length
  const V = statistics[0]?.tokens.length ?? 0
  const weights = new Float32Array(V * E)
  const logs = new Float64Array(E)
  for (let v = 0; v < V; v++) {
    let sum = 0
    for (const { tokens } of statistics) sum += tokens[v] as number
    const common = SMOOTHING * (((1 - UNIFORM) * sum) / E + UNIFORM / V)
    statistics.forEach(({ tokens }, e) => {
      logs[e] = Math.log((1 - SMOOTHING) * (tokens[v] as number) + common)
    })
    for (let e = 0; e < E; e++) weights[v * E + e] = scale * ((logs[e] as number) - (logs[0] as number))
  }
  const offsets = new Float32Array(E)
  offsets[0] = prior
  return { weights, offsets, rowScale: ROW_SCALE }
}

/**
 * A gate's logits for one more token of a sequence; the E sums of the token before are all that a sequence keeps.
 * @param position tokens of the sequence before this one
 * @param sums (positions, E), without offsets; row `position` is written
 * @param logits E values from `to` are written
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

/** (T, T): row t has what the tokens up to token t count for after it. */
export function decayWeights(T: number): Float32Array {
  const values = new Float32Array(T * T)
  for (let t = 0; t < T; t++) {
    for (let s = 0; s <= t; s++) values[t * T + s] = GATE_DECAY ** (t - s)
  }
  return values
}
