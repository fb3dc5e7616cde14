/**
 * Rows of windows between two layers: which rows a group of experts computes, copies of these rows, and sums into them.
 * Does not know layers.
 */
import type { WeightedRows } from './routing-plan.ts'

/** Some of the rows 0 to N - 1, in ascending order. */
export interface UsedRows {
  readonly rows: readonly number[]
  /** Position in `rows` of each row; undefined if `rows` has all of them. */
  readonly positions: Int32Array | undefined
}

/** Rows that occur in at least one list. @param N number of rows in all */
export function unionOfRows(lists: readonly (readonly number[])[], N: number): UsedRows {
  const positions = new Int32Array(N).fill(-1)
  for (const rows of lists) for (const row of rows) positions[row] = 0
  const rows: number[] = []
  for (let row = 0; row < N; row++) {
    if ((positions[row] as number) < 0) continue
    positions[row] = rows.length
    rows.push(row)
  }
  return { rows, positions: rows.length === N ? undefined : positions }
}

/**
 * The given rows of `all`, rows of `width` floats: `all` itself if they are all of its rows in order, otherwise a copy
 * at the start of `memory`.
 */
export function gatherRows(
  all: Float32Array,
  rows: readonly number[],
  width: number,
  memory: Float32Array,
): Float32Array {
  if (rows.length * width === all.length) return all
  rows.forEach((row, i) => {
    memory.set(all.subarray(row * width, (row + 1) * width), i * width)
  })
  return memory.subarray(0, rows.length * width)
}

/** all[rows[i]] += weights[i] * from[position of rows[i]], rows of `width` floats. */
export function scatterAddRows(
  all: Float32Array,
  { rows, weights }: WeightedRows,
  { positions }: UsedRows,
  from: Float32Array,
  width: number,
): void {
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i] as number
    const weight = weights[i] as number
    const to = row * width
    const at = (positions === undefined ? row : (positions[row] as number)) * width
    for (let c = 0; c < width; c++) {
      all[to + c] = (all[to + c] as number) + weight * (from[at + c] as number)
    }
  }
}
