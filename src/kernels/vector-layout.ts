/**
 * Memory layouts of vectors and matrices that the vector kernels read and write: matrices in pairs of rows, vectors
 * interleaved or contiguous, floats or quantized. Does not know threads.
 */

import type { BlockLayout } from './block-layout.ts'
import { type Bits, QUANTIZED_BLOCK } from './quantized.ts'
import type { VectorKernels } from './vector-kernels.ts'
import { VECTOR_HEADER_BYTES, VECTORS_AT_ONCE } from './vector-products.ts'

/** Maximum columns of a tile: four vectors and two rows of this width fit the L1 cache (32 KiB). */
const MAX_COLUMNS = 704

/** Columns of one tile of a matrix of this width: a multiple of four. */
export function tileColumns(width: number): number {
  const tiles = Math.ceil(width / MAX_COLUMNS)
  return Math.ceil(width / tiles / 4) * 4
}

/**
 * Copies a matrix (rows, width), row-major, into the order in which the products read it: tile after tile of columns,
 * within a tile pair after pair of rows, within a pair alternating four values of the upper row and four of the lower.
 */
export function pairRows(source: Float32Array, target: Float32Array, width: number): void {
  const rows = source.length / width
  const columns = tileColumns(width)
  for (let row = 0; row < rows; row++) {
    for (let tile = 0; tile < width; tile += columns) {
      const length = Math.min(columns, width - tile)
      let at = pairedSize(rows, tile) + (row >> 1) * 2 * length + (row & 1) * 4
      const from = row * width + tile
      for (let i = from; i < from + length; i += 4, at += 8) {
        target[at] = source[i] as number
        target[at + 1] = source[i + 1] as number
        target[at + 2] = source[i + 2] as number
        target[at + 3] = source[i + 3] as number
      }
    }
  }
}

/** Number of floats of `rows` paired rows; an odd last row is paired with unused space. */
export function pairedSize(rows: number, width: number): number {
  return Math.ceil(rows / 2) * 2 * width
}

/**
 * Number of interleaved vectors in the group that holds vector v of n: 1, 2 or 4. Three vectors use the layout of
 * four.
 */
function lanesOf(n: number, v: number): number {
  const lanes = Math.min(VECTORS_AT_ONCE, n - (v & -VECTORS_AT_ONCE))
  return lanes === 3 ? 4 : lanes
}

/** Space for up to `capacity` float vectors that products read or write, interleaved or contiguous. */
export class VectorRegion {
  readonly address: number
  readonly width: number
  /** Floats reserved for one vector: the width rounded up to a multiple of four. */
  readonly #stride: number
  readonly #capacity: number
  readonly #isInterleaved: boolean
  #floats: Float32Array = new Float32Array(0)

  constructor(layout: BlockLayout, capacity: number, width: number, isInterleaved: boolean) {
    this.width = width
    this.#stride = Math.ceil(width / 4) * 4
    this.#capacity = capacity
    this.#isInterleaved = isInterleaved
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
    return this.address + 4 * ((v - lane) * this.#stride + lane * (this.#isInterleaved ? 4 : this.#stride))
  }

  /** Bytes between the starts of two consecutive groups of four values of vector v of n. */
  step(n: number, v: number): number {
    return this.#isInterleaved ? 16 * lanesOf(n, v) : 16
  }

  /** The floats that n vectors occupy, as a view. */
  floats(n: number): Float32Array {
    const whole = n - (n % VECTORS_AT_ONCE)
    const lanes = whole === n ? 0 : this.#isInterleaved ? lanesOf(n, n - 1) : n - whole
    return this.#floats.subarray(0, (whole + lanes) * this.#stride)
  }
}

/**
 * `count` contiguous float vectors, one after the other. Kernels write multiples of four floats, so when the width is
 * not a multiple of four, vectors must be written in ascending order.
 */
export class PlainVectors {
  readonly #address: number
  readonly #count: number
  readonly #width: number
  #view: Float32Array = new Float32Array(0)

  constructor(layout: BlockLayout, count: number, width: number) {
    // A kernel may write up to three floats after the last vector.
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

  /** The first n vectors, as a view. */
  first(n: number): Float32Array {
    return this.#view.subarray(0, n * this.#width)
  }
}

/** Space for up to `capacity` quantized vectors, the input of products with quantized matrices. */
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

  /** Quantizes `source`, from index `from` on, into vector v. */
  write(v: number, source: Float32Array, from: number): void {
    const at = this.address + v * quantizedVectorBytes(this.width)
    quantizeVector(this.#buffer, at, source, from, this.width, this.#bits)
  }
}

/** Bytes of one quantized vector. */
function quantizedVectorBytes(width: number): number {
  return VECTOR_HEADER_BYTES + 2 * width
}

/**
 * Writes a vector as one float scale and 16-bit integers, which are so precise that only the quantization of the
 * weights costs accuracy. For 4-bit weights, each block of 32 holds the values of even index before those of odd index,
 * since two weights share a byte.
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

/** Vectors that a product reads: floats, or quantized if its matrix is. */
export type VectorInput = VectorRegion | QuantizedRegion

/** Writes vector b of `from` as vector i of the n vectors that a product will read from `to`. */
export function writeVector(
  kernels: VectorKernels,
  from: PlainVectors,
  b: number,
  to: VectorInput,
  n: number,
  i: number,
): void {
  if (to instanceof VectorRegion) kernels.interleave(from.at(b), to.at(i), to.step(n, i), to.width)
  else to.write(i, from.first(b + 1), b * to.width)
}
