/**
 * Sketches of FFN weights: short vectors from which the distance of two sets of weights is estimated after one of them
 * was deleted. Implements protocols/expert-package, section "Weights that were withdrawn". The sketch of a matrix is
 * that of Pham and Pagh (2013, "Fast and scalable polynomial kernels via explicit feature maps"), a count sketch whose
 * hash of an element is the sum of a hash of its row and one of its column. It is linear, so the difference of two
 * sketches is the sketch of the difference, and the expected square of its norm is that of the matrix. Knows nothing
 * about packages and withdrawals.
 */
import { createHash } from 'node:crypto'
import { fromBase64, fromUtf8, toBase64, utf8 } from '../lib/bytes.ts'

/** Numbers in the sketch of one tensor. The estimated norm of a difference then has a standard error of 10 to 20 %. */
export const SKETCH_SIZE = 64
/** Maximum distance of two tensors that count as the same, relative to the norm of the first. */
export const SAME_DISTANCE = 0.1
/** Share of the tensors that must be the same. */
const SAME_SHARE = 0.5

/** Sketches of the differences from the public weights, each [SKETCH_SIZE], by the name of the tensor. */
export type WeightSketch = ReadonlyMap<string, Float32Array>

/** Signs and hashes of the rows or columns of one matrix. */
interface Hashes {
  readonly signs: Int8Array
  readonly places: Uint8Array
}

/** Sketches one matrix [rows, columns], whose values arrive in row-major order. */
export class MatrixSketch {
  readonly #columns: number
  readonly #row: Hashes
  readonly #column: Hashes
  readonly #sums = new Float64Array(SKETCH_SIZE)

  /**
   * @param seed secret of this node: whoever knows it could change weights so that the sketch changes more than they do
   * @param name of the tensor, so that each has other hashes
   */
  constructor(seed: Uint8Array, name: string, rows: number, columns: number) {
    this.#columns = columns
    this.#row = hashesOf(seed, `row ${name}`, rows)
    this.#column = hashesOf(seed, `column ${name}`, columns)
  }

  /** Add `values - anchor`, which begin at index `at` of the matrix. Both arrays have the same length. */
  add(values: Float32Array, anchor: Float32Array, at: number): void {
    const columns = this.#columns
    const { signs, places } = this.#column
    const ofRow = new Float64Array(SKETCH_SIZE)
    for (let i = 0; i < values.length; ) {
      const row = Math.floor((at + i) / columns)
      const end = Math.min(values.length, i + columns - ((at + i) % columns))
      ofRow.fill(0)
      for (let column = (at + i) % columns; i < end; i++, column++) {
        const delta = (values[i] as number) - (anchor[i] as number)
        const place = places[column] as number
        ofRow[place] = (ofRow[place] as number) + (signs[column] as number) * delta
      }
      this.#addRow(row, ofRow)
    }
  }

  /**
   * Add the product B A of low-rank factors, B [rows, rank] and A [rank, columns], without computing it: the sketch of a
   * product of a column and a row is the circular convolution of their count sketches.
   */
  addProduct(B: Float32Array, A: Float32Array, rank: number): void {
    const columns = this.#columns
    const rows = this.#row.signs.length
    for (let r = 0; r < rank; r++) {
      const ofRow = countSketch(this.#column, (column) => A[r * columns + column] as number)
      const ofColumn = countSketch(this.#row, (row) => B[row * rank + r] as number)
      for (let i = 0; i < SKETCH_SIZE; i++) this.#addShifted(ofRow, i, ofColumn[i] as number)
    }
    if (B.length !== rows * rank) throw new RangeError(`expected ${rows * rank} values, got ${B.length}`)
  }

  /** [SKETCH_SIZE] */
  result(): Float32Array {
    return Float32Array.from(this.#sums)
  }

  #addRow(row: number, ofRow: Float64Array): void {
    this.#addShifted(ofRow, this.#row.places[row] as number, this.#row.signs[row] as number)
  }

  #addShifted(values: Float64Array, shift: number, factor: number): void {
    for (let k = 0; k < SKETCH_SIZE; k++) {
      const place = (k + shift) % SKETCH_SIZE
      this.#sums[place] = (this.#sums[place] as number) + factor * (values[k] as number)
    }
  }
}

function countSketch({ signs, places }: Hashes, valueAt: (index: number) => number): Float64Array {
  const sketch = new Float64Array(SKETCH_SIZE)
  for (let i = 0; i < signs.length; i++) {
    const place = places[i] as number
    sketch[place] = (sketch[place] as number) + (signs[i] as number) * valueAt(i)
  }
  return sketch
}

/** One byte for each row or column: the highest bit is the sign, the six lowest are the hash. */
function hashesOf(seed: Uint8Array, name: string, count: number): Hashes {
  const bytes = createHash('shake256', { outputLength: count }).update(seed).update(utf8(name)).digest()
  return {
    signs: Int8Array.from(bytes, (byte) => (byte >= 128 ? -1 : 1)),
    places: Uint8Array.from(bytes, (byte) => byte % SKETCH_SIZE),
  }
}

/**
 * Whether weights are nearly those of a sketch: at least half of its tensors differ by at most SAME_DISTANCE of their
 * own norm. A tensor without a difference from the public model is the same only as one without a difference.
 */
export function isNearlySame(known: WeightSketch, candidate: WeightSketch): boolean {
  let same = 0
  for (const [name, sketch] of known) {
    const other = candidate.get(name)
    if (other !== undefined && distance(sketch, other) <= SAME_DISTANCE * norm(sketch)) same++
  }
  return known.size > 0 && same >= SAME_SHARE * known.size
}

function norm(values: Float32Array): number {
  return Math.hypot(...values)
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((value, i) => value - (b[i] as number)))
}

/** The form in which a sketch is stored: JSON with the little-endian float32 values of each tensor in base64. */
export function encodeSketch(sketch: WeightSketch): Uint8Array {
  const entries = [...sketch].map(([name, values]) => {
    const view = new DataView(new ArrayBuffer(4 * SKETCH_SIZE))
    for (const [i, value] of values.entries()) view.setFloat32(4 * i, value, true)
    return [name, toBase64(new Uint8Array(view.buffer))]
  })
  return utf8(JSON.stringify(Object.fromEntries(entries)))
}

/** The sketch that `encodeSketch` stored. */
export function decodeSketch(bytes: Uint8Array): WeightSketch {
  const entries = Object.entries(JSON.parse(fromUtf8(bytes)) as Record<string, string>)
  return new Map(
    entries.map(([name, text]) => {
      const values = fromBase64(text)
      const view = new DataView(values.buffer, values.byteOffset, values.length)
      return [name, Float32Array.from({ length: SKETCH_SIZE }, (_, i) => view.getFloat32(4 * i, true))]
    }),
  )
}
