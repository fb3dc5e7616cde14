/**
 * Runs the low-rank experts and the public expert of a layer. The products of a token with public weights are computed
 * once, however many of these experts it chose. Does not know caches or other experts.
 */
import { PUBLIC_EXPERT } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import type { ExpertRows } from '../model/routing-plan.ts'
import type { LowRankLayers } from './low-rank-layers.ts'
import type { RowMemory, Rows } from './rows.ts'

export class LowRankMixture {
  readonly #layers: LowRankLayers
  readonly #widths: { readonly C: number; readonly F: number }
  readonly #memory: RowMemory
  /** Buffers for all tokens that chose at least one of these experts. */
  readonly #x: Rows
  readonly #gate: Rows
  readonly #up: Rows
  /** Weighted sum of the experts' inputs to the public down projection, which is linear and so runs once on the sum. */
  readonly #sum: Rows
  /** Buffers for the tokens of one expert. */
  readonly #own: { readonly x: Rows; readonly gate: Rows; readonly up: Rows }
  readonly #inner: Rows
  readonly #y: Rows

  /** @param memory the memory of u and y, not yet in use, with at least as many rows as one call has tokens */
  constructor(layers: LowRankLayers, { hiddenSize: C, intermediateSize: F }: ModelConfig, memory: RowMemory) {
    this.#layers = layers
    this.#widths = { C, F }
    this.#memory = memory
    const rows = (width: number): Rows => memory.rows(width)
    this.#x = rows(C)
    this.#gate = rows(F)
    this.#up = rows(F)
    this.#sum = rows(F)
    this.#own = { x: rows(C), gate: rows(F), up: rows(F) }
    this.#inner = rows(F)
    this.#y = rows(C)
  }

  /** Whether `add` computes this expert. */
  has(expert: number): boolean {
    return this.#layers.experts.has(expert)
  }

  /** Adds the weighted outputs of the chosen experts, for their rows of u, to the same rows of y; both are (N, C). */
  async add(layer: number, u: Float32Array, y: Float32Array, chosen: readonly ExpertRows[]): Promise<void> {
    const { C, F } = this.#widths
    const used = [...new Set(chosen.flatMap(({ rows }) => rows))].sort((a, b) => a - b)
    const indices = new Map(used.map((row, index) => [row, index]))
    const n = used.length
    const memory = this.#memory
    const x = memory.gather(u, used, this.#x.first(n), C)
    const gate = this.#gate.first(n)
    const up = this.#up.first(n)
    const sum = this.#sum.first(n).fill(0)
    await this.#layers.projections(layer).run({ x }, { gate, up }, { N: n })
    for (const { expert, rows, weights } of chosen) {
      const m = rows.length
      const own = rows.map((row) => indices.get(row) as number)
      const mine = (all: Float32Array, into: Rows, width: number): Float32Array =>
        m === n ? all : memory.gather(all, own, into.first(m), width)
      const products = { gate: mine(gate, this.#own.gate, F), up: mine(up, this.#own.up, F) }
      const inner = this.#inner.first(m)
      if (expert === PUBLIC_EXPERT) await this.#layers.activate.run(products, { inner }, { N: m })
      else {
        const difference = this.#y.first(m)
        const inputs = { x: mine(x, this.#own.x, C), ...products }
        await this.#layers.adapt(layer, expert).run(inputs, { inner, y: difference }, { N: m })
        memory.scatterAdd(y, { rows, weights }, difference, C)
      }
      memory.scatterAdd(sum, { rows: own, weights }, inner, F)
    }
    const out = this.#y.first(n)
    await this.#layers.down(layer).run({ inner: sum }, { y: out }, { N: n })
    memory.scatterAdd(y, { rows: used, weights: used.map(() => 1) }, out, C)
  }
}
