/**
 * Buffers of rows that one function after another reads and fills, all in one memory, and the kernels that move rows
 * between them. Knows no function.
 */
import { type RowKernels, rowModule } from '../tensor/row-kernels.ts'
import { BlockLayout } from '../tensor/vector-layout.ts'
import { PAGE_BYTES } from '../tensor/wasm-encode.ts'

/** A buffer of rows; asking for the same number of rows gives the same array. */
export class Rows {
  readonly #address: number
  readonly #maxRows: number
  readonly #width: number
  readonly #views = new Map<number, Float32Array>()
  #buffer = new ArrayBuffer(0)

  constructor(layout: BlockLayout, maxRows: number, width: number) {
    this.#address = layout.reserve(maxRows * width)
    this.#maxRows = maxRows
    this.#width = width
  }

  bind(buffer: ArrayBuffer): void {
    this.#buffer = buffer
  }

  get all(): Float32Array {
    return this.first(this.#maxRows)
  }

  first(rows: number): Float32Array {
    let view = this.#views.get(rows)
    if (view === undefined) {
      view = new Float32Array(this.#buffer, this.#address, rows * this.#width)
      this.#views.set(rows, view)
    }
    return view
  }
}

/** Numbers of rows, and a weight for each. */
export interface WeightedRows {
  readonly rows: readonly number[]
  readonly weights: readonly number[]
}

/** First all buffers are reserved, then it is opened, then they are used. */
export class RowMemory {
  readonly #layout = new BlockLayout()
  readonly #maxRows: number
  readonly #numbers: number
  readonly #weights: number
  readonly #reserved: Rows[] = []
  #view = { numbers: new Int32Array(0), weights: new Float32Array(0) }
  #kernels: RowKernels | undefined

  /** @param maxRows of every buffer. */
  constructor(maxRows: number) {
    this.#maxRows = maxRows
    this.#numbers = this.#layout.reserve(maxRows)
    this.#weights = this.#layout.reserve(maxRows)
  }

  rows(width: number): Rows {
    const rows = new Rows(this.#layout, this.#maxRows, width)
    this.#reserved.push(rows)
    return rows
  }

  /** @throws RangeError over 4 GiB, or where the system has no such room. */
  open(): void {
    const pages = Math.ceil(this.#layout.bytes / PAGE_BYTES)
    const memory = new WebAssembly.Memory<ArrayBuffer>({ initial: pages, maximum: pages, shared: false })
    const { buffer } = memory
    for (const rows of this.#reserved) rows.bind(buffer)
    this.#view = {
      numbers: new Int32Array(buffer, this.#numbers, this.#maxRows),
      weights: new Float32Array(buffer, this.#weights, this.#maxRows),
    }
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(rowModule()), { env: { memory } })
    this.#kernels = exports as RowKernels
  }

  /** into[i] = all[rows[i]], `width` floats each; both of this memory. */
  take(all: Float32Array, rows: readonly number[], into: Float32Array, width: number): Float32Array {
    this.#view.numbers.set(rows)
    this.#kernels?.take(all.byteOffset, this.#numbers, into.byteOffset, rows.length, 4 * width)
    return into
  }

  /** all[rows[i]] += weights[i] * from[i], `width` floats each; both of this memory. */
  add(all: Float32Array, { rows, weights }: WeightedRows, from: Float32Array, width: number): void {
    this.#view.numbers.set(rows)
    this.#view.weights.set(weights)
    const { byteOffset: at } = all
    this.#kernels?.add(at, this.#numbers, this.#weights, from.byteOffset, rows.length, 4 * width)
  }
}
