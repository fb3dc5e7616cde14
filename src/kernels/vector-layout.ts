/**
 * Vectors in a block of memory: the inputs of products in the order that the format of their matrix asks for, the
 * results of products, and plain vectors. Does not know threads.
 */

import type { BlockLayout } from './block-layout.ts'
import { ACTIVATION_BYTES } from './coded-products.ts'
import { VECTORS_AT_ONCE } from './float-products.ts'
import { BLOCK_COLUMNS, GROUP_ROWS, isCoded, type MatrixFormat } from './matrix-format.ts'
import type { VectorKernels } from './vector-kernels.ts'

/** The members of a block of memory that vectors use. */
interface VectorMemory {
  readonly buffer: SharedArrayBuffer
  readonly kernels: VectorKernels
}

/** How the input vectors of one format alternate. */
interface Alternation {
  /** Maximum number of vectors that alternate: those that a kernel reads at the same time. */
  readonly atOnce: number
  /** Consecutive values of one vector, and the bytes that they take. */
  readonly values: number
  readonly bytes: number
}

/** How input vectors alternate that are read by matrices of a format. */
export function alternationOf(format: MatrixFormat): Alternation {
  if (isCoded(format)) return { atOnce: 2, values: BLOCK_COLUMNS, bytes: ACTIVATION_BYTES }
  return format === 'bf16'
    ? { atOnce: VECTORS_AT_ONCE, values: 8, bytes: 32 }
    : { atOnce: VECTORS_AT_ONCE, values: 4, bytes: 16 }
}

/**
 * Space for the vectors that a product reads. Their layout depends on the format of the matrix (int8 and int4 have the
 * same) and on their number: several vectors alternate, up to `atOnce` of `alternationOf`.
 */
export class ProductInputs {
  readonly address: number
  readonly #width: number
  readonly #format: MatrixFormat
  readonly #alternation: Alternation
  readonly #plain: PlainVectors
  #kernels: VectorKernels | undefined

  constructor(layout: BlockLayout, capacity: number, width: number, format: MatrixFormat) {
    this.#width = width
    this.#format = format
    this.#alternation = alternationOf(format)
    const { atOnce } = this.#alternation
    this.address = layout.reserve((Math.ceil(capacity / atOnce) * atOnce * this.#vectorBytes) / 4)
    this.#plain = new PlainVectors(layout, 1, width)
  }

  get #vectorBytes(): number {
    const { values, bytes } = this.#alternation
    return Math.ceil(this.#width / values) * bytes
  }

  bind(block: VectorMemory): void {
    this.#kernels = block.kernels
    this.#plain.bind(block)
  }

  /** Writes vector v of the n vectors that the next product reads. `source` may be in any memory. */
  write(n: number, v: number, source: Float32Array): void {
    this.#plain.vector(0).set(source)
    this.writeFrom(n, v, this.#plain.at(0))
  }

  /** Same as `write`, for a contiguous vector at an address of this block. */
  writeFrom(n: number, v: number, from: number): void {
    const { atOnce, bytes } = this.#alternation
    const lane = v % atOnce
    const group = v - lane
    const remaining = Math.min(atOnce, n - group)
    // Three vectors have the layout of four.
    const lanes = remaining === 3 ? 4 : remaining
    const to = this.address + group * this.#vectorBytes + lane * bytes
    if (isCoded(this.#format)) this.#kernels?.quantizeVector(from, to, bytes * lanes, this.#width)
    else if (this.#format === 'bf16') this.#kernels?.splitPairs(from, to, bytes * lanes, this.#width)
    else this.#kernels?.interleave(from, to, bytes * lanes, this.#width)
  }
}

/** Floats between the results of consecutive vectors of a product with a matrix of `rows` rows. */
export function resultStride(rows: number): number {
  return Math.ceil(rows / GROUP_ROWS) * GROUP_ROWS
}

/** Space for the results of products, in every format one contiguous vector after the other. */
export class ProductResults {
  readonly address: number
  /** Floats between the starts of consecutive results. */
  readonly stride: number
  readonly #rows: number
  readonly #capacity: number
  #floats: Float32Array = new Float32Array(0)
  /** Views that were asked for before: creating one takes as long as copying a short vector. */
  #vectors: Float32Array[] = []

  constructor(layout: BlockLayout, capacity: number, rows: number) {
    this.stride = resultStride(rows)
    this.#rows = rows
    // A product of three vectors writes four results.
    this.#capacity = Math.ceil(capacity / VECTORS_AT_ONCE) * VECTORS_AT_ONCE
    this.address = layout.reserve(this.#capacity * this.stride)
  }

  bind({ buffer }: VectorMemory): void {
    this.#floats = new Float32Array(buffer, this.address, this.#capacity * this.stride)
    this.#vectors = []
  }

  /** Address of result v. */
  at(v: number): number {
    return this.address + 4 * v * this.stride
  }

  /** Result v, as a view. */
  vector(v: number): Float32Array {
    this.#vectors[v] ??= this.#floats.subarray(v * this.stride, v * this.stride + this.#rows)
    return this.#vectors[v]
  }

  /** The floats of the first n results with those between them, as a view. */
  floats(n: number): Float32Array {
    return this.#floats.subarray(0, n * this.stride)
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
  /** As in `ProductResults`; `#first` by number of vectors. */
  #vectors: Float32Array[] = []
  #first: Float32Array[] = []

  constructor(layout: BlockLayout, count: number, width: number) {
    // A kernel may write up to three floats after the last vector.
    this.#address = layout.reserve(count * width + 3)
    this.#count = count
    this.#width = width
  }

  bind({ buffer }: VectorMemory): void {
    this.#view = new Float32Array(buffer, this.#address, this.#count * this.#width)
    this.#vectors = []
    this.#first = []
  }

  /** Address of vector v. */
  at(v: number): number {
    return this.#address + 4 * v * this.#width
  }

  /** Vector v, as a view. */
  vector(v: number): Float32Array {
    this.#vectors[v] ??= this.#view.subarray(v * this.#width, (v + 1) * this.#width)
    return this.#vectors[v]
  }

  /** The first n vectors, as a view. */
  first(n: number): Float32Array {
    this.#first[n] ??= this.#view.subarray(0, n * this.#width)
    return this.#first[n]
  }
}
