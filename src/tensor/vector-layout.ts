/**
 * Where things lie in a block of vector-threads.ts: matrices, and regions of vectors in the order that
 * its kernels read, several interleaved in groups of four, two or one. Knows no thread.
 */
import { type Bits, QUANTIZED_BLOCK } from './quantized.ts'
import { VECTOR_HEAD_BYTES, VECTORS_AT_ONCE } from './vector-products.ts'

const ALIGNMENT_BYTES = 64

/** Hands out addresses; `bytes` is what the block must have in the end. */
export class BlockLayout {
  bytes = 0

  /** Address of room for `count` floats or 32-bit integers. */
  reserve(count: number): number {
    const at = this.bytes
    this.bytes = Math.ceil((at + 4 * count) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return at
  }
}

/** Four vectors and two rows of so many columns stay in the nearest cache (32 KiB) while the rows pass. */
const MAX_COLUMNS = 704

/** Columns that are read together, a multiple of four. */
export function columnsOf(width: number): number {
  const sets = Math.ceil(width / MAX_COLUMNS)
  return Math.ceil(width / sets / 4) * 4
}

/**
 * A matrix (rows, width) in the order that its products read it: set after set of columns, in each the pairs of
 * rows one after the other, in each four values of the upper row, four of the lower, in turns.
 */
export function pairRows(source: Float32Array, target: Float32Array, width: number): void {
  const rows = source.length / width
  const columns = columnsOf(width)
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

/** With how many others vector v of n lies interleaved, itself included. Three leave room for a fourth. */
function lanesOf(n: number, v: number): number {
  const lanes = Math.min(VECTORS_AT_ONCE, n - (v & -VECTORS_AT_ONCE))
  return lanes === 3 ? 4 : lanes
}

/** Vectors that a job reads. */
export interface VectorInput {
  readonly address: number
  bind(buffer: SharedArrayBuffer): void
  /** Vector v of n: `source` from `from` on. */
  write(n: number, v: number, source: Float32Array, from: number): void
}

/** Up to `capacity` vectors of `width` floats, interleaved in fours or each on its own. */
export class VectorRegion implements VectorInput {
  readonly address: number
  readonly #width: number
  /** Values of one vector, up to a whole group of four. */
  readonly #stride: number
  readonly #capacity: number
  readonly #interleaved: boolean
  #floats: Float32Array = new Float32Array(0)

  constructor(layout: BlockLayout, capacity: number, width: number, interleaved: boolean) {
    this.#width = width
    this.#stride = Math.ceil(width / 4) * 4
    this.#capacity = capacity
    this.#interleaved = interleaved
    this.address = layout.reserve(this.#room)
  }

  get #room(): number {
    return Math.ceil(this.#capacity / VECTORS_AT_ONCE) * VECTORS_AT_ONCE * this.#stride
  }

  bind(buffer: SharedArrayBuffer): void {
    this.#floats = new Float32Array(buffer, this.address, this.#room)
  }

  write(n: number, v: number, source: Float32Array, from: number): void {
    const floats = this.#floats
    const step = this.#step(n, v)
    const end = from + this.#width
    for (let i = from, at = this.#start(v); i < end; i += 4, at += step) {
      floats[at] = source[i] as number
      floats[at + 1] = source[i + 1] as number
      floats[at + 2] = source[i + 2] as number
      floats[at + 3] = source[i + 3] as number
    }
  }

  read(n: number, v: number, target: Float32Array, to: number): void {
    const floats = this.#floats
    const step = this.#step(n, v)
    const end = to + this.#width
    for (let i = to, at = this.#start(v); i < end; i += 4, at += step) {
      for (let lane = 0; lane < Math.min(4, end - i); lane++) target[i + lane] = floats[at + lane] as number
    }
  }

  /** Add `weight` times vector v to the target. */
  addTo(n: number, v: number, weight: number, target: Float32Array, to: number): void {
    const floats = this.#floats
    const step = this.#step(n, v)
    const end = to + this.#width
    for (let i = to, at = this.#start(v); i < end; i += 4, at += step) {
      for (let lane = 0; lane < 4; lane++) {
        target[i + lane] = (target[i + lane] as number) + weight * (floats[at + lane] as number)
      }
    }
  }

  #start(v: number): number {
    const lane = v % VECTORS_AT_ONCE
    return (v - lane) * this.#stride + lane * (this.#interleaved ? 4 : this.#stride)
  }

  #step(n: number, v: number): number {
    return this.#interleaved ? 4 * lanesOf(n, v) : 4
  }
}

/** Up to `capacity` encoded vectors for matrices of codes. */
export class EncodedRegion implements VectorInput {
  readonly address: number
  readonly #width: number
  readonly #bits: Bits
  #buffer = new SharedArrayBuffer(0)

  constructor(layout: BlockLayout, capacity: number, width: number, bits: Bits) {
    this.#width = width
    this.#bits = bits
    this.address = layout.reserve((capacity * encodedBytes(width)) / 4)
  }

  bind(buffer: SharedArrayBuffer): void {
    this.#buffer = buffer
  }

  write(_n: number, v: number, source: Float32Array, from: number): void {
    const at = this.address + v * encodedBytes(this.#width)
    encodeVector(this.#buffer, at, source, from, this.#width, this.#bits)
  }
}

/** Bytes of a vector as the coded products read it. */
function encodedBytes(width: number): number {
  return VECTOR_HEAD_BYTES + 2 * width
}

/**
 * A vector in 16-bit numbers and one scale: precise enough that only the weights lose. Within a block of 32,
 * 4-bit codes have all even values in front of all odd ones, as two fit a byte.
 */
function encodeVector(
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
  const values = new Int16Array(buffer, address + VECTOR_HEAD_BYTES, width)
  for (let i = 0; i < width; i++) {
    const inBlock = i % QUANTIZED_BLOCK
    const at = bits === 8 ? i : i - inBlock + (inBlock >> 1) + (QUANTIZED_BLOCK / 2) * (inBlock & 1)
    values[at] = Math.round((source[from + i] as number) * inverse)
  }
}
