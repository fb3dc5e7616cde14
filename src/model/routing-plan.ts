/**
 * Routing decisions outside of graphs: which expert computes which rows of a batch, and with which weights. The same
 * rule as `route` in router.ts. Does not know engines.
 */
import { MASKED } from '../tensor/mask.ts'
import type { Gate } from './solved-router.ts'

/** Value of the router mask for an expert that is left out; 0 for one in use. */
export const LEFT_OUT = MASKED

/** Row indices, and a weight for each. */
export interface WeightedRows {
  readonly rows: readonly number[]
  readonly weights: readonly number[]
}

/** How the tokens of one sequence are routed. */
export interface SequenceRouting {
  /** (E): 0 for an expert in use, LEFT_OUT for one left out. */
  readonly mask: Float32Array
  /** Gate solved for the experts in use; undefined routes by the router rows alone. */
  readonly gate?: Gate | undefined
}

/** Rows that one expert computes, and the weight of its output in each. */
export interface ExpertRows extends WeightedRows {
  readonly expert: number
}

export interface RoutingPlan {
  /** Only experts that at least one row has chosen, in ascending order. */
  readonly experts: readonly ExpertRows[]
  /** (N, E): weights of the chosen experts divided by their sum, so that each row sums to 1. */
  readonly shares: Float32Array
  /** (N, E): softmax over all experts. */
  readonly probabilities: Float32Array
}

/**
 * Softmax over all experts, then the k largest, not renormalised (FlexOlmo paper, section 3.3.2).
 * @param logits (N, E): bias, gate and mask included
 */
export function planRouting(logits: Float32Array, N: number, E: number, topK: number): RoutingPlan {
  const byExpert: ({ expert: number; rows: number[]; weights: number[] } | undefined)[] = new Array(E)
  const shares = new Float32Array(N * E)
  const probabilities = new Float32Array(N * E)
  const p = new Float64Array(E)
  for (let row = 0; row < N; row++) {
    let peak = Number.NEGATIVE_INFINITY
    for (let e = 0; e < E; e++) {
      p[e] = logits[row * E + e] as number
      peak = Math.max(peak, p[e] as number)
    }
    let total = 0
    for (let e = 0; e < E; e++) {
      p[e] = Math.exp((p[e] as number) - peak)
      total += p[e] as number
    }
    for (let e = 0; e < E; e++) probabilities[row * E + e] = (p[e] as number) / total
    let chosenTotal = 0
    const chosen = largest(p, topK)
    for (const e of chosen) chosenTotal += p[e] as number
    for (const e of chosen) {
      // An expert that is left out has probability 0 and must not compute.
      if (p[e] === 0) continue
      byExpert[e] ??= { expert: e, rows: [], weights: [] }
      const plan = byExpert[e]
      plan.rows.push(row)
      plan.weights.push((p[e] as number) / total)
      shares[row * E + e] = (p[e] as number) / chosenTotal
    }
  }
  return { experts: byExpert.filter((plan) => plan !== undefined), shares, probabilities }
}

/** Indices of the k largest values; equal values rank by ascending index, as in top-k of the graph. */
function largest(values: Float64Array, k: number): number[] {
  const chosen: number[] = []
  for (let round = 0; round < Math.min(k, values.length); round++) {
    let best = -1
    for (let i = 0; i < values.length; i++) {
      if (!chosen.includes(i) && (best < 0 || (values[i] as number) > (values[best] as number))) best = i
    }
    chosen.push(best)
  }
  return chosen
}
