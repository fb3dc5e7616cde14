/**
 * The routing of a composition: gates solved from router statistics if the public text and every expert have them,
 * otherwise the router rows that owners trained. Implements protocols/composition, section "Gate". Does not know
 * engines or files.
 */
import { limit } from '../lib/limits.ts'
import type { Expert } from './params.ts'
import { type Gate, type RouterStatistics, solveGate } from './solved-router.ts'

/** How a composition routes. */
export type RouterKind = 'solved' | 'rows'

/**
 * `auto` solves a gate if all statistics are available; `solved` composes only experts that have statistics; `rows`
 * never solves a gate.
 */
export const ROUTER_CHOICES = ['auto', 'solved', 'rows'] as const
export type RouterChoice = (typeof ROUTER_CHOICES)[number]

/**
 * The gates of a composition.
 * @returns undefined if the public text or any expert lacks statistics, or if there is no expert.
 */
export function gatesOf(
  publicStatistics: RouterStatistics | undefined,
  experts: readonly Pick<Expert, 'statistics'>[],
): Gates | undefined {
  const all = [publicStatistics, ...experts.map(({ statistics }) => statistics)].filter(
    (statistics) => statistics !== undefined,
  )
  return experts.length > 0 && all.length === experts.length + 1 ? new Gates(all) : undefined
}

/**
 * One gate for each set of experts in use, equal to the gate of a composition without the other experts. Solves a gate
 * when it is first requested, and keeps the latest ones.
 */
export class Gates {
  readonly #statistics: readonly RouterStatistics[]
  /** Gates by the experts in use; the most recently used last. */
  readonly #solved = new Map<string, Gate>()

  /** @param statistics those of the public text, then those of the experts in the order of the mixture */
  constructor(statistics: readonly RouterStatistics[]) {
    this.#statistics = statistics
  }

  /**
   * The gate for a router mask (E). Columns of experts that are left out are zero. Returns the same object as before
   * while the gate is kept.
   */
  gate(mask: Float32Array): Gate {
    const inUse = [...mask.keys()].filter((e) => mask[e] === 0)
    const key = inUse.join()
    const gate = this.#solved.get(key) ?? this.#solve(inUse)
    this.#solved.delete(key)
    this.#solved.set(key, gate)
    const fitting = Math.floor(limit('keptGateBytes') / gate.weights.byteLength)
    const most = Math.max(1, Math.min(limit('keptGates'), fitting))
    for (const oldest of this.#solved.keys()) {
      if (this.#solved.size <= most) break
      this.#solved.delete(oldest)
    }
    return gate
  }

  #solve(inUse: readonly number[]): Gate {
    const E = this.#statistics.length
    const n = inUse.length
    const solved = solveGate(inUse.map((e) => this.#statistics[e] as RouterStatistics))
    if (n === E) return solved
    const V = solved.weights.length / n
    const weights = new Float32Array(V * E)
    const offsets = new Float32Array(E)
    inUse.forEach((e, i) => {
      for (let v = 0; v < V; v++) weights[v * E + e] = solved.weights[v * n + i] as number
      offsets[e] = solved.offsets[i] as number
    })
    return { weights, offsets, rowScale: solved.rowScale }
  }
}
