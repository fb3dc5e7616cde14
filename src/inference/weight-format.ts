/** The formats in which serving holds weight matrices. Does not know how matrices are quantized. */
import type { Bits } from '../kernels/quantized.ts'

/** Floats, or integers of 8 or 4 bits. */
export const WEIGHT_FORMATS = ['fp32', 'int8', 'int4'] as const
export type WeightFormat = (typeof WEIGHT_FORMATS)[number]

/** Bits of a quantized weight; undefined for floats. */
export function bitsOf(format: WeightFormat): Bits | undefined {
  return format === 'fp32' ? undefined : format === 'int8' ? 8 : 4
}
