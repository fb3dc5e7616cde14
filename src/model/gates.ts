/**
 * The routing of a composition: gates solved from the router statistics of the public text and of the experts that
 * have any, added to the router rows that owners trained; without statistics, the rows alone. Implements
 * protocols/composition, section "Gate". Does not know engines or files.
 */
import { limit } from '../lib/limits.ts'
import type { Expert } from './params.ts'
import { type Gate, type RouterStatistics, solveGate } from './solved-router.ts'

/** How a composition routes. */
export type RouterKind = 'solved' | 'rows'

/**
 * `auto` solves a gate if the public text and at least one expert have statistics; experts without statistics are
 * routed by their rows beside it. `solved` does the same, but leaves those experts out. `rows` never solves a gate.
 */
export const ROUTER_CHOICES = ['auto', 'solved', 'rows'] as const
export type RouterChoice = (typeof ROUTER_CHOICES)[number]

/**
 * How a composition of these experts routes. Acceptance asks this function, too, so that it measures what is composed.
 * @param experts those that may be composed
 */
export function routingOf(
  choice: RouterChoice,
  publicStatistics: RouterStatistics | undefined,
  experts: readonly Pick<Expert, 'statistics'>[],
): {
  readonly router: RouterKind
  /** For each expert, whether the composition uses it. */
  readonly used: readonly boolean[]
} {
  const has = experts.map(({ statistics }) => statistics !== undefined)
  if (choice === 'rows' || publicStatistics === undefined || !has.includes(true)) {
    return { router: 'rows', used: experts.map(() => true) }
  }
  return { router: 'solved', used: choice === 'solved' ? has : experts.map(() => true) }
}

/** Statistics of a mixture, in its order. */
export function statisticsOf(
  publicStatistics: RouterStatistics | undefined,
  experts: readonly Pick<Expert, 'statistics'>[],
): (RouterStatistics | undefined)[] {
  return [publicStatistics, ...experts.map(({ statistics }) => statistics)]
}

/**
 * One gate for each set of experts in use, equal to the gate of a composition without the other experts. Solves a gate
 * when it is first requested, and keeps the latest ones.
 */
export class Gates {
  readonly #statistics: readonly (RouterStatistics | undefined)[]
  /** Gates by the experts in use; the most recently used last. */
  readonly #solved = new Map<string, Gate>()

  /** @param statistics those of the public text, then those of the experts in the order of the mixture */
  constructor(statistics: readonly (RouterStatistics | undefined)[]) {
    this.#statistics = statistics
  }

  /**
   * The gate for a router mask (E), in which the public expert is in use. Columns of experts that are left out are
   * zero. Returns the same object as before while the gate is kept.
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
    const solved = solveGate(inUse.map((e) => this.#statistics[e]))
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
