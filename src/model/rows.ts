/** Buffers of rows that one function after another reads and fills. Knows no function. */

/** A buffer of rows; asking for the same number of rows gives the same array. */
export class Rows {
  readonly all: Float32Array
  readonly #width: number
  readonly #views = new Map<number, Float32Array>()

  constructor(rows: number, width: number) {
    this.all = new Float32Array(rows * width)
    this.#width = width
  }

  first(rows: number): Float32Array {
    let view = this.#views.get(rows)
    if (view === undefined) {
      view = this.all.subarray(0, rows * this.#width)
      this.#views.set(rows, view)
    }
    return view
  }
}
