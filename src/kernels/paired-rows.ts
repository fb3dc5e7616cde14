/**
 * The order of float and bf16 matrices: tiles of columns and, for floats, pairs of rows in every tile. Does not know
 * threads.
 */
import type { MatrixFormat } from './matrix-format.ts'

/**
 * Maximum columns of a tile. Floats: four vectors and two rows of this width fit the L1 cache (32 KiB). Bf16: one vector
 * of this width leaves room for the weights in it; with wider vectors, weights arrived at a third of the speed.
 */
const MAX_COLUMNS = { fp32: 704, bf16: 4096 } as const
/** Number that the columns of a tile are a multiple of. */
const MULTIPLES = { fp32: 4, bf16: 8 } as const

/** Columns of one tile of a matrix of this width; those of a coded matrix are not divided. */
export function tileColumns(format: MatrixFormat, width: number): number {
  if (format !== 'fp32' && format !== 'bf16') return width
  const tiles = Math.ceil(width / MAX_COLUMNS[format])
  return Math.ceil(width / tiles / MULTIPLES[format]) * MULTIPLES[format]
}

/**
 * Whether the bytes of a matrix in this format are those of a row-major tensor: then a BF16 tensor can be read from a
 * file into the matrix.
 */
export function isRowMajor(format: MatrixFormat, width: number): boolean {
  return format === 'bf16' && tileColumns(format, width) === width
}

/** Number of floats of `rows` paired rows; an odd last row is paired with unused space. */
export function pairedSize(rows: number, width: number): number {
  return Math.ceil(rows / 2) * 2 * width
}
