/**
 * The order in which the kernels read coded matrices (coded-products.ts), and a reader of single rows of matrices of every
 * format, in plain JavaScript. Does not know kernels or threads.
 */
import {
  BLOCK_COLUMNS,
  type CodedFormat,
  GROUP_ROWS,
  groupBytes,
  isCoded,
  type Matrix,
  recordBytes,
  SCALE_BYTES,
} from './matrix-format.ts'
import { pairedSize, tileColumns } from './paired-rows.ts'
import { type Bits, fromBf16 } from './quantized.ts'

/** Place of one code in its record. */
interface CodePlace {
  /** Index of its 16-bit lane. */
  readonly lane: number
  /** Bit of the lane at which it starts. */
  readonly shift: number
  /** Whether it is the topmost code of its lane, which is signed; the others have an offset. */
  readonly isTop: boolean
}

export function codePlace(bits: Bits, row: number, column: number): CodePlace {
  const rowsOfLane = 64 / bits
  const vector = (column >> 1) * (GROUP_ROWS / rowsOfLane) + Math.floor(row / rowsOfLane)
  const quad = (row % rowsOfLane) >> 2
  const shift = bits * quad
  return { lane: 8 * vector + 2 * (row & 3) + (column & 1), shift, isTop: shift === 16 - bits }
}

/** Index of a row's scale in its record: those of two quads alternate. */
export function scaleIndex(row: number): number {
  return 8 * (row >> 3) + 2 * (row & 3) + ((row >> 2) & 1)
}

/** Factor of the code's position in its lane, by which the stored scale is divided. */
export function laneFactor(bits: Bits, row: number): number {
  return 2 ** ((bits * (row >> 2)) % 16)
}

const bitsOf = (format: CodedFormat): Bits => (format === 'int8' ? 8 : 4)

/** Reads one row of a matrix in any format as floats. */
export function readRow(buffer: ArrayBufferLike, matrix: Matrix, row: number, into: Float32Array): void {
  const { format } = matrix
  if (isCoded(format)) readCodedRow(buffer, format, matrix, row, into)
  else if (format === 'bf16') readBf16Row(buffer, matrix, row, into)
  else readPairedRow(buffer, matrix, row, into)
}

function readBf16Row(buffer: ArrayBufferLike, matrix: Matrix, row: number, into: Float32Array): void {
  const { at, rows, width } = matrix
  const columns = tileColumns('bf16', width)
  for (let tile = 0; tile < width; tile += columns) {
    const length = Math.min(columns, width - tile)
    const values = new Uint16Array(buffer, at + 2 * (rows * tile + row * length), length)
    for (let i = 0; i < length; i++) into[tile + i] = fromBf16(values[i] as number)
  }
}

function readPairedRow(buffer: ArrayBufferLike, matrix: Matrix, row: number, into: Float32Array): void {
  const { at, rows, width } = matrix
  const values = new Float32Array(buffer, at, pairedSize(rows, width))
  const columns = tileColumns('fp32', width)
  for (let i = 0; i < width; i++) {
    const tile = i - (i % columns)
    const length = Math.min(columns, width - tile)
    const inTile = i - tile
    const index = pairedSize(rows, tile) + (row >> 1) * 2 * length
    into[i] = values[index + 2 * (inTile & -4) + 4 * (row & 1) + (inTile & 3)] as number
  }
}

function readCodedRow(
  buffer: ArrayBufferLike,
  format: CodedFormat,
  { at, width }: Matrix,
  row: number,
  into: Float32Array,
): void {
  const bits = bitsOf(format)
  const inGroup = row % GROUP_ROWS
  const size = recordBytes(format)
  const group = at + Math.floor(row / GROUP_ROWS) * groupBytes(format, width)
  const words = new Uint16Array(buffer, group, groupBytes(format, width) / 2)
  const zero = 2 ** (bits - 1)
  const factor = laneFactor(bits, inGroup)
  const scaleAt = (size - SCALE_BYTES) / 2 + scaleIndex(inGroup)
  for (let from = 0; from < width; from += BLOCK_COLUMNS) {
    const record = (from / BLOCK_COLUMNS) * (size / 2)
    const scale = fromBf16(words[record + scaleAt] as number) * factor
    for (let column = 0; column < BLOCK_COLUMNS; column++) {
      const { lane, shift, isTop } = codePlace(bits, inGroup, column)
      const code = ((words[record + lane] as number) >> shift) & (2 * zero - 1)
      into[from + column] = ((isTop ? code ^ zero : code) - zero) * scale
    }
  }
}
