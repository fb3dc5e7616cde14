/**
 * Matrices of 8- or 4-bit integers with one scale for every 32 inputs: how weights are quantized, and how the integers
 * are stored for a product outside the vector kernels. Does not know models or operators.
 */
import { BLOCK_COLUMNS } from './matrix-format.ts'

export type Bits = 8 | 4

/** Inputs that share one scale. */
export const QUANTIZED_BLOCK = BLOCK_COLUMNS
const BLOCK = QUANTIZED_BLOCK

export interface QuantizedMatrix {
  readonly bits: Bits
  /** Outputs and inputs of the matrix [O, I]. */
  readonly O: number
  readonly I: number
  /**
   * Unsigned integers [O, blocks, BLOCK * bits / 8], offset by 2^(bits - 1); of two in one byte, the first is the low
   * half.
   */
  readonly packed: Uint8Array
  /** One scale for every block, [O * blocks], each a bf16 number. */
  readonly scales: Float32Array
}

/** Smaller scales become 0, since the kernels divide scales by powers of two. */
export const SMALLEST_SCALE = 2 ** -100

/**
 * Candidates for a scale, as the integer that the value of largest magnitude would map to. For 8 bits, that value is
 * represented exactly. For 4 bits, a smaller scale often costs less for the many other values than it gains for the
 * largest.
 */
export const SCALE_CANDIDATES: Readonly<Record<Bits, readonly number[]>> = {
  8: [-128],
  4: [-8, -7.5, -7, -8.5, 7.5],
}

/**
 * Quantizes W [O, I], row-major. Every block of 32 inputs gets the candidate scale with the smallest sum of squared
 * errors. All arithmetic is in float32, in the order of the `encode` kernels, which give the same bits.
 */
export function quantize(weight: Float32Array, O: number, I: number, bits: Bits): QuantizedMatrix {
  const blocks = Math.ceil(I / BLOCK)
  const zero = 2 ** (bits - 1)
  const packed = new Uint8Array((O * blocks * BLOCK * bits) / 8)
  const scales = new Float32Array(O * blocks)
  const values = new Float32Array(BLOCK)
  const integers = new Int8Array(BLOCK)
  for (let row = 0; row < O; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * I + block * BLOCK
      values.fill(0)
      values.set(weight.subarray(from, row * I + Math.min(I, (block + 1) * BLOCK)))
      const at = row * blocks + block
      scales[at] = quantizeBlock(values, bits, integers)
      for (let i = 0; i < BLOCK; i++) {
        const integer = (integers[i] as number) + zero
        if (bits === 8) packed[at * BLOCK + i] = integer
        else {
          const byte = (at * BLOCK + i) >> 1
          packed[byte] = (packed[byte] as number) | (integer << (4 * (i & 1)))
        }
      }
    }
  }
  return { bits, O, I, packed, scales }
}

/** Quantizes 32 values into `integers`. @returns their scale */
function quantizeBlock(values: Float32Array, bits: Bits, integers: Int8Array): number {
  const zero = 2 ** (bits - 1)
  let largest = 0
  let smallest = 0
  for (let i = 0; i < BLOCK; i++) {
    const value = values[i] as number
    if (value > largest) largest = value
    if (value < smallest) smallest = value
  }
  const peak = largest > -smallest ? largest : smallest
  const best = bestScale(values, peak, bits)
  const inverse = inverseOf(best)
  for (let i = 0; i < BLOCK; i++) integers[i] = integerOf(values[i] as number, inverse, zero)
  return best
}

/** The candidate scale with the smallest sum of squared errors; the first of equals. */
function bestScale(values: Float32Array, peak: number, bits: Bits): number {
  const [first, ...others] = SCALE_CANDIDATES[bits] as [number, ...number[]]
  if (others.length === 0) return scaleOf(peak, first)
  const zero = 2 ** (bits - 1)
  let best = 0
  let bestError = Number.POSITIVE_INFINITY
  for (const candidate of SCALE_CANDIDATES[bits]) {
    const scale = scaleOf(peak, candidate)
    const inverse = inverseOf(scale)
    // Four partial sums, as in the lanes of a vector.
    const errors = [0, 0, 0, 0]
    for (let i = 0; i < BLOCK; i++) {
      const value = values[i] as number
      const error = Math.fround(value - Math.fround(scale * integerOf(value, inverse, zero)))
      errors[i & 3] = Math.fround((errors[i & 3] as number) + Math.fround(error * error))
    }
    const [a, b, c, d] = errors as [number, number, number, number]
    const error = Math.fround(Math.fround(a + b) + Math.fround(c + d))
    if (error < bestError) {
      bestError = error
      best = scale
    }
  }
  return best
}

function scaleOf(peak: number, candidate: number): number {
  const scale = roundToBf16(Math.fround(peak * Math.fround(1 / candidate)))
  return Math.abs(scale) > SMALLEST_SCALE ? scale : 0
}

/** 0 for a scale of 0, so that a block of zeros has integers of 0. */
function inverseOf(scale: number): number {
  return scale === 0 ? 0 : Math.fround(1 / scale)
}

/** Added to a float below 2^22 in magnitude and subtracted again, rounds it to the nearest integer, ties to even. */
const ROUNDING = 1.5 * 2 ** 23

/** Nearest integer to value * inverse, ties to even, limited to the range of the format. */
function integerOf(value: number, inverse: number, zero: number): number {
  const nearest = Math.fround(Math.fround(value * inverse) + ROUNDING) - ROUNDING
  return nearest < -zero ? -zero : nearest < zero ? nearest : zero - 1
}

const float = new Float32Array(1)
const bits32 = new Uint32Array(float.buffer)

/** Nearest bf16 number, ties to even. Not for NaN. */
export function roundToBf16(value: number): number {
  float[0] = value
  const bits = bits32[0] as number
  bits32[0] = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000
  return float[0] as number
}

/** The float of a bf16 number. */
export function fromBf16(bits: number): number {
  bits32[0] = bits << 16
  return float[0] as number
}
