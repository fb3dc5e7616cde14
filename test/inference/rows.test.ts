import { describe, expect, it } from 'vitest'
import { RowMemory, Rows } from '../../src/inference/rows.ts'
import { mulberry32 } from '../../src/lib/random.ts'

const ROWS = 16

describe('RowMemory', () => {
  it.each([1, 3, 4, 17, 64])('gathers rows of %i floats and scatters them back', (width) => {
    // Sixteen rows of any width fill a multiple of 64 bytes, so the buffers are adjacent.
    const memory = new RowMemory(ROWS)
    const [into, all, after] = [memory.rows(width), memory.rows(width), memory.rows(width)]
    const random = mulberry32(width)
    all.all.set(Float32Array.from({ length: ROWS * width }, () => random() - 0.5))
    const before = all.all.slice()
    const rows = [4, 0, ROWS - 1]
    const weights = [0.5, -2, 0.25]
    after.all.fill(9)

    const gathered = memory.gather(all.all, rows, into.first(3), width)
    expect(gathered).toBe(into.first(3))
    rows.forEach((row, i) => {
      expect(gathered.slice(i * width, (i + 1) * width)).toEqual(before.slice(row * width, (row + 1) * width))
    })

    memory.scatterAdd(all.all, { rows, weights }, gathered, width)
    for (let row = 0; row < ROWS; row++) {
      const weight = rows.includes(row) ? (weights[rows.indexOf(row)] as number) : 0
      const expected = before.subarray(row * width, (row + 1) * width).map((x) => x + Math.fround(weight * x))
      expect(all.all.slice(row * width, (row + 1) * width)).toEqual(expected)
    }
    expect(new Set(after.all)).toEqual(new Set([9]))
    const untouched = all.all.slice()
    memory.scatterAdd(all.all, { rows: [], weights: [] }, gathered, width)
    expect(all.all).toEqual(untouched)
  })

  it('gives no more rows than reserved, and reserves none once it is in use', () => {
    const memory = new RowMemory(2)
    const rows = memory.rows(4)
    expect(rows.first(2)).toHaveLength(8)
    expect(() => rows.first(3)).toThrow(/at most 2 rows, got 3/)
    expect(() => memory.rows(4)).toThrow(/in use already/)
    expect(() => Rows.alone(2, 4).first(3)).toThrow(/at most 2 rows, got 3/)
  })
})
