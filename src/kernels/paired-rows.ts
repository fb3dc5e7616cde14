/** The order of float matrices that the products read: tiles of columns, and in them pairs of rows. Does not know threads. */

/** Maximum columns of a tile: four vectors and two rows of this width fit the L1 cache (32 KiB). */
const MAX_COLUMNS = 704

/** Columns of one tile of a matrix of this width: a multiple of four. */
export function tileColumns(width: number): number {
  const tiles = Math.ceil(width / MAX_COLUMNS)
  return Math.ceil(width / tiles / 4) * 4
}

/**
 * Copies a matrix (rows, width), row-major, into the order in which the products read it: tile after tile of columns,
 * within a tile pair after pair of rows, within a pair alternating four values of the upper row and four of the lower.
 */
export function pairRows(source: Float32Array, target: Float32Array, width: number): void {
  const rows = source.length / width
  const columns = tileColumns(width)
  for (let row = 0; row < rows; row++) {
    for (let tile = 0; tile < width; tile += columns) {
      const length = Math.min(columns, width - tile)
      let at = pairedSize(rows, tile) + (row >> 1) * 2 * length + (row & 1) * 4
      const from = row * width + tile
      for (let i = from; i < from + length; i += 4, at += 8) {
        target[at] = source[i] as number
        target[at + 1] = source[i + 1] as number
        target[at + 2] = source[i + 2] as number
        target[at + 3] = source[i + 3] as number
      }
    }
  }
}

/** Number of floats of `rows` paired rows; an odd last row is paired with unused space. */
export function pairedSize(rows: number, width: number): number {
  return Math.ceil(rows / 2) * 2 * width
}
