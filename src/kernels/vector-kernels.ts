/**
 * The kernels of decoding in WebAssembly SIMD: products of a few rows with a matrix, gated activation, softmax and
 * mix of one head's attention, and the steps between them. Addresses are bytes in the memory of the instance; widths
 * and counts are floats and multiples of four where nothing else is said. Knows no threads and no model.
 */
import { softmaxWeightedSum, swiGlu } from './vector-activations.ts'
import { dotRows, pairedProduct, quantizedProduct } from './vector-products.ts'
import { addDeinterleaved, addRmsNorm, deinterleave, interleave, rmsNorm, rotate } from './vector-steps.ts'
import { encodeModule } from './wasm-encode.ts'

/** What an instance of the module offers. */
export interface VectorKernels {
  /** y[row] = W[row] . x for `rows` rows of W (rows, width), one after the other. */
  dots(x: number, w: number, y: number, rows: number, width: number): void
  /**
   * The same for one set of columns of paired rows (`pairRows`), an even number of rows but in the last call for a
   * matrix. `isMore` is 1 to add to y, 0 to begin.
   */
  product1(x: number, w: number, y: number, rows: number, width: number, isMore: number): void
  /**
   * The same for several vectors at once, `rows` a multiple of four but in the last call for a matrix. The
   * vectors lie interleaved, x and y alike: four values of the first, of the second and so on, then the next
   * four of each.
   */
  product2(x: number, w: number, y: number, rows: number, width: number, isMore: number): void
  product4(x: number, w: number, y: number, rows: number, width: number, isMore: number): void
  /**
   * y[row] = W[row] . x for codes of 8 or 4 bits in blocks of 32, a float scale for each in `scales`. x is an
   * `encodeVector` of the same bits.
   */
  product8bit(x: number, w: number, scales: number, y: number, rows: number, width: number): void
  product4bit(x: number, w: number, scales: number, y: number, rows: number, width: number): void
  /** gate = silu(gate) * up. */
  swiGlu(gate: number, up: number, count: number): void
  /**
   * out = softmax(scores * scale) V for V (length, width). The scores are overwritten, and so are up to three
   * floats behind them.
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
   * Fours of a vector to fours `step` bytes apart, as the products read and write several; its inverse, and added. The
   * width may be any: up to three floats behind what is written are overwritten.
   */
  interleave(from: number, to: number, step: number, width: number): void
  deinterleave(from: number, step: number, to: number, width: number): void
  addDeinterleaved(from: number, step: number, weight: number, to: number, width: number): void
  /** to = from * gain / rms(from); to += from * gain / rms(from). */
  rmsNorm(from: number, gain: number, to: number, width: number, eps: number): void
  addRmsNorm(from: number, gain: number, to: number, width: number, eps: number): void
  /** Rotary position of heads of 2 `half` channels, `width` in all, which need not be a multiple of four. */
  rotate(values: number, cos: number, sin: number, half: number, width: number): void
}

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
