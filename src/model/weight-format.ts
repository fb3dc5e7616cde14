/** How serving holds weight matrices: as they are, or in codes of 8 or 4 bits. */
export const WEIGHT_FORMATS = ['fp32', 'int8', 'int4'] as const
export type WeightFormat = (typeof WEIGHT_FORMATS)[number]
