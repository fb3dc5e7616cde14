/**
 * The experts of one layer that are the public FFN plus a difference of low rank, and the public expert beside them:
 * the public products of a token are computed once, whichever of them it chose. Knows no cache and no other experts.
 */
import type { ModelConfig } from './config.ts'
import type { LowRankParts } from './low-rank-parts.ts'
import { PUBLIC_EXPERT } from './params.ts'
import type { ExpertRows } from './routing-plan.ts'
import { Rows } from './rows.ts'

export class LowRankMixture {
  readonly #parts: LowRankParts
  readonly #widths: { readonly C: number; readonly F: number }
  /** Of all tokens that chose one of the experts. */
  readonly #x: Rows
  readonly #gate: Rows
  readonly #up: Rows
  /** Weighted sum of what the experts give to the last projection, which is linear and public. */
  readonly #sum: Rows
  /** Of one expert's tokens. */
  readonly #own: { readonly x: Rows; readonly gate: Rows; readonly up: Rows }
  readonly #inner: Rows
  readonly #y: Rows

  /** @param maxRows most tokens of one call. */
  constructor(parts: LowRankParts, { hiddenSize: C, intermediateSize: F }: ModelConfig, maxRows: number) {
    this.#parts = parts
    this.#widths = { C, F }
    const rows = (width: number): Rows => new Rows(maxRows, width)
    this.#x = rows(C)
    this.#gate = rows(F)
    this.#up = rows(F)
    this.#sum = rows(F)
    this.#own = { x: rows(C), gate: rows(F), up: rows(F) }
    this.#inner = rows(F)
    this.#y = rows(C)
  }

  /** Whether `add` takes this expert. */
  has(expert: number): boolean {
    return this.#parts.experts.has(expert)
  }

  /** Add the weighted outputs of the chosen experts for their rows of u to the same rows of y, both (N, C). */
  async add(layer: number, u: Float32Array, y: Float32Array, chosen: readonly ExpertRows[]): Promise<void> {
    const { C, F } = this.#widths
    const used = [...new Set(chosen.flatMap(({ rows }) => rows))].sort((a, b) => a - b)
    const places = new Map(used.map((row, place) => [row, place]))
    const n = used.length
    const x = take(u, used, this.#x.first(n), C)
    const gate = this.#gate.first(n)
    const up = this.#up.first(n)
    const sum = this.#sum.first(n).fill(0)
    await this.#parts.projections(layer).run({ x }, { gate, up }, { N: n })
    for (const { expert, rows, weights } of chosen) {
      const m = rows.length
      const own = rows.map((row) => places.get(row) as number)
      const mine = (all: Float32Array, into: Rows, width: number): Float32Array =>
        m === n ? all : take(all, own, into.first(m), width)
      const products = { gate: mine(gate, this.#own.gate, F), up: mine(up, this.#own.up, F) }
      const inner = this.#inner.first(m)
      if (expert === PUBLIC_EXPERT) await this.#parts.activate.run(products, { inner }, { N: m })
      else {
        const part = this.#y.first(m)
        const inputs = { x: mine(x, this.#own.x, C), ...products }
        await this.#parts.adapt(layer, expert).run(inputs, { inner, y: part }, { N: m })
        addRows(y, rows, part, C, weights)
      }
      addRows(sum, own, inner, F, weights)
    }
    const out = this.#y.first(n)
    await this.#parts.down(layer).run({ inner: sum }, { y: out }, { N: n })
    addRows(y, used, out, C)
  }
}

/** The rows of a matrix one after the other. */
function take(all: Float32Array, rows: readonly number[], into: Float32Array, width: number): Float32Array {
  rows.forEach((row, i) => {
    into.set(all.subarray(row * width, (row + 1) * width), i * width)
  })
  return into
}

/** Add each row of `from`, times its weight or 1, to the row of `all` that it belongs to. */
function addRows(
  all: Float32Array,
  rows: readonly number[],
  from: Float32Array,
  width: number,
  weights?: readonly number[],
): void {
  rows.forEach((row, i) => {
    const weight = weights === undefined ? 1 : (weights[i] as number)
    const to = row * width
    const at = i * width
    for (let c = 0; c < width; c++) all[to + c] = (all[to + c] as number) + weight * (from[at + c] as number)
  })
}
