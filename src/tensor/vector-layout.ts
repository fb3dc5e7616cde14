/**
 * Where things lie in a block of vector-threads.ts: matrices, and regions of vectors in the order that
 * its kernels read, one vector as it is and several interleaved in groups of four. Knows no thread.
 */
import { VECTORS_AT_ONCE } from './vector-kernels.ts'

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

/** Groups that a job works through for n vectors; 0 for one vector as it is. */
export function groupsOf(n: number): number {
  return n === 1 ? 0 : Math.ceil(n / VECTORS_AT_ONCE)
}

/** Up to `capacity` vectors of `width` values. */
export class VectorRegion {
  readonly address: number
  readonly #width: number
  /** Values of one vector among others, up to a whole group of four. */
  readonly #stride: number
  readonly #capacity: number
  #floats: Float32Array = new Float32Array(0)

  constructor(layout: BlockLayout, capacity: number, width: number) {
    this.#width = width
    this.#stride = Math.ceil(width / 4) * 4
    this.#capacity = capacity
    this.address = layout.reserve(this.#room)
  }

  get #room(): number {
    return Math.max(1, groupsOf(this.#capacity)) * VECTORS_AT_ONCE * this.#stride
  }

  bind(buffer: SharedArrayBuffer): void {
    this.#floats = new Float32Array(buffer, this.address, this.#room)
  }

  /** Vector v of n: `source` from `from` on. */
  write(n: number, v: number, source: Float32Array, from: number): void {
    const floats = this.#floats
    if (n === 1) {
      for (let i = 0; i < this.#width; i++) floats[i] = source[from + i] as number
      return
    }
    const start = this.#start(v)
    for (let i = 0; i < this.#width; i++) {
      floats[start + (i >> 2) * 16 + (i & 3)] = source[from + i] as number
    }
  }

  read(n: number, v: number, target: Float32Array, to: number): void {
    const floats = this.#floats
    if (n === 1) {
      for (let i = 0; i < this.#width; i++) target[to + i] = floats[i] as number
      return
    }
    const start = this.#start(v)
    for (let i = 0; i < this.#width; i++) {
      target[to + i] = floats[start + (i >> 2) * 16 + (i & 3)] as number
    }
  }

  /** Add `weight` times vector v to the target. */
  addTo(n: number, v: number, weight: number, target: Float32Array, to: number): void {
    const floats = this.#floats
    const start = n === 1 ? 0 : this.#start(v)
    const step = n === 1 ? 4 : 16
    for (let i = 0; i < this.#width; i++) {
      const value = floats[start + (i >> 2) * step + (i & 3)] as number
      target[to + i] = (target[to + i] as number) + weight * value
    }
  }

  #start(v: number): number {
    return (v >> 2) * VECTORS_AT_ONCE * this.#stride + (v & 3) * 4
  }
}
