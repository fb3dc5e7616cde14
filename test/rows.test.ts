import { describe, expect, it } from 'vitest'
import { RowMemory } from '../src/model/rows.ts'
import { mulberry32 } from '../src/model/sampling.ts'

describe('rows of one memory', () => {
  it.each([1, 3, 4, 17, 64])('of %i floats are taken out and added back', (width) => {
    const memory = new RowMemory(6)
    const [all, into, after] = [memory.rows(width), memory.rows(width), memory.rows(width)]
    memory.open()
    const random = mulberry32(width)
    all.all.set(Float32Array.from({ length: 6 * width }, () => random() - 0.5))
    const before = all.all.slice()
    const rows = [4, 0, 5]
    const weights = [0.5, -2, 0.25]
    after.all.fill(9)

    const taken = memory.take(all.all, rows, into.first(3), width)
    expect(taken).toBe(into.first(3))
    rows.forEach((row, i) => {
      expect(taken.slice(i * width, (i + 1) * width)).toEqual(before.slice(row * width, (row + 1) * width))
    })

    memory.add(all.all, { rows, weights }, taken, width)
    for (let row = 0; row < 6; row++) {
      const weight = rows.includes(row) ? (weights[rows.indexOf(row)] as number) : 0
      const expected = before.subarray(row * width, (row + 1) * width).map((x) => x + Math.fround(weight * x))
      expect(all.all.slice(row * width, (row + 1) * width)).toEqual(expected)
    }
    expect(new Set(after.all)).toEqual(new Set([9]))
  })
})
