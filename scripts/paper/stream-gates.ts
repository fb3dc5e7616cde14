/**
 * Gates solved from moments of the first layer's stream, which no expert changes, instead of the product's token
 * shares. They were tried and are worse. Knows nothing about training.
 */
import type { Gate } from '../../src/model/solved-router.ts'
import { cholesky, choleskySolve } from './cholesky.ts'
import type { GateOf } from './scorer.ts'

export interface StreamGateKind {
  readonly solver: 'discriminant' | 'ridge'
  /** Decay factors; the features of several are concatenated. */
  readonly decays: readonly number[]
  /** Factor of the logits. */
  readonly scale: number
  /** Added to the logit of the public expert. */
  readonly prior: number
}

/** Means over tokens of a text's features, and of their outer products (upper triangle, row by row). */
export interface Moments {
  readonly mean: Float32Array
  readonly second: Float32Array
}

/** Ridge relative to the mean eigenvalue. */
const RIDGE = 0.01

/** Decayed means of unit rows: from the stream (T, C) of one window to features (T, D C) for D decays. */
export function features(stream: Float32Array, C: number, decays: readonly number[]): Float32Array {
  const T = stream.length / C
  const width = C * decays.length
  const out = new Float32Array(T * width)
  decays.forEach((decay, d) => {
    const mean = new Float64Array(C)
    let weight = 0
    for (let t = 0; t < T; t++) {
      let squares = 0
      for (let c = 0; c < C; c++) squares += (stream[t * C + c] as number) ** 2
      const share = 1 - decay
      const scale = share / Math.sqrt(squares)
      weight = decay * weight + share
      for (let c = 0; c < C; c++) {
        mean[c] = decay * (mean[c] as number) + scale * (stream[t * C + c] as number)
        out[t * width + d * C + c] = (mean[c] as number) / weight
      }
    }
  })
  return out
}

/** Moments: the mean over windows of the mean over each window's tokens. */
export function moments(streams: readonly Float32Array[], C: number, decays: readonly number[]): Moments {
  const width = C * decays.length
  const mean = new Float64Array(width)
  const second = new Float64Array((width * (width + 1)) / 2)
  for (const stream of streams) {
    const rows = features(stream, C, decays)
    const T = rows.length / width
    const share = 1 / (streams.length * T)
    for (let t = 0; t < T; t++) {
      const row = rows.subarray(t * width, (t + 1) * width)
      let at = 0
      for (let i = 0; i < width; i++) {
        const scaled = share * (row[i] as number)
        mean[i] = (mean[i] as number) + scaled
        for (let j = i; j < width; j++) second[at] = (second[at++] as number) + scaled * (row[j] as number)
      }
    }
  }
  return { mean: Float32Array.from(mean), second: Float32Array.from(second) }
}

/** Weights (E, width) of features, and offsets (E). */
export type StreamGate = Pick<Gate, 'weights' | 'offsets'>

/**
 * `discriminant`: log-odds of owners with normally distributed features of a common covariance (Fisher 1936).
 * `ridge`: regression of the owner's indicator, W = (sum of A_e + ridge I)^-1 [b_e].
 */
export function solveStreamGate(
  { solver, scale, prior }: StreamGateKind,
  width: number,
  owners: readonly Moments[],
): StreamGate {
  const isDiscriminant = solver === 'discriminant'
  const A = new Float64Array(width * width)
  for (const { second, mean } of owners) {
    let at = 0
    for (let i = 0; i < width; i++) {
      for (let j = i; j < width; j++) {
        const shift = isDiscriminant ? (mean[i] as number) * (mean[j] as number) : 0
        const value = ((second[at++] as number) - shift) / (isDiscriminant ? owners.length : 1)
        A[j * width + i] = (A[j * width + i] as number) + value
      }
    }
  }
  let trace = 0
  for (let i = 0; i < width; i++) trace += A[i * width + i] as number
  for (let i = 0; i < width; i++) A[i * width + i] = (A[i * width + i] as number) + (RIDGE * trace) / width
  const factor = cholesky(A, width) as Float64Array
  const weights = new Float32Array(owners.length * width)
  const offsets = new Float32Array(owners.length)
  owners.forEach(({ mean }, e) => {
    const row = choleskySolve(factor, mean).map((value) => scale * value)
    weights.set(row, e * width)
    if (isDiscriminant) offsets[e] = -row.reduce((sum, value, i) => sum + value * (mean[i] as number), 0) / 2
  })
  offsets[0] = (offsets[0] as number) + prior
  return { weights, offsets }
}

/** Returns a function to the logits (T, E) of a window by its index. */
export function streamGateOf(
  { decays }: StreamGateKind,
  { weights, offsets }: StreamGate,
  streams: readonly Float32Array[],
  C: number,
): GateOf {
  const E = offsets.length
  const width = C * decays.length
  return (_, index) => {
    const rows = features(streams[index] as Float32Array, C, decays)
    const T = rows.length / width
    const logits = new Float32Array(T * E)
    for (let t = 0; t < T; t++) {
      for (let e = 0; e < E; e++) {
        let sum = offsets[e] as number
        for (let c = 0; c < width; c++) {
          sum += (weights[e * width + c] as number) * (rows[t * width + c] as number)
        }
        logits[t * E + e] = sum
      }
    }
    return logits
  }
}
