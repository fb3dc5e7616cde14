/** A block of memory with matrices and vectors for tests of the kernels, and plain loops to compare with. */
import { BlockLayout } from '../../src/kernels/block-layout.ts'
import {
  isCoded,
  MATRIX_FORMATS,
  type Matrix,
  type MatrixFormat,
  matrixBytes,
} from '../../src/kernels/matrix-format.ts'
import { tileColumns } from '../../src/kernels/paired-rows.ts'
import { type Bits, quantize, roundToBf16 } from '../../src/kernels/quantized.ts'
import type { Block } from '../../src/kernels/vector-jobs.ts'
import { ProductInputs, ProductResults } from '../../src/kernels/vector-layout.ts'
import type { VectorThreads } from '../../src/kernels/vector-threads.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { bf16Bits, packMatrix, pairRows } from './plain-order.ts'

export const FORMATS: readonly MatrixFormat[] = MATRIX_FORMATS

export const bitsOf = (format: MatrixFormat): Bits => (format === 'int4' ? 4 : 8)

/** Returns a function that draws `count` uniform values in (-scale, scale). */
export function drawer(seed: number): (count: number, scale?: number) => Float32Array {
  const random = mulberry32(seed)
  return (count, scale = 1) => Float32Array.from({ length: count }, () => (random() - 0.5) * 2 * scale)
}

/** The floats that a matrix (rows, width) stands for in this format, by a plain loop. */
export function storedValues(
  format: MatrixFormat,
  data: Float32Array,
  rows: number,
  width: number,
): Float32Array {
  if (format === 'fp32') return data
  if (format === 'bf16') return data.map(roundToBf16)
  const bits = bitsOf(format)
  const { packed, scales } = quantize(data, rows, width, bits)
  return data.map((_, i) => {
    const byte = packed[(i * bits) >> 3] as number
    const code = bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15
    return (code - 2 ** (bits - 1)) * (scales[i >> 5] as number)
  })
}

/** The bytes of a matrix in a block, by plain JavaScript. */
export function storedBytes(
  format: MatrixFormat,
  data: Float32Array,
  rows: number,
  width: number,
): Uint8Array {
  const bytes = new Uint8Array(matrixBytes(format, rows, width))
  if (isCoded(format)) packMatrix(quantize(data, rows, width, bitsOf(format)), bytes)
  else if (format === 'fp32') pairRows(data, new Float32Array(bytes.buffer), width)
  else {
    const columns = tileColumns(format, width)
    for (let tile = 0, at = 0; tile < width; tile += columns) {
      for (let row = 0; row < rows; row++) {
        const values = data.subarray(row * width + tile, row * width + Math.min(width, tile + columns))
        bytes.set(bf16Bytes(values), at)
        at += 2 * values.length
      }
    }
  }
  return bytes
}

/** Values as the bytes of a BF16 tensor. */
export function bf16Bytes(data: Float32Array): Uint8Array {
  return new Uint8Array(Uint16Array.from(data, (value) => bf16Bits(roundToBf16(value))).buffer)
}

/** What a product reads of a vector: integers of 12 bits in blocks of 32 for coded matrices, otherwise the vector. */
export function storedVector(format: MatrixFormat, x: Float32Array): Float32Array | number[] {
  if (!isCoded(format)) return x
  return Array.from(x, (value, i) => {
    const block = x.subarray(i & -32, (i & -32) + 32)
    const peak = Math.max(...block.map(Math.abs))
    if (peak === 0) return 0
    const scale = Math.fround(peak * Math.fround(1 / 2047))
    return scale * roundToEven(Math.fround(value * Math.fround(2047 / peak)))
  })
}

function roundToEven(value: number): number {
  const floor = Math.floor(value)
  const isTie = value - floor === 0.5
  return isTie ? 2 * Math.round(value / 2) : Math.round(value)
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number)
  return sum
}

/** W x for row-major W, in double precision. */
export function multiply(w: Float32Array, x: ArrayLike<number>): number[] {
  return Array.from({ length: w.length / x.length }, (_, row) =>
    dot(w.subarray(row * x.length, (row + 1) * x.length), x),
  )
}

/** Largest difference between two vectors, relative to the largest expected value or 1. */
export function worstError(found: ArrayLike<number>, expected: readonly number[]): number {
  const scale = Math.max(1, ...expected.map(Math.abs))
  return Math.max(...expected.map((value, i) => Math.abs(value - (found[i] as number)) / scale))
}

/** Reserves matrices and vectors of one block, then allocates and fills it. */
export class TestBlock {
  readonly layout = new BlockLayout()
  readonly #vectors: (ProductInputs | ProductResults)[] = []
  readonly #contents: { at: number; bytes: Uint8Array }[] = []

  matrix(format: MatrixFormat, data: Float32Array, rows: number, width: number): Matrix {
    const matrix = this.empty(format, rows, width)
    this.#contents.push({ at: matrix.at, bytes: storedBytes(format, data, rows, width) })
    return matrix
  }

  empty(format: MatrixFormat, rows: number, width: number): Matrix {
    return { format, at: this.layout.reserveBytes(matrixBytes(format, rows, width)), rows, width }
  }

  bytes(bytes: Uint8Array): number {
    const at = this.layout.reserveBytes(bytes.length)
    this.#contents.push({ at, bytes })
    return at
  }

  inputs(capacity: number, width: number, format: MatrixFormat): ProductInputs {
    const inputs = new ProductInputs(this.layout, capacity, width, format)
    this.#vectors.push(inputs)
    return inputs
  }

  results(capacity: number, rows: number): ProductResults {
    const results = new ProductResults(this.layout, capacity, rows)
    this.#vectors.push(results)
    return results
  }

  block(threads: VectorThreads, replaced?: Block): Block {
    const block = threads.block(this.layout.bytes, replaced)
    for (const { at, bytes } of this.#contents) new Uint8Array(block.buffer, at, bytes.length).set(bytes)
    for (const vectors of this.#vectors) vectors.bind(block)
    return block
  }
}
