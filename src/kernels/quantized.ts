/**
 * Matrices of 8- or 4-bit integers with one float scale for every 32 inputs: their layout and how weights are
 * quantized. Does not know models or operators.
 */
export type Bits = 8 | 4

/** Inputs that share one scale; a 4-bit block is 20 bytes, an 8-bit block 36. */
export const QUANTIZED_BLOCK = 32
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
  /** One scale for every block, [O * blocks]. */
  readonly scales: Float32Array
}

/**
 * Quantizes W [O, I], row-major: rounds to the nearest integer, symmetric around zero. The value of largest magnitude
 * in a block is represented exactly.
 */
export function quantize(weight: Float32Array, O: number, I: number, bits: Bits): QuantizedMatrix {
  const blocks = Math.ceil(I / BLOCK)
  const zero = 2 ** (bits - 1)
  const packed = new Uint8Array((O * blocks * BLOCK * bits) / 8)
  const scales = new Float32Array(O * blocks)
  for (let row = 0; row < O; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * I + block * BLOCK
      const count = Math.min(BLOCK, I - block * BLOCK)
      let peak = 0
      for (let i = from; i < from + count; i++) {
        if (Math.abs(weight[i] as number) > Math.abs(peak)) peak = weight[i] as number
      }
      // The value of largest magnitude maps to -2^(bits - 1), which has no positive counterpart.
      const scale = Math.fround(-peak / zero)
      const inverse = scale === 0 ? 0 : 1 / scale
      const at = row * blocks + block
      scales[at] = scale
      for (let i = 0; i < BLOCK; i++) {
        const value = i < count ? Math.round((weight[from + i] as number) * inverse) : 0
        const integer = Math.min(2 * zero - 1, Math.max(0, value + zero))
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
