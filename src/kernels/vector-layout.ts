/**
 * Where vectors and matrices lie in a block of vector-threads.ts, in the order that its kernels read: matrices in
 * pairs of rows, vectors interleaved in fours, twos or each on its own, coded or plain. Knows no thread.
 */

import type { BlockLayout } from './block-layout.ts'
import { type Bits, QUANTIZED_BLOCK } from './quantized.ts'
import { VECTOR_HEADER_BYTES, VECTORS_AT_ONCE } from './vector-products.ts'

/** Four vectors and two rows of so many columns stay in the nearest cache (32 KiB) while the rows pass. */
const MAX_COLUMNS = 704

/** Columns that are read together, a multiple of four. */
export function tileColumns(width: number): number {
  const sets = Math.ceil(width / MAX_COLUMNS)
  return Math.ceil(width / sets / 4) * 4
}

/**
 * A matrix (rows, width) in the order that its products read it: set after set of columns, in each the pairs of
 * rows one after the other, in each four values of the upper row, four of the lower, in turns.
 */
export function pairRows(source: Float32Array, target: Float32Array, width: number): void {
  const rows = source.length / width
  const columns = tileColumns(width)
  for (let row = 0; row < rows; row++) {
    for (let set = 0; set < width; set += columns) {
      const length = Math.min(columns, width - set)
      let at = pairedSize(rows, set) + (row >> 1) * 2 * length + (row & 1) * 4
      const from = row * width + set
      for (let i = from; i < from + length; i += 4, at += 8) {
        target[at] = source[i] as number
        target[at + 1] = source[i + 1] as number
        target[at + 2] = source[i + 2] as number
        target[at + 3] = source[i + 3] as number
      }
    }
  }
}

/** Floats of `rows` paired rows, with a neighbour for the last. */
export function pairedSize(rows: number, width: number): number {
  return Math.ceil(rows / 2) * 2 * width
}

/** How many vectors lie interleaved where vector v of n does; three leave room for a fourth. */
function lanesOf(n: number, v: number): number {
  const lanes = Math.min(VECTORS_AT_ONCE, n - (v & -VECTORS_AT_ONCE))
  return lanes === 3 ? 4 : lanes
}

/** Where the products read vectors of floats and write them: up to `capacity`, interleaved or each on its own. */
export class VectorRegion {
  readonly address: number
  readonly width: number
  /** Values of one vector, up to a whole group of four. */
  readonly #stride: number
  readonly #capacity: number
  readonly #interleaved: boolean
  #floats: Float32Array = new Float32Array(0)

  constructor(layout: BlockLayout, capacity: number, width: number, interleaved: boolean) {
    this.width = width
    this.#stride = Math.ceil(width / 4) * 4
    this.#capacity = capacity
    this.#interleaved = interleaved
    this.address = layout.reserve(this.#size)
  }

  get #size(): number {
    return Math.ceil(this.#capacity / VECTORS_AT_ONCE) * VECTORS_AT_ONCE * this.#stride
  }

  bind(buffer: SharedArrayBuffer): void {
    this.#floats = new Float32Array(buffer, this.address, this.#size)
  }

  /** Address of the first four values of vector v. */
  at(v: number): number {
    const lane = v % VECTORS_AT_ONCE
    return this.address + 4 * ((v - lane) * this.#stride + lane * (this.#interleaved ? 4 : this.#stride))
  }

  /** Bytes from one four of vector v of n to its next. */
  step(n: number, v: number): number {
    return this.#interleaved ? 16 * lanesOf(n, v) : 16
  }

  /** What n vectors take. */
  floats(n: number): Float32Array {
    const whole = n - (n % VECTORS_AT_ONCE)
    const lanes = whole === n ? 0 : this.#interleaved ? lanesOf(n, n - 1) : n - whole
    return this.#floats.subarray(0, (whole + lanes) * this.#stride)
  }
}

/**
 * `count` vectors of floats as they are, one after the other. Kernels write whole fours: a vector of another width is
 * to be written before the one behind it.
 */
export class PlainVectors {
  readonly #address: number
  readonly #count: number
  readonly #width: number
  #view: Float32Array = new Float32Array(0)

  constructor(layout: BlockLayout, count: number, width: number) {
    // The last one may be written up to a whole four.
    this.#address = layout.reserve(count * width + 3)
    this.#count = count
    this.#width = width
  }

  bind(buffer: SharedArrayBuffer): void {
    this.#view = new Float32Array(buffer, this.#address, this.#count * this.#width)
  }

  /** Address of vector v. */
  at(v: number): number {
    return this.#address + 4 * v * this.#width
  }

  /** The first n. */
  first(n: number): Float32Array {
    return this.#view.subarray(0, n * this.#width)
  }
}

/** Up to `capacity` encoded vectors for matrices of codes. */
export class QuantizedRegion {
  readonly address: number
  readonly width: number
  readonly #bits: Bits
  #buffer = new SharedArrayBuffer(0)

  constructor(layout: BlockLayout, capacity: number, width: number, bits: Bits) {
    this.width = width
    this.#bits = bits
    this.address = layout.reserve((capacity * quantizedVectorBytes(width)) / 4)
  }

  bind(buffer: SharedArrayBuffer): void {
    this.#buffer = buffer
  }

  /** Vector v: `source` from `from` on. */
  write(v: number, source: Float32Array, from: number): void {
    const at = this.address + v * quantizedVectorBytes(this.width)
    quantizeVector(this.#buffer, at, source, from, this.width, this.#bits)
  }
}

/** Bytes of a vector as the coded products read it. */
function quantizedVectorBytes(width: number): number {
  return VECTOR_HEADER_BYTES + 2 * width
}

/**
 * A vector in 16-bit numbers and one scale: precise enough that only the weights lose. Within a block of 32,
 * 4-bit codes have all even values in front of all odd ones, as two fit a byte.
 */
function quantizeVector(
  buffer: SharedArrayBuffer,
  address: number,
  source: Float32Array,
  from: number,
  width: number,
  bits: 8 | 4,
): void {
  let peak = 0
  for (let i = from; i < from + width; i++) peak = Math.max(peak, Math.abs(source[i] as number))
  const scale = peak / 32_767
  const inverse = scale === 0 ? 0 : 1 / scale
  new Float32Array(buffer, address, 1)[0] = scale
  const values = new Int16Array(buffer, address + VECTOR_HEADER_BYTES, width)
  for (let i = 0; i < width; i++) {
    const inBlock = i % QUANTIZED_BLOCK
    const at = bits === 8 ? i : i - inBlock + (inBlock >> 1) + (QUANTIZED_BLOCK / 2) * (inBlock & 1)
    values[at] = Math.round((source[from + i] as number) * inverse)
  }
}
