/**
 * Where things lie in a block of vector-threads.ts: matrices, and regions of vectors in the order that
 * its kernels read, one vector as it is and several interleaved in groups of four. Knows no thread.
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

/** What a job calls `groups` for n vectors of floats: 0 for one vector as it is. */
export function groupsOf(n: number): number {
  return n === 1 ? 0 : Math.ceil(n / VECTORS_AT_ONCE)
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
    return Math.max(1, groupsOf(this.#capacity)) * VECTORS_AT_ONCE * this.#stride
  }

  bind(buffer: SharedArrayBuffer): void {
    this.#floats = new Float32Array(buffer, this.address, this.#room)
  }

  write(n: number, v: number, source: Float32Array, from: number): void {
    const floats = this.#floats
    const start = this.#start(n, v)
    const step = this.#step(n)
    for (let i = 0; i < this.#width; i++) {
      floats[start + (i >> 2) * step + (i & 3)] = source[from + i] as number
    }
  }

  read(n: number, v: number, target: Float32Array, to: number): void {
    const floats = this.#floats
    const start = this.#start(n, v)
    const step = this.#step(n)
    for (let i = 0; i < this.#width; i++) {
      target[to + i] = floats[start + (i >> 2) * step + (i & 3)] as number
    }
  }

  /** Add `weight` times vector v to the target. */
  addTo(n: number, v: number, weight: number, target: Float32Array, to: number): void {
    const floats = this.#floats
    const start = this.#start(n, v)
    const step = this.#step(n)
    for (let i = 0; i < this.#width; i++) {
      const value = floats[start + (i >> 2) * step + (i & 3)] as number
      target[to + i] = (target[to + i] as number) + weight * value
    }
  }

  #start(n: number, v: number): number {
    if (n === 1) return 0
    if (!this.#interleaved) return v * this.#stride
    return (v >> 2) * VECTORS_AT_ONCE * this.#stride + (v & 3) * 4
  }

  #step(n: number): number {
    return n > 1 && this.#interleaved ? 4 * VECTORS_AT_ONCE : 4
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
