/**
 * Products of held weights with the many vectors of a prompt. The threads of the kernels expand some rows of a matrix to
 * floats in a buffer that fits the caches, and the engine multiplies them: for many vectors its products are several
 * times as fast as the vector kernels, and no float copy of a model is needed. A few vectors are multiplied in place by
 * the vector kernels. Results are transposed, (O, N), because the engine reads left operands in place but copies right
 * ones. Does not know layers.
 */
import { matMul, type Tensor } from '@tensorflow/tfjs-core'
import { GROUP_ROWS, type Matrix } from '../kernels/matrix-format.ts'
import type { Block } from '../kernels/vector-jobs.ts'
import type { ProductInputs, ProductResults } from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { Compiled, Engine } from '../tensor/engine.ts'
import { swiGlu } from './layer-compiler.ts'
import { runJobs } from './run-jobs.ts'
import type { Turns } from './turns.ts'

/**
 * Up to this many vectors are multiplied in place. On a processor with AVX-512, expanding a matrix takes as long as
 * multiplying it in place with 30 (bf16) to 60 (int8) vectors.
 */
export const FEW_VECTORS = 32
/** Bytes of the buffer for expanded rows: together with a copy of it, half of a usual last-level cache. */
const EXPANDED_BYTES = 8 * 2 ** 20

/** A matrix with the vectors of its block for products in place. */
export interface Multiplied {
  readonly block: Block
  readonly matrix: Matrix
  readonly x: ProductInputs
  readonly y: ProductResults
}

type Held = Pick<Multiplied, 'block' | 'matrix'>

export class PromptProducts {
  readonly #threads: VectorThreads
  /** Expanded rows in shared memory, which engines cannot read, and copies of them. */
  readonly #expanded: Block
  readonly #copies: readonly Float32Array[]
  /** Views of the copies by number of floats: engines recognise an array that they have seen before. */
  readonly #views: readonly Map<number, Float32Array>[] = [new Map(), new Map()]
  /** Products of rows W (R, I): `rows` with x (N, I), `columns` with x (I, N), `gated` of two matrices with SwiGLU. */
  readonly #rows: Compiled
  readonly #columns: Compiled
  readonly #gated: Compiled

  private constructor(threads: VectorThreads, compiled: readonly [Compiled, Compiled, Compiled]) {
    this.#threads = threads
    this.#expanded = threads.block(2 * EXPANDED_BYTES)
    this.#copies = [new Float32Array(EXPANDED_BYTES / 4), new Float32Array(EXPANDED_BYTES / 4)]
    ;[this.#rows, this.#columns, this.#gated] = compiled
  }

  static async create(engine: Engine, threads: VectorThreads): Promise<PromptProducts> {
    const t = (tensor: Tensor | undefined): never => tensor as never
    const options = { interleaved: true }
    const W = { shape: ['R', 'I'] }
    const x = { shape: ['N', 'I'] }
    const rows = await engine.compile(
      (given) => ({ y: matMul(t(given['W']), t(given['x']), false, true) }),
      { inputs: { W, x } },
      options,
    )
    const columns = await engine.compile(
      (given) => ({ y: matMul(t(given['W']), t(given['x'])) }),
      { inputs: { W, x: { shape: ['I', 'N'] } } },
      options,
    )
    const gated = await engine.compile(
      (given) => ({
        y: swiGlu(
          matMul(t(given['W']), t(given['x']), false, true),
          matMul(t(given['up']), t(given['x']), false, true),
        ),
      }),
      { inputs: { W, up: W, x } },
      options,
    )
    return new PromptProducts(threads, [rows, columns, gated])
  }

  /** into (O, n) = W x' for x (n, I), in place if n is small. */
  async multiply(
    one: Multiplied,
    x: Float32Array,
    n: number,
    into: Float32Array,
    turns: Turns,
  ): Promise<void> {
    if (n > FEW_VECTORS) return this.rows(one, x, n, into, turns)
    const { block, matrix, y } = one
    const { width } = matrix
    for (let i = 0; i < n; i++) one.x.write(n, i, x.subarray(i * width, (i + 1) * width))
    const job = { kind: 'product', block, matrix, x: one.x.address, y: y.address, vectors: n } as const
    await runJobs(this.#threads, [this.#threads.encode(job)], turns)
    for (let i = 0; i < n; i++) setColumn(into, y.vector(i), i, n)
    if (turns.isDue) await turns.take()
  }

  /** into (O, n) = W x' for x (n, I). */
  async rows(held: Held, x: Float32Array, n: number, into: Float32Array, turns: Turns): Promise<void> {
    await this.#pieces([held], turns, async ([W], R, from) => {
      const y = into.subarray(from * n, (from + R) * n)
      await this.#rows.run({ W: W as Float32Array, x }, { y }, { R, I: held.matrix.width, N: n })
    })
  }

  /** into (O, n) = W x for x (I, n). */
  async columns(held: Held, x: Float32Array, n: number, into: Float32Array, turns: Turns): Promise<void> {
    await this.#pieces([held], turns, async ([W], R, from) => {
      const y = into.subarray(from * n, (from + R) * n)
      await this.#columns.run({ W: W as Float32Array, x }, { y }, { R, I: held.matrix.width, N: n })
    })
  }

  /** into (O, n) = silu(G x') * (U x') for x (n, I). */
  async gated(
    gate: Held,
    up: Held,
    x: Float32Array,
    n: number,
    into: Float32Array,
    turns: Turns,
  ): Promise<void> {
    await this.#pieces([gate, up], turns, async ([W, U], R, from) => {
      const y = into.subarray(from * n, (from + R) * n)
      await this.#gated.run(
        { W: W as Float32Array, up: U as Float32Array, x },
        { y },
        { R, I: gate.matrix.width, N: n },
      )
    })
  }

  async dispose(): Promise<void> {
    for (const compiled of [this.#rows, this.#columns, this.#gated]) await compiled.dispose()
  }

  /** Expands matrices of one shape, some rows at a time. */
  async #pieces(
    matrices: readonly Held[],
    turns: Turns,
    action: (expanded: readonly Float32Array[], rows: number, from: number) => Promise<void>,
  ): Promise<void> {
    const { rows: all, width } = (matrices[0] as Held).matrix
    const rowsAtOnce = GROUP_ROWS * Math.max(1, Math.floor(EXPANDED_BYTES / (4 * width) / GROUP_ROWS))
    for (let from = 0; from < all; from += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, all - from)
      this.#threads.run(
        matrices.map(({ block, matrix }, i) => ({
          ...{ kind: 'expand', block, matrix, from, rows },
          ...{ to: this.#expanded, address: i * EXPANDED_BYTES },
        })),
      )
      const expanded = matrices.map((_, i) => {
        const view = this.#view(i, rows * width)
        view.set(new Float32Array(this.#expanded.buffer, i * EXPANDED_BYTES, rows * width))
        return view
      })
      await action(expanded, rows, from)
      if (turns.isDue) await turns.take()
    }
  }

  #view(index: number, floats: number): Float32Array {
    const views = this.#views[index] as Map<number, Float32Array>
    let view = views.get(floats)
    if (view === undefined) {
      view = (this.#copies[index] as Float32Array).subarray(0, floats)
      views.set(floats, view)
    }
    return view
  }
}

/** Sets column i of a matrix with n columns. */
export function setColumn(matrix: Float32Array, column: Float32Array, i: number, n: number): void {
  for (let row = 0, at = i; row < column.length; row++, at += n) matrix[at] = column[row] as number
}
