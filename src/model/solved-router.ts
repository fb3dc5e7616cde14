/**
 * A router that is solved, not trained: each owner publishes additive statistics of features that no expert
 * touches, and a node solves one gate for exactly the experts that it composes, in closed form. Implements
 * protocols/expert-package, section "Router statistics". Knows no engine, no files and no peers.
 *
 * A feature is the decayed mean, over the tokens so far, of the first layer's router input at unit length. The
 * gate's logits are the same in every layer and are added to those of the router rows.
 */
import { cholesky, choleskySolve } from '../lib/cholesky.ts'

/** Means over an owner's documents; C is the width of the residual stream. */
export interface RouterStatistics {
  /** Mean outer product of features, upper triangle row by row: C (C + 1) / 2 values. */
  readonly second: Float32Array
  /** Mean feature (C). */
  readonly mean: Float32Array
}

/** logits (E) of a feature m (C): weights m + offsets. Expert 0 is the public one. */
export interface Gate {
  /** (E, C). */
  readonly weights: Float32Array
  /** (E). */
  readonly offsets: Float32Array
  /** What the logits of the router rows, biases included, count for beside the gate's; 0: the gate alone. */
  readonly rowScale: number
}

/** Weight of the past in each step of a decayed mean. */
export const FEATURE_DECAY = 0.9
/** Ridge, as a share of the mean eigenvalue of the pooled covariance; ten times as much where that is too little. */
const RIDGE = 0.01
const MAX_RIDGE = 1e20
/** `Gate.rowScale` of every solved gate (row gate-alone). */
const ROW_SCALE = 1
export interface GateCalibration {
  /**
   * Factor of the log-odds: features of neighbouring tokens tell much the same, so a feature is worth less than its
   * odds say.
   */
  readonly scale: number
  /** Logit of the public expert beside the owners': text that could be anybody's is public. */
  readonly prior: number
}

/** Rows gate, gate-odds, gate-quarter and gate-no-prior of the table in scripts/bench/PAPER.md. */
export const GATE_CALIBRATION: GateCalibration = { scale: 0.5, prior: 1 }

/**
 * Linear discriminants of the owners' features: with S the mean of all covariances and mu_e a mean,
 * logit_e(m) = mu_e' S^-1 m - mu_e' S^-1 mu_e / 2, the log-odds of equally likely owners whose features are
 * normal with a common covariance; calibrated, statistics 0 being the public text's. Adding or
 * withdrawing an owner changes sums only.
 * @throws RangeError where a ridge cannot make the pooled covariance positive definite (a value is not finite).
 */
export function solveGate(
  C: number,
  statistics: readonly RouterStatistics[],
  { scale, prior }: GateCalibration = GATE_CALIBRATION,
): Gate {
  const E = statistics.length
  const pooled = new Float64Array(C * C)
  for (const { second, mean } of statistics) {
    let at = 0
    for (let i = 0; i < C; i++) {
      for (let j = i; j < C; j++) {
        const covariance = (second[at++] as number) - (mean[i] as number) * (mean[j] as number)
        pooled[j * C + i] = (pooled[j * C + i] as number) + covariance / E
      }
    }
  }
  let trace = 0
  for (let i = 0; i < C; i++) trace += pooled[i * C + i] as number
  const factor = factorised(pooled, C, Math.max(trace, Number.EPSILON) / C)
  if (factor === undefined) throw new RangeError('router statistics: the pooled covariance is not positive')
  const weights = new Float32Array(E * C)
  const offsets = new Float32Array(E)
  statistics.forEach(({ mean }, e) => {
    const row = choleskySolve(factor, mean).map((value) => scale * value)
    let norm = 0
    row.forEach((value, i) => {
      norm += value * (mean[i] as number)
    })
    weights.set(row, e * C)
    offsets[e] = -norm / 2 + (e === 0 ? prior : 0)
  })
  return { weights, offsets, rowScale: ROW_SCALE }
}

/** Inner product of n values of each; four sums at once, as one waits for its last addition. */
function dot(a: Float32Array, fromA: number, b: Float32Array, fromB: number, n: number): number {
  let s0 = 0
  let s1 = 0
  let s2 = 0
  let s3 = 0
  let i = 0
  for (; i + 3 < n; i += 4) {
    s0 += (a[fromA + i] as number) * (b[fromB + i] as number)
    s1 += (a[fromA + i + 1] as number) * (b[fromB + i + 1] as number)
    s2 += (a[fromA + i + 2] as number) * (b[fromB + i + 2] as number)
    s3 += (a[fromA + i + 3] as number) * (b[fromB + i + 3] as number)
  }
  for (; i < n; i++) s0 += (a[fromA + i] as number) * (b[fromB + i] as number)
  return s0 + s1 + s2 + s3
}

/**
 * A gate's logits for one more token of a sequence. A gate is linear, so its product with a decayed mean is the
 * decayed mean of its products, and E numbers of the token before are all that a sequence keeps.
 * @param u the token's router input in the first layer: C values from `from`
 * @param position tokens of the sequence before this one
 * @param sums (positions, E), not divided by their weight; row `position` is written
 * @param mask (E): products of experts left out are not needed
 * @param logits E values from `to` are written
 */
export function gateToken(
  gate: Gate,
  mask: Float32Array,
  u: Float32Array,
  from: number,
  position: number,
  sums: Float32Array,
  logits: Float32Array,
  to: number,
): void {
  const E = mask.length
  const C = gate.weights.length / E
  let squares = 0
  for (let i = 0; i < C; i++) squares += (u[from + i] as number) ** 2
  const share = (1 - FEATURE_DECAY) / Math.sqrt(squares + Number.MIN_VALUE)
  const weight = 1 - FEATURE_DECAY ** (position + 1)
  const now = position * E
  for (let e = 0; e < E; e++) {
    const product = mask[e] === 0 ? dot(gate.weights, e * C, u, from, C) : 0
    const before = position === 0 ? 0 : (sums[now - E + e] as number)
    const sum = FEATURE_DECAY * before + share * product
    sums[now + e] = sum
    logits[to + e] = sum / weight + (gate.offsets[e] as number)
  }
}

/** Rounding, or an owner who means ill, can leave eigenvalues a little below zero. */
function factorised(pooled: Float64Array, C: number, meanEigenvalue: number): Float64Array | undefined {
  let added = 0
  for (let ridge = RIDGE; ridge < MAX_RIDGE; ridge *= 10) {
    const wanted = ridge * meanEigenvalue
    for (let i = 0; i < C; i++) pooled[i * C + i] = (pooled[i * C + i] as number) + wanted - added
    added = wanted
    const factor = cholesky(pooled, C)
    if (factor !== undefined) return factor
  }
  return undefined
}

/** (T, T): row t has the weights in the decayed mean after token t of the tokens up to it. */
export function decayWeights(T: number): Float32Array {
  const values = new Float32Array(T * T)
  for (let t = 0; t < T; t++) {
    const share = (1 - FEATURE_DECAY) / (1 - FEATURE_DECAY ** (t + 1))
    for (let s = 0; s <= t; s++) values[t * T + s] = share * FEATURE_DECAY ** (t - s)
  }
  return values
}
