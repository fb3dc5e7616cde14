/**
 * The formats in which the kernels hold weight matrices, and the bytes that each takes. A matrix is one run of bytes in
 * one block of memory. Does not know models.
 *
 * - `fp32`: floats in paired rows (paired-rows.ts).
 * - `bf16`: row-major, the bytes of a BF16 tensor in a safetensors file, if the width is at most 4096; wider matrices
 *   are divided into tiles of columns (`tileColumns`), each row-major, one after the other.
 * - `int8`, `int4`: groups of 16 rows, each a sequence of records for 32 columns (coded-products.ts).
 */

export const MATRIX_FORMATS = ['fp32', 'bf16', 'int8', 'int4'] as const
export type MatrixFormat = (typeof MATRIX_FORMATS)[number]
/** Formats of integers with one scale for each row of a record. */
export type CodedFormat = 'int8' | 'int4'

/** Columns that share one scale, in weights and in activations. */
export const BLOCK_COLUMNS = 32
/** Rows of one record of a coded matrix. */
export const GROUP_ROWS = 16
/** Bytes of the 16 bf16 scales at the start of a record. */
export const SCALE_BYTES = 2 * GROUP_ROWS

/** A matrix in a block of memory. */
export interface Matrix {
  readonly format: MatrixFormat
  /** Byte offset in the block, a multiple of 64. */
  readonly at: number
  readonly rows: number
  readonly width: number
}

export function isCoded(format: MatrixFormat): format is CodedFormat {
  return format === 'int8' || format === 'int4'
}

/** Number that the width of a matrix must be a multiple of. */
export function widthMultiple(format: MatrixFormat): number {
  return isCoded(format) ? BLOCK_COLUMNS : format === 'bf16' ? 8 : 4
}

/** Bytes of one record: 16 rows times 32 columns. */
export function recordBytes(format: CodedFormat): number {
  return SCALE_BYTES + (GROUP_ROWS * BLOCK_COLUMNS) / (format === 'int8' ? 1 : 2)
}

/** Bytes of one group of `GROUP_ROWS` rows in a coded matrix. */
export function groupBytes(format: CodedFormat, width: number): number {
  return (width / BLOCK_COLUMNS) * recordBytes(format)
}

/** Bytes of a matrix. Rows are rounded up to a pair (fp32) or to a group (int8, int4). */
export function matrixBytes(format: MatrixFormat, rows: number, width: number): number {
  if (isCoded(format)) return Math.ceil(rows / GROUP_ROWS) * groupBytes(format, width)
  return format === 'bf16' ? 2 * rows * width : 4 * 2 * Math.ceil(rows / 2) * width
}
