/** The orders of matrices in blocks by plain loops: the oracle of the job `encode`. */
import { codePlace, laneFactor, scaleIndex } from '../../src/kernels/coded-matrix.ts'
import {
  BLOCK_COLUMNS,
  type CodedFormat,
  GROUP_ROWS,
  recordBytes,
  SCALE_BYTES,
} from '../../src/kernels/matrix-format.ts'
import { pairedSize, tileColumns } from '../../src/kernels/paired-rows.ts'
import type { Bits, QuantizedMatrix } from '../../src/kernels/quantized.ts'

/** Upper half of the bits of a float: its bf16 number, if it is one. */
export function bf16Bits(value: number): number {
  return (new Uint32Array(Float32Array.of(value).buffer)[0] as number) >>> 16
}

const formatOf = (bits: Bits): CodedFormat => (bits === 8 ? 'int8' : 'int4')

/**
 * Writes a quantized matrix whose width is a multiple of 32 in the format `int8` or `int4`.
 * @param into all `matrixBytes` of the matrix, zeros, at an even address
 */
export function packMatrix({ bits, O, I, packed, scales }: QuantizedMatrix, into: Uint8Array): void {
  const format = formatOf(bits)
  const blocks = I / BLOCK_COLUMNS
  const size = recordBytes(format)
  const words = new Uint16Array(into.buffer, into.byteOffset, into.length / 2)
  const zero = 2 ** (bits - 1)
  const rows = Math.ceil(O / GROUP_ROWS) * GROUP_ROWS
  for (let row = 0; row < rows; row++) {
    const inGroup = row % GROUP_ROWS
    for (let block = 0; block < blocks; block++) {
      const at = (((row - inGroup) / GROUP_ROWS) * blocks + block) * size
      const index = row * blocks + block
      const scale = row < O ? (scales[index] as number) / laneFactor(bits, inGroup) : 0
      words[(at + size - SCALE_BYTES) / 2 + scaleIndex(inGroup)] = bf16Bits(scale)
      for (let column = 0; column < BLOCK_COLUMNS; column++) {
        const i = index * BLOCK_COLUMNS + column
        const byte = packed[(i * bits) >> 3] as number
        const code = row < O ? (bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15) : zero
        const { lane, shift, isTop } = codePlace(bits, inGroup, column)
        const word = at / 2 + lane
        words[word] = (words[word] as number) | ((isTop ? code ^ zero : code) << shift)
      }
    }
  }
}

/**
 * Copies a matrix (rows, width), row-major, into the order in which the products read it: tile after tile of columns,
 * within a tile pair after pair of rows, within a pair alternating four values of the upper row and four of the lower.
 */
export function pairRows(source: Float32Array, target: Float32Array, width: number): void {
  const rows = source.length / width
  const columns = tileColumns('fp32', width)
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
