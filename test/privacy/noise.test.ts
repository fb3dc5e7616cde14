import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkStatistics } from '../../src/acceptance/weight-checks.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { STATISTICS_TOKENS } from '../../src/lib/tensor-names.ts'
import type { RouterStatistics } from '../../src/model/solved-router.ts'
import { NOISE_DELTA, noiseDeviation, noisedStatistics } from '../../src/privacy/noise.ts'
import { codeOf } from '../support/packages.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'

const V = 200
const DOCUMENTS = 100
const noised = (exact: RouterStatistics, epsilon: number, seed: number): Float32Array => {
  const uniform = mulberry32(seed)
  return noisedStatistics(exact, DOCUMENTS, epsilon, () => 1 - uniform()).tokens
}
const judged = (data: Float32Array): string =>
  codeOf(() =>
    checkStatistics(
      new Map([[STATISTICS_TOKENS, { name: STATISTICS_TOKENS, dtype: 'F32', shape: [data.length], data }]]),
    ),
  )
const sum = (shares: Float32Array): number => shares.reduce((total, share) => total + share, 0)

describe('noise on router statistics', () => {
  it('is scaled to the maximum change by one document, which is a tight bound', () => {
    const shares = fc
      .array(fc.integer({ min: 1, max: 1000 }), { minLength: 4, maxLength: 4 })
      .map((counts) => {
        const total = counts.reduce((a, b) => a + b)
        return counts.map((count) => count / total)
      })
    const distance = (a: readonly number[], b: readonly number[]): number =>
      Math.hypot(...a.map((x, i) => x - (b[i] as number)))
    fc.assert(
      fc.property(shares, shares, (a, b) => {
        expect(distance(a, b)).toBeLessThanOrEqual(Math.SQRT2)
      }),
      { seed: 7, numRuns: 1000 },
    )
    expect(distance([1, 0, 0, 0], [0, 1, 0, 0])).toBe(Math.SQRT2)
    // The same bound, from the standard deviation: rho = D^2 / (2 sigma^2), epsilon = rho + 2 sqrt(rho ln(1/delta)).
    for (const documents of [64, DOCUMENTS, 8192]) {
      for (const epsilon of [0.1, 1, 8, 64]) {
        const rho = 2 / documents ** 2 / (2 * noiseDeviation(documents, epsilon) ** 2)
        expect(rho + 2 * Math.sqrt(rho * Math.log(1 / NOISE_DELTA))).toBeCloseTo(epsilon, 9)
      }
    }
  })

  it('has the deviation that epsilon demands', () => {
    const uniform = { tokens: new Float32Array(V).fill(1 / V) }
    const epsilon = 5000
    let squares = 0
    for (let round = 0; round < 500; round++) {
      for (const share of noised(uniform, epsilon, round)) squares += (share - 1 / V) ** 2
    }
    // The shares sum to 1 again, so one of V directions has no noise.
    const deviation = Math.sqrt(squares / 500 / (V - 1))
    expect(deviation / noiseDeviation(DOCUMENTS, epsilon)).toBeCloseTo(1, 2)
  })

  it.each([0.01, 1, 8, 100])(
    'gives shares that sum to 1 and that a receiver accepts, at epsilon %d',
    (epsilon) => {
      for (let seed = 1; seed <= 20; seed++) {
        const shares = noised(madeUpStatistics(V, seed), epsilon, seed)
        expect(shares.every((share) => share >= 0)).toBe(true)
        expect(sum(shares)).toBeCloseTo(1, 5)
        expect(judged(shares)).toBe('accept')
      }
    },
  )

  it('keeps large shares, and gives a share to few tokens that never occur', () => {
    const often = 20
    const tokens = new Float32Array(20_000).fill(1 / often, 0, often)
    const shares = noised({ tokens }, 100, 3)
    const kept = shares.subarray(0, often)
    expect(Math.max(...kept.map((share) => Math.abs(share - 1 / often)))).toBeLessThan(0.02)
    const others = [...shares.subarray(often)].filter((share) => share > 0)
    expect(others.length).toBeGreaterThan(0)
    expect(others.length).toBeLessThan(0.003 * tokens.length)
  })

  it('gives all tokens the same share if none exceeds the noise', () => {
    // The random numbers make the noise 0, and all shares are below the threshold.
    const { tokens } = noisedStatistics(madeUpStatistics(V, 1), DOCUMENTS, 0.001, () => 1)
    expect(tokens).toEqual(new Float32Array(V).fill(1 / V))
    expect(judged(tokens)).toBe('accept')
  })

  it('comes from the generator of the system by default, so that no two results are equal', () => {
    const exact = madeUpStatistics(V, 1)
    const [a, b] = [1, 2].map(() => noisedStatistics(exact, DOCUMENTS, 100).tokens) as [
      Float32Array,
      Float32Array,
    ]
    expect(a).not.toEqual(b)
    expect(a).not.toEqual(exact.tokens)
    expect([judged(a), judged(b)]).toEqual(['accept', 'accept'])
  })
})
