/**
 * Ways to route among experts that were trained apart: their own rows, a gate solved from statistics of the
 * first layer's stream, and mixtures of both. Knows no training.
 */
import { cholesky, choleskySolve } from '../../../src/lib/cholesky.ts'
import {
  type Gate,
  type GateCalibration,
  type RouterStatistics,
  solveGate,
} from '../../../src/model/solved-router.ts'
import type { GateOf } from './scorer.ts'

/** Which features a gate reads and how it is solved. */
export interface GateKind extends GateCalibration {
  /** Weights of the past; several make one long feature. */
  readonly decays: readonly number[]
  readonly solver: 'discriminant' | 'ridge'
  /** Of ridge regression: share of the mean eigenvalue. */
  readonly ridge?: number
}

/** Decayed means of unit rows: streams (T, C) of one window -> features (T, D C) for D decays. */
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

/** Mean over windows of the mean over their tokens. */
export function statistics(
  streams: readonly Float32Array[],
  C: number,
  decays: readonly number[],
): RouterStatistics {
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

export function solve(kind: GateKind, width: number, owners: readonly RouterStatistics[]): Gate {
  return kind.solver === 'discriminant' ? solveGate(width, owners, kind) : ridge(kind, width, owners)
}

/** W = (sum of A_e + ridge I)^-1 [b_e]: regression of the indicator of the owner. */
function ridge(
  { ridge: share = 0.01, scale, prior }: GateKind,
  width: number,
  owners: readonly RouterStatistics[],
): Gate {
  const A = new Float64Array(width * width)
  for (const { second } of owners) {
    let at = 0
    for (let i = 0; i < width; i++) {
      for (let j = i; j < width; j++)
        A[j * width + i] = (A[j * width + i] as number) + (second[at++] as number)
    }
  }
  let trace = 0
  for (let i = 0; i < width; i++) trace += A[i * width + i] as number
  for (let i = 0; i < width; i++) A[i * width + i] = (A[i * width + i] as number) + (share * trace) / width
  const factor = cholesky(A, width) as Float64Array
  const weights = new Float32Array(owners.length * width)
  owners.forEach(({ mean }, e) => {
    weights.set(
      choleskySolve(factor, mean).map((value) => scale * value),
      e * width,
    )
  })
  const offsets = new Float32Array(owners.length)
  offsets[0] = prior
  return { weights, offsets, rowScale: 1 }
}

/** Logits (T, E) of every window; `left` names experts left out. */
export function gateOf(kind: GateKind, gate: Gate, streams: readonly Float32Array[], C: number): GateOf {
  const E = gate.offsets.length
  const width = C * kind.decays.length
  return (_, index) => {
    const rows = features(streams[index] as Float32Array, C, kind.decays)
    const T = rows.length / width
    const logits = new Float32Array(T * E)
    for (let t = 0; t < T; t++) {
      for (let e = 0; e < E; e++) {
        let sum = gate.offsets[e] as number
        for (let c = 0; c < width; c++) {
          sum += (gate.weights[e * width + c] as number) * (rows[t * width + c] as number)
        }
        logits[t * E + e] = sum
      }
    }
    return logits
  }
}
