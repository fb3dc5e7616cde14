/**
 * The WebAssembly SIMD kernels of decoding: products of a matrix with a few vectors, the gated activation, attention of
 * one head, and the steps between them. Addresses are byte offsets in the memory of the instance. Widths and counts are
 * numbers of floats, and multiples of four unless stated otherwise. Does not know threads or models.
 */
import { bf16Product, encodeBf16, expandBf16, splitPairs } from './bf16-kernels.ts'
import { codedProduct, quantizeVector } from './coded-products.ts'
import { encodeCoded, expandCoded } from './coded-transfer.ts'
import { dotRows, pairedProduct, pairTile, unpairTile } from './float-products.ts'
import { softmaxWeightedSum, swiGlu } from './vector-activations.ts'
import { addRmsNorm, addScaled, interleave, rmsNorm, rotate } from './vector-steps.ts'
import { encodeModule } from './wasm-encode.ts'

type FloatProduct = (
  x: number,
  w: number,
  y: number,
  rows: number,
  width: number,
  accumulate: number,
  stride: number,
) => void
type CodedProduct = (
  x: number,
  w: number,
  y: number,
  groups: number,
  blocks: number,
  accumulate: number,
  stride: number,
) => void

/** Exports of an instance of `vectorModule`. */
export interface VectorKernels {
  /** y[row] = W[row] . x for W (rows, width), row-major. */
  dots(x: number, w: number, y: number, rows: number, width: number): void
  /**
   * Same as `dots` for one tile of a matrix of paired rows. `rows` is even, except in the last call for a
   * matrix. `accumulate`: 1 adds to y, 0 overwrites it. `stride`: bytes between the results of consecutive vectors. Two
   * or four vectors alternate in x: the first four values of each in turn, then the next four of each, and so on.
   */
  readonly product1: FloatProduct
  readonly product2: FloatProduct
  readonly product4: FloatProduct
  /**
   * Same for one tile of a bf16 matrix, whose rows may be any number. In x, vectors alternate every eight values, of which
   * those of even index precede those of odd index (`splitPairs`).
   */
  readonly bf16Product1: FloatProduct
  readonly bf16Product2: FloatProduct
  readonly bf16Product4: FloatProduct
  /**
   * Product with a coded matrix: `groups` groups of 16 rows, `blocks` records of 32 columns each. In x, vectors alternate
   * every block of 32 values (`quantizeVector`). Sums and results of all rows of a group are written.
   */
  readonly int8Product1: CodedProduct
  readonly int8Product2: CodedProduct
  readonly int4Product1: CodedProduct
  readonly int4Product2: CodedProduct
  /** Writes one row group of a coded matrix as floats, in rows `rowBytes` apart. */
  expandInt8(w: number, to: number, blocks: number, rowBytes: number): void
  expandInt4(w: number, to: number, blocks: number, rowBytes: number): void
  /** The inverse: quantizes 16 rows of floats. `codes`: scratch space of 1 KiB. */
  encodeInt8(from: number, w: number, blocks: number, rowBytes: number, codes: number): void
  encodeInt4(from: number, w: number, blocks: number, rowBytes: number, codes: number): void
  /** Converts between `count` contiguous floats and bf16 numbers, a multiple of eight. */
  expandBf16(from: number, to: number, count: number): void
  encodeBf16(from: number, to: number, count: number): void
  /** Converts between one tile of a pair of rows and its two rows. */
  pairTile(upper: number, lower: number, to: number, width: number): void
  unpairTile(from: number, upper: number, lower: number, width: number): void
  /** gate = silu(gate) * up. */
  swiGlu(gate: number, up: number, count: number): void
  /**
   * out = softmax(scores * scale) V, with V (length, width). Overwrites the scores and up to three floats after them.
   */
  softmaxWeightedSum(
    scores: number,
    values: number,
    out: number,
    length: number,
    width: number,
    scale: number,
  ): void
  /**
   * Copies a contiguous vector to groups that start `step` bytes apart, in the layout that a product reads: four floats
   * (`interleave`; any width), eight floats (`splitPairs`) or a block of 32 integers with their scale
   * (`quantizeVector`). Up to three floats after the source are read.
   */
  interleave(from: number, to: number, step: number, width: number): void
  splitPairs(from: number, to: number, step: number, width: number): void
  quantizeVector(from: number, to: number, step: number, width: number): void
  /** to += weight * from. The width may be any number; up to three floats after the destination are overwritten. */
  addScaled(from: number, weight: number, to: number, width: number): void
  /**
   * RMS norm: to = from * gain / rms(from), where `from` and `to` may be the same; `addRmsNorm` adds to `to` instead.
   */
  rmsNorm(from: number, gain: number, to: number, width: number, eps: number): void
  addRmsNorm(from: number, gain: number, to: number, width: number, eps: number): void
  /**
   * Rotates every head (2 `half` channels) of a vector of `width` floats by the rotary angles of its position.
   * Neither number has to be a multiple of four.
   */
  rotate(values: number, cos: number, sin: number, half: number, width: number): void
}

/** The WebAssembly module that exports `VectorKernels`, for shared memory. */
export function vectorModule(): Uint8Array<ArrayBuffer> {
  return encodeModule(
    [
      dotRows(),
      pairedProduct(1),
      pairedProduct(2),
      pairedProduct(4),
      pairTile(),
      unpairTile(),
      bf16Product(1),
      bf16Product(2),
      bf16Product(4),
      splitPairs(),
      expandBf16(),
      encodeBf16(),
      codedProduct('int8', 1),
      codedProduct('int8', 2),
      codedProduct('int4', 1),
      codedProduct('int4', 2),
      quantizeVector(),
      expandCoded('int8'),
      expandCoded('int4'),
      encodeCoded('int8'),
      encodeCoded('int4'),
      swiGlu(),
      softmaxWeightedSum(),
      interleave(),
      addScaled(),
      rmsNorm(),
      addRmsNorm(),
      rotate(),
    ],
    'all threads',
  )
}
