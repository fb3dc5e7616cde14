/**
 * The WebAssembly SIMD kernels of decoding: products of a matrix with a few vectors, the gated activation, attention of
 * one head, and the steps between them. Addresses are byte offsets in the memory of the instance. Widths and counts are
 * numbers of floats, and multiples of four unless stated otherwise. Does not know threads or models.
 */
import { softmaxWeightedSum, swiGlu } from './vector-activations.ts'
import { dotRows, pairedProduct, quantizedProduct } from './vector-products.ts'
import { addDeinterleaved, addRmsNorm, deinterleave, interleave, rmsNorm, rotate } from './vector-steps.ts'
import { encodeModule } from './wasm-encode.ts'

/** Exports of an instance of `vectorModule`. */
export interface VectorKernels {
  /** y[row] = W[row] . x for W (rows, width), row-major. */
  dots(x: number, w: number, y: number, rows: number, width: number): void
  /**
   * Same as `dots` for one tile of a matrix of paired rows (`pairRows`). `rows` is even, except in the last call for a
   * matrix. `accumulate`: 1 adds to y, 0 overwrites it.
   */
  product1(x: number, w: number, y: number, rows: number, width: number, accumulate: number): void
  /**
   * Same as `product1` for two or four vectors at once. `rows` is a multiple of four, except in the last call for a
   * matrix. The vectors in x and y are interleaved: the first four values of each vector in turn, then the next four of
   * each, and so on.
   */
  product2(x: number, w: number, y: number, rows: number, width: number, accumulate: number): void
  product4(x: number, w: number, y: number, rows: number, width: number, accumulate: number): void
  /**
   * y[row] = W[row] . x for a quantized matrix: 8- or 4-bit integers in blocks of 32, with one float scale per block in
   * `scales`. x has the layout of `quantizeVector` for the same number of bits. 8-bit integers are signed here.
   */
  product8bit(x: number, w: number, scales: number, y: number, rows: number, width: number): void
  product4bit(x: number, w: number, scales: number, y: number, rows: number, width: number): void
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
   * `interleave` copies a contiguous vector to groups of four floats that start `step` bytes apart, the layout that the
   * products use for several vectors. `deinterleave` is its inverse. `addDeinterleaved` adds `weight` times the vector
   * instead of copying it. The width may be any number; up to three floats after the destination are overwritten.
   */
  interleave(from: number, to: number, step: number, width: number): void
  deinterleave(from: number, step: number, to: number, width: number): void
  addDeinterleaved(from: number, step: number, weight: number, to: number, width: number): void
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
      quantizedProduct('product8bit', 8),
      quantizedProduct('product4bit', 4),
      swiGlu(),
      softmaxWeightedSum(),
      interleave(),
      deinterleave(),
      addDeinterleaved(),
      rmsNorm(),
      addRmsNorm(),
      rotate(),
    ],
    'all threads',
  )
}
