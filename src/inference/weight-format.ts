/** The formats in which serving holds weight matrices. Does not know how matrices are coded. */
import type { Bits } from '../kernels/quantized.ts'

/**
 * Floats of 32 bits, bfloat16, or integers of 8 or 4 bits with one scale for every 32 of them; in the order of
 * precision.
 */
export const WEIGHT_FORMATS = ['fp32', 'bf16', 'int8', 'int4'] as const
export type WeightFormat = (typeof WEIGHT_FORMATS)[number]

/** What a user may ask for: a format, or `auto` for the most precise one that fits the memory. */
export const WEIGHT_CHOICES = ['auto', ...WEIGHT_FORMATS] as const
export type WeightChoice = (typeof WEIGHT_CHOICES)[number]

/** Bits of a quantized weight; undefined for floats. */
export function bitsOf(format: WeightFormat): Bits | undefined {
  return format === 'int8' ? 8 : format === 'int4' ? 4 : undefined
}
