import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { STATISTICS_WINDOW } from '../../src/model/solved-router.ts'
import { routerStatistics } from '../../src/training/router-statistics.ts'
import { madeUpDocuments } from '../support/router-statistics.ts'

const V = 32

describe('router statistics', () => {
  it('give every document the same weight, whatever its length, and read no more than a window of it', () => {
    const [short, long] = [Int32Array.of(2), Int32Array.of(0, 3, 0, 0)]
    expect([...routerStatistics(5, [short, long]).tokens]).toEqual([0.375, 0, 0.5, 0.125, 0])
    const tooLong = Int32Array.from({ length: 3 * STATISTICS_WINDOW }, (_, i) =>
      i < STATISTICS_WINDOW ? 1 : 2,
    )
    expect([...routerStatistics(3, [tooLong]).tokens]).toEqual([0, 1, 0])
    expect(() => routerStatistics(3, [])).toThrow(RangeError)
  })

  const document = fc
    .array(fc.integer({ min: 0, max: V - 1 }), { minLength: 1, maxLength: 200 })
    .map((ids) => Int32Array.from(ids))
  const documents = fc.array(document, { minLength: 1, maxLength: 12 })

  it('sum to 1 and move by at most 2/n in sum if one of n documents is replaced', () => {
    const moved = (a: readonly Int32Array[], b: readonly Int32Array[]): number[] => {
      const [before, after] = [a, b].map((all) => routerStatistics(V, all).tokens) as [
        Float32Array,
        Float32Array,
      ]
      const by = Array.from(before, (share, v) => share - (after[v] as number))
      return [by.reduce((sum, x) => sum + Math.abs(x), 0), Math.hypot(...by)]
    }
    fc.assert(
      fc.property(documents, document, (all, other) => {
        const { tokens } = routerStatistics(V, all)
        expect(tokens.every((share) => share >= 0)).toBe(true)
        expect(tokens.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6)
        const [l1, l2] = moved(all, [other, ...all.slice(1)])
        expect(l1).toBeLessThanOrEqual(2 / all.length + 1e-6)
        expect(l2).toBeLessThanOrEqual(Math.SQRT2 / all.length + 1e-6)
      }),
      { seed: 3, numRuns: 200 },
    )
    const [zeros, ones] = [new Int32Array(9), new Int32Array(4).fill(1)]
    const rest = madeUpDocuments(V, [5, 6, 7])
    const [l1, l2] = moved([zeros, ...rest], [ones, ...rest])
    expect(l1).toBeCloseTo(2 / 4, 6)
    expect(l2).toBeCloseTo(Math.SQRT2 / 4, 6)
  })
})
