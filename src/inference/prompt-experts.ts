/**
 * Runs the chosen experts of a layer for the tokens of a prompt, by expansion of their weights. As in
 * vector-experts.ts, low-rank experts share the products with the public weights. Does not know attention or caches.
 */
import { add, type Tensor } from '@tensorflow/tfjs-core'
import { type FfnProjection, PUBLIC_EXPERT } from '../lib/tensor-names.ts'
import type { ExpertRows } from '../model/routing-plan.ts'
import type { Compiled, Engine } from '../tensor/engine.ts'
import type { HeldFactors, HeldWeights } from './held-weights.ts'
import { swiGlu } from './layer-compiler.ts'
import type { PromptProducts } from './prompt-products.ts'
import type { Turns } from './turns.ts'

export class PromptExperts {
  readonly #held: HeldWeights
  readonly #products: PromptProducts
  /** SwiGLU of sums: gate + gateDifference and up + upDifference, (F, N) each. */
  readonly #activate: Compiled

  private constructor(held: HeldWeights, products: PromptProducts, activate: Compiled) {
    this.#held = held
    this.#products = products
    this.#activate = activate
  }

  static async create(engine: Engine, held: HeldWeights, products: PromptProducts): Promise<PromptExperts> {
    const shape = { shape: [held.config.intermediateSize, 'N'] }
    const activate = await engine.compile(
      (t) => {
        const sum = (name: string): Tensor => add(t[name] as Tensor, t[`${name}Difference`] as Tensor)
        return { y: swiGlu(sum('gate'), sum('up')) }
      },
      { inputs: { gate: shape, gateDifference: shape, up: shape, upDifference: shape } },
      { interleaved: true },
    )
    return new PromptExperts(held, products, activate)
  }

  /**
   * Sets yT (C, T) to the weighted sums of the chosen experts' outputs for x (T, C).
   */
  async run(
    layer: number,
    x: Float32Array,
    T: number,
    chosen: readonly ExpertRows[],
    yT: Float32Array,
    turns: Turns,
  ): Promise<void> {
    yT.fill(0)
    const guests = chosen.filter(({ expert }) => this.#held.factors(layer, expert) !== undefined)
    const isShared = guests.length > 0
    for (const one of chosen) {
      if (guests.includes(one) || (isShared && one.expert === PUBLIC_EXPERT)) continue
      await this.#addWhole(layer, x, T, one, yT, turns)
    }
    if (isShared) {
      const publicRows = chosen.find(({ expert }) => expert === PUBLIC_EXPERT)
      await this.#addLowRank(layer, x, T, guests, publicRows, yT, turns)
    }
  }

  async dispose(): Promise<void> {
    await this.#activate.dispose()
  }

  async #addWhole(
    layer: number,
    x: Float32Array,
    T: number,
    { expert, rows, weights }: ExpertRows,
    yT: Float32Array,
    turns: Turns,
  ): Promise<void> {
    const { hiddenSize: C, intermediateSize: F } = this.#held.config
    const { block, matrices } = this.#held.ffn(layer, expert)
    const held = (name: FfnProjection) => ({ block, matrix: matrices[name] })
    const n = rows.length
    const inner = new Float32Array(F * n)
    await this.#products.gated(held('gate_proj'), held('up_proj'), gatherRows(x, rows, T, C), n, inner, turns)
    const out = new Float32Array(C * n)
    await this.#products.columns(held('down_proj'), inner, n, out, turns)
    addColumns(out, weights, rows, yT, T)
  }

