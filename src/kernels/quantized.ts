/**
 * Matrices held as 8- or 4-bit integers with one scale for every 32 inputs: their layout and how they are made.
 * Knows no model and no operator.
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
  /** [O, blocks, BLOCK * bits / 8], low half of a byte first. */
  readonly packed: Uint8Array
  /** [O * blocks]. */
  readonly scales: Float32Array
}

/** Round W [O, I] to nearest, symmetric around zero; the largest value of a block is exact. */
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
      // The largest value becomes the one code without a counterpart on the other side.
      const scale = Math.fround(-peak / zero)
      const inverse = scale === 0 ? 0 : 1 / scale
      const at = row * blocks + block
      scales[at] = scale
      for (let i = 0; i < BLOCK; i++) {
        const value = i < count ? Math.round((weight[from + i] as number) * inverse) : 0
        const code = Math.min(2 * zero - 1, Math.max(0, value + zero))
        if (bits === 8) packed[at * BLOCK + i] = code
        else {
          const byte = (at * BLOCK + i) >> 1
          packed[byte] = (packed[byte] as number) | (code << (4 * (i & 1)))
        }
      }
    }
  }
  return { bits, O, I, packed, scales }
}
