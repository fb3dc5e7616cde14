/**
 * Row buffers that the decoder passes from one compiled layer to the next, all in one WebAssembly memory, and the
 * kernels that gather and scatter rows between them. Does not know layers.
 */

import { BlockLayout } from '../kernels/block-layout.ts'
import { openRowKernels, type RowKernels } from '../kernels/row-kernels.ts'
import type { WeightedRows } from '../model/routing-plan.ts'

/** A buffer of rows. Views of the same number of rows are the same array, which engines recognise. */
export class Rows {
  readonly #buffer: () => ArrayBuffer
  readonly #address: number
  readonly #maxRows: number
  readonly #width: number
  readonly #views = new Map<number, Float32Array>()

  /**
   * @param buffer gives the memory, at the first use
   * @param address byte offset in it
   * @param width floats of one row
   */
  constructor(buffer: () => ArrayBuffer, address: number, maxRows: number, width: number) {
    this.#buffer = buffer
    this.#address = address
    this.#maxRows = maxRows
    this.#width = width
  }

  /** A buffer in its own memory, for rows that no kernel gathers or scatters. */
  static alone(maxRows: number, width: number): Rows {
    const buffer = new ArrayBuffer(4 * maxRows * width)
    return new Rows(() => buffer, 0, maxRows, width)
  }

  /** All rows, as a view. */
  get all(): Float32Array {
    return this.first(this.#maxRows)
  }

  /** The first rows, as a view. @throws RangeError for more rows than the buffer has. */
  first(rows: number): Float32Array {
    let view = this.#views.get(rows)
    if (view === undefined) {
      if (rows > this.#maxRows) throw new RangeError(`expected at most ${this.#maxRows} rows, got ${rows}`)
      view = new Float32Array(this.#buffer(), this.#address, rows * this.#width)
      this.#views.set(rows, view)
    }
    return view
  }
}

/** The allocated memory. */
interface Opened {
  readonly buffer: ArrayBuffer
  readonly kernels: RowKernels
  readonly indices: Int32Array
  readonly weights: Float32Array
}

/** A memory for several buffers: all of them are reserved first, and the memory is allocated at its first use. */
export class RowMemory {
  readonly #layout = new BlockLayout()
  readonly #maxRows: number
  readonly #indices: number
  readonly #weights: number
  #opened: Opened | undefined

  /** @param maxRows number of rows of every buffer */
  constructor(maxRows: number) {
    this.#maxRows = maxRows
    this.#indices = this.#layout.reserve(maxRows)
    this.#weights = this.#layout.reserve(maxRows)
  }

  /** Reserves a buffer of `maxRows` rows of `width` floats. @throws Error once the memory is in use. */
  rows(width: number): Rows {
    if (this.#opened !== undefined) throw new Error('the memory of these rows is in use already')
    const address = this.#layout.reserve(this.#maxRows * width)
    return new Rows(() => this.#open().buffer, address, this.#maxRows, width)
  }

  /** into[i] = all[rows[i]], rows of `width` floats; both arrays are views of this memory. @returns `into` */
  gather(all: Float32Array, rows: readonly number[], into: Float32Array, width: number): Float32Array {
    const { kernels, indices } = this.#open()
    indices.set(rows)
    kernels.gather(all.byteOffset, this.#indices, into.byteOffset, rows.length, 4 * width)
    return into
  }

  /** all[rows[i]] += weights[i] * from[i], rows of `width` floats; both arrays are views of this memory. */
  scatterAdd(all: Float32Array, { rows, weights }: WeightedRows, from: Float32Array, width: number): void {
    const opened = this.#open()
    opened.indices.set(rows)
    opened.weights.set(weights)
    const { byteOffset: at } = all
    opened.kernels.scatterAdd(at, this.#indices, this.#weights, from.byteOffset, rows.length, 4 * width)
  }

  /**
   * Allocates the memory at the first call.
   * @throws RangeError for more than 4 GiB, or if the system cannot provide it.
   */
  #open(): Opened {
    if (this.#opened !== undefined) return this.#opened
    const { buffer, kernels } = openRowKernels(this.#layout.bytes)
    this.#opened = {
      buffer,
      kernels,
      indices: new Int32Array(buffer, this.#indices, this.#maxRows),
      weights: new Float32Array(buffer, this.#weights, this.#maxRows),
    }
    return this.#opened
  }
}
