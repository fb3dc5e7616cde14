import { describe, expect, it } from 'vitest'
import { gateShares, statisticsShare } from '../../src/acceptance/gate-share.ts'
import { checkStatistics } from '../../src/acceptance/weight-checks.ts'
import { STATISTICS_TOKENS } from '../../src/lib/tensor-names.ts'
import { type RouterStatistics, solveGate } from '../../src/model/solved-router.ts'
import { routerStatistics } from '../../src/training/router-statistics.ts'
import { codeOfAsync } from '../support/packages.ts'
import { madeUpDocuments, madeUpStatistics, naiveBayes } from '../support/router-statistics.ts'

const V = 32
/** Unscaled log-odds without a prior for the public expert. */
const PLAIN = { scale: 1, prior: 0 }

describe('shares of a gate', () => {
  it('are its probabilities, averaged over the tokens of each document and then over documents', () => {
    const all = [1, 2, 3].map((seed) => madeUpStatistics(V, seed))
    const documents = madeUpDocuments(V, [40, 1, 7])
    const expected = [0, 0, 0]
    for (const ids of documents) {
      for (const logits of naiveBayes(all, ids, PLAIN)) {
        const odds = logits.map(Math.exp)
        const total = odds.reduce((a, b) => a + b)
        odds.forEach((value, e) => {
          expected[e] = (expected[e] as number) + value / total / ids.length / documents.length
        })
      }
    }
    const found = gateShares(solveGate(all, PLAIN), documents)
    expected.forEach((share, e) => {
      expect(found[e]).toBeCloseTo(share, 5)
    })
    expect(() => gateShares(solveGate(all), [])).toThrow(RangeError)
  })

  it('are one half for statistics of the public text itself, and small for those of another text', () => {
    const own = madeUpDocuments(V, [40, 30, 128, 300], 3)
    const text = own.map((tokens) => ({ tokens, bytes: tokens.length }))
    const known = routerStatistics(V, own)
    expect(statisticsShare(known, known, text)).toBeCloseTo(0.5, 6)
    const other = routerStatistics(V, madeUpDocuments(V, [40, 30, 128], 4))
    expect(statisticsShare(known, other, text)).toBeLessThan(0.3)
  })
})

describe('acceptance of router statistics', () => {
  const judged = ({ tokens }: RouterStatistics): Promise<string> =>
    codeOfAsync(() => checkStatistics(new Map([[STATISTICS_TOKENS, { shape: [V], data: tokens }]])))

  it('accepts the statistics of any text, and an expert without statistics', async () => {
    for (const lengths of [[1], [1, 1, 1], [2, 128], new Array<number>(64).fill(5)])
      expect(await judged(routerStatistics(V, madeUpDocuments(V, lengths)))).toBe('accept')
    expect(await codeOfAsync(() => checkStatistics(new Map()))).toBe('accept')
  })

  it.each([
    ['a share below 0', (share: number, v: number) => share + (v === 0 ? -0.1 : v === 9 ? 0.1 : 0)],
    ['a share that is not a number', (share: number, v: number) => (v === 4 ? Number.NaN : share)],
    ['shares that sum to more than 1', (share: number) => 1.01 * share],
    ['shares that sum to less than 1', (share: number) => 0.99 * share],
    ['shares that are all 0', () => 0],
  ] as const)('refuses %s', async (_, change) => {
    const { tokens } = routerStatistics(V, madeUpDocuments(V, [40, 30, 20]))
    expect(await judged({ tokens: tokens.map(change) })).toBe('statistics-shares')
  })
})
