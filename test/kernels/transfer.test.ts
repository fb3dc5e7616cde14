import { describe, expect, it } from 'vitest'
import { readRow } from '../../src/kernels/coded-matrix.ts'
import { isCoded, type MatrixFormat, matrixBytes } from '../../src/kernels/matrix-format.ts'
import { isRowMajor } from '../../src/kernels/paired-rows.ts'
import { quantize } from '../../src/kernels/quantized.ts'
import { VectorThreads } from '../../src/kernels/vector-threads.ts'
import { bf16Bytes, drawer, FORMATS, storedBytes, storedValues, TestBlock } from './test-block.ts'

/** Rows and widths: odd numbers of rows, widths beyond one tile of floats and beyond the scratch space. */
const SIZES = [
  [1, 32],
  [16, 64],
  [37, 96],
  [50, 1440],
  [19, 4224],
] as const

const bytesOf = (data: Float32Array): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

describe.each([1, 3])('with %i threads', (count) => {
  it.each(FORMATS)('expand writes the floats of all rows or some of a %s matrix', async (format) => {
    const values = drawer(11)
    const threads = await VectorThreads.create(count, 1)
    for (const [rows, width] of SIZES) {
      const data = values(rows * width)
      const test = new TestBlock()
      const matrix = test.matrix(format, data, rows, width)
      const block = test.block(threads)
      const to = threads.block(4 * rows * width + 64)
      const stored = storedValues(format, data, rows, width)
      const expanded = new Float32Array(to.buffer, 64, rows * width)
      threads.run([{ kind: 'expand', block, matrix, from: 0, rows, to, address: 64 }])
      expect(Buffer.compare(bytesOf(expanded.slice()), bytesOf(stored))).toBe(0)
      if (rows <= 16) continue
      expanded.fill(7)
      threads.run([{ kind: 'expand', block, matrix, from: 16, rows: rows - 16, to, address: 64 }])
      expect(expanded.slice(0, (rows - 16) * width)).toEqual(stored.slice(16 * width))
      expect(expanded.slice((rows - 16) * width).every((value) => value === 7)).toBe(true)
    }
    await threads.dispose()
  })

  const sources = FORMATS.flatMap((format) => [[format, 'F32'] as const, [format, 'BF16'] as const])
  it.each(sources)(
    'encode writes the bytes of a %s matrix from %s values, piece by piece',
    async (format, dtype) => {
      const values = drawer(12)
      const threads = await VectorThreads.create(count, 1)
      for (const [rows, width] of SIZES) {
        const drawn = values(rows * width)
        const data = dtype === 'F32' ? drawn : storedValues('bf16', drawn, rows, width)
        const test = new TestBlock()
        const matrix = test.empty(format, rows, width)
        const block = test.block(threads)
        const source = threads.block(4 * rows * width + 128)
        const bytes = dtype === 'F32' ? bytesOf(data) : bf16Bytes(data)
        new Uint8Array(source.buffer, 128, bytes.length).set(bytes)
        const first = Math.min(16, rows)
        const job = { kind: 'encode', block, matrix, source, dtype } as const
        threads.run([{ ...job, from: 0, rows: first, address: 128 }])
        const rest = 128 + (first * bytes.length) / rows
        if (rows > first) threads.run([{ ...job, from: first, rows: rows - first, address: rest }])
        const size = matrixBytes(format, rows, width)
        const found = new Uint8Array(block.buffer, matrix.at, size).slice()
        expect(Buffer.compare(found, storedBytes(format, data, rows, width))).toBe(0)
      }
      await threads.dispose()
    },
  )
})

describe('encode', () => {
  it.each(FORMATS.filter(isCoded))(
    'equals quantize for zeros, ties and tiny values in %s',
    async (format) => {
      const threads = await VectorThreads.create(1, 1)
      const [rows, width] = [16, 128]
      const data = new Float32Array(rows * width)
      // Ties of every integer for a peak of -8 or -128, a block of zeros of both signs, and values below every scale.
      for (let i = 0; i < 32; i++) {
        data[i] = i === 0 ? (format === 'int4' ? -8 : -128) : i / 2 - 8
        data[32 + i] = i % 2 === 0 ? 0 : -0
        data[64 + i] = 1e-40 * (i - 16)
        data[96 + i] = 2 ** -99 * (i - 16)
      }
      const test = new TestBlock()
      const matrix = test.empty(format, rows, width)
      const at = test.bytes(bytesOf(data))
      const block = test.block(threads)
      threads.run([
        { kind: 'encode', block, matrix, from: 0, rows, source: block, address: at, dtype: 'F32' },
      ])
      const found = new Uint8Array(block.buffer, matrix.at, matrixBytes(format, rows, width)).slice()
      expect(Buffer.compare(found, storedBytes(format, data, rows, width))).toBe(0)
      await threads.dispose()
    },
  )
})

describe('isRowMajor', () => {
  it('holds for bf16 matrices whose bytes are those of a tensor, up to a width of 4096', () => {
    const values = drawer(16)
    for (const width of [64, 4096, 4104, 8192]) {
      const data = values(3 * width)
      const isEqual = Buffer.compare(storedBytes('bf16', data, 3, width), bf16Bytes(data)) === 0
      expect(isRowMajor('bf16', width)).toBe(isEqual)
      expect(isEqual).toBe(width <= 4096)
    }
    for (const format of ['fp32', 'int8', 'int4'] as const) expect(isRowMajor(format, 64)).toBe(false)
  })
})

describe('readRow', () => {
  it.each(FORMATS)('reads each row of a %s matrix', (format) => {
    const values = drawer(13)
    for (const [rows, width] of SIZES) {
      const data = values(rows * width)
      const buffer = new ArrayBuffer(64 + matrixBytes(format, rows, width))
      new Uint8Array(buffer, 64).set(storedBytes(format, data, rows, width))
      const stored = storedValues(format, data, rows, width)
      const row = new Float32Array(width)
      for (const r of [0, rows >> 1, rows - 1]) {
        readRow(buffer, { format, at: 64, rows, width }, r, row)
        expect(row).toEqual(stored.slice(r * width, (r + 1) * width))
      }
    }
  })
})

describe('quantize', () => {
  const errorOf = (format: MatrixFormat, data: Float32Array, rows: number, width: number): number => {
    const stored = storedValues(format, data, rows, width)
    return data.reduce((sum, value, i) => sum + (value - (stored[i] as number)) ** 2, 0)
  }

  it('chooses scales of 4-bit blocks with no larger error than the one that represents the peak', () => {
    const data = drawer(14)(64 * 96)
    let peakError = 0
    for (let at = 0; at < data.length; at += 32) {
      const block = data.subarray(at, at + 32)
      const peak = block.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0)
      const scale = peak / -8
      for (const value of block)
        peakError += (value - scale * Math.max(-8, Math.min(7, Math.round(value / scale)))) ** 2
    }
    expect(errorOf('int4', data, 64, 96)).toBeLessThan(0.98 * peakError)
  })

  it('keeps integers in their range, and scales that bf16 numbers can represent', () => {
    for (const bits of [8, 4] as const) {
      const { scales } = quantize(drawer(15)(8 * 64), 8, 64, bits)
      expect(
        scales.every((scale) => (new Uint32Array(Float32Array.of(scale).buffer)[0] ?? 1) % 65_536 === 0),
      ).toBe(true)
    }
  })
})