  /** Adds the outputs of low-rank experts and of the public expert. */
  async #addLowRank(
    layer: number,
    x: Float32Array,
    T: number,
    guests: readonly ExpertRows[],
    publicRows: ExpertRows | undefined,
    yT: Float32Array,
    turns: Turns,
  ): Promise<void> {
    const { hiddenSize: C, intermediateSize: F } = this.#held.config
    const { block, matrices } = this.#held.ffn(layer, PUBLIC_EXPERT)
    const used = [...new Set([...guests, publicRows].flatMap((one) => one?.rows ?? []))].sort((a, b) => a - b)
    const indexOf = new Map(used.map((row, index) => [row, index]))
    const n = used.length
    const own = gatherRows(x, used, T, C)
    const gate = new Float32Array(F * n)
    const up = new Float32Array(F * n)
    await this.#products.rows({ block, matrix: matrices.gate_proj }, own, n, gate, turns)
    await this.#products.rows({ block, matrix: matrices.up_proj }, own, n, up, turns)
    const sum = new Float32Array(F * n)
    const zeros = new Float32Array(publicRows === undefined ? 0 : F * publicRows.rows.length)
    for (const one of publicRows === undefined ? guests : [publicRows, ...guests]) {
      const { expert, rows, weights } = one
      const m = rows.length
      const indices = rows.map((row) => indexOf.get(row) as number)
      const factors = this.#held.factors(layer, expert)
      const mine = gatherRows(x, rows, T, C)
      const difference = async (name: FfnProjection): Promise<Float32Array> =>
        factors === undefined
          ? zeros
          : this.#difference(factors, name, F, m, turns, (A, low) =>
              this.#products.rows(A, mine, m, low, turns),
            )
      const inner = new Float32Array(F * m)
      await this.#activate.run(
        {
          gate: gatherColumns(gate, indices, n),
          gateDifference: await difference('gate_proj'),
          up: gatherColumns(up, indices, n),
          upDifference: await difference('up_proj'),
        },
        { y: inner },
        { N: m },
      )
      addColumns(inner, weights, indices, sum, n)
      if (factors === undefined) continue
      const out = await this.#difference(factors, 'down_proj', C, m, turns, (A, low) =>
        this.#products.columns(A, inner, m, low, turns),
      )
      addColumns(out, weights, rows, yT, T)
    }
    // The down projection is linear, so its public weight is applied once, to the weighted sum of the inner vectors.
    const out = new Float32Array(C * n)
    await this.#products.columns({ block, matrix: matrices.down_proj }, sum, n, out, turns)
    addColumns(
      out,
      used.map(() => 1),
      used,
      yT,
      T,
    )
  }

  /** B (A x) for a projection of a low-rank expert: (O, m), where `reduce` computes A x. */
  async #difference(
    { block, A, B }: HeldFactors,
    name: FfnProjection,
    O: number,
    m: number,
    turns: Turns,
    reduce: (
      A: { block: HeldFactors['block']; matrix: HeldFactors['A'][FfnProjection] },
      low: Float32Array,
    ) => Promise<void>,
  ): Promise<Float32Array> {
    const low = new Float32Array(A[name].rows * m)
    await reduce({ block, matrix: A[name] }, low)
    const out = new Float32Array(O * m)
    await this.#products.columns({ block, matrix: B[name] }, low, m, out, turns)
    return out
  }
}

/** Some rows of x (T, width); x itself if that is all of them. */
function gatherRows(x: Float32Array, rows: readonly number[], T: number, width: number): Float32Array {
  if (rows.length === T) return x
  const into = new Float32Array(rows.length * width)
  rows.forEach((row, i) => {
    into.set(x.subarray(row * width, (row + 1) * width), i * width)
  })
  return into
}

/** Some columns of a matrix with n columns; the matrix itself if that is all of them. */
function gatherColumns(matrix: Float32Array, columns: readonly number[], n: number): Float32Array {
  const m = columns.length
  if (m === n) return matrix
  const into = new Float32Array((matrix.length / n) * m)
  for (let row = 0; row * n < matrix.length; row++) {
    for (let i = 0; i < m; i++) into[row * m + i] = matrix[row * n + (columns[i] as number)] as number
  }
  return into
}

/** Adds weights[i] times column i of `from` to column columns[i] of `to`, which has n columns. */
function addColumns(
  from: Float32Array,
  weights: readonly number[],
  columns: readonly number[],
  to: Float32Array,
  n: number,
): void {
  const m = columns.length
  for (let row = 0, at = 0; at < from.length; row++) {
    for (let i = 0; i < m; i++, at++) {
      const target = row * n + (columns[i] as number)
      to[target] = (to[target] as number) + (weights[i] as number) * (from[at] as number)
    }
  }
}
