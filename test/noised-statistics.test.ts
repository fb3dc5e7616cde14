import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkStatistics } from '../src/acceptance/checks.ts'
import { mulberry32 } from '../src/model/sampling.ts'
import type { RouterStatistics } from '../src/model/solved-router.ts'
import { STATISTICS_MEAN, STATISTICS_SECOND } from '../src/packaging/tensor-names.ts'
import { NOISE_DELTA, noiseDeviation, noisedStatistics } from '../src/training/noised-statistics.ts'
import { codeOf } from './support/packages.ts'

const C = 12
const DOCUMENTS = 100

/** A point of norm at most 1 and its outer product, as one vector whose length counts every entry of both. */
function pointOf(f: readonly number[]): number[] {
  return [...f, ...f.flatMap((x) => f.map((y) => x * y))]
}
const distance = (a: readonly number[], b: readonly number[]): number =>
  Math.hypot(...a.map((x, i) => x - (b[i] as number)))

/** Moments of random features within the unit ball, of which most lie near one direction. */
function statistics(seed: number): RouterStatistics {
  const random = mulberry32(seed)
  const mean = new Float64Array(C)
  const second = new Float64Array((C * (C + 1)) / 2)
  for (let n = 0; n < DOCUMENTS; n++) {
    const x = Array.from({ length: C }, (_, i) => (i === 0 ? 0.3 : 0) + 0.2 * (random() - 0.5))
    let at = 0
    for (let i = 0; i < C; i++) {
      mean[i] = (mean[i] as number) + (x[i] as number) / DOCUMENTS
      for (let j = i; j < C; j++) {
        second[at] = (second[at] as number) + ((x[i] as number) * (x[j] as number)) / DOCUMENTS
        at++
      }
    }
  }
  return { second: Float32Array.from(second), mean: Float32Array.from(mean) }
}

const judged = ({ second, mean }: RouterStatistics): string => {
  const tensor = (name: string, data: Float32Array) =>
    [name, { name, dtype: 'F32' as const, shape: [data.length], data }] as const
  return codeOf(() =>
    checkStatistics(new Map([tensor(STATISTICS_SECOND, second), tensor(STATISTICS_MEAN, mean)])),
  )
}

describe('noise on router statistics', () => {
  it('is scaled to what one document can move, which is reached and never passed', () => {
    const coordinate = fc.double({ min: -1, max: 1, noNaN: true })
    const ball = fc
      .array(coordinate, { minLength: 3, maxLength: 3 })
      .map((x) => x.map((value) => value / Math.max(1, Math.hypot(...x))))
    fc.assert(
      fc.property(ball, ball, (f, g) => {
        expect(distance(pointOf(f), pointOf(g))).toBeLessThanOrEqual(Math.sqrt(4.5) + 1e-9)
      }),
      { seed: 7, numRuns: 2000 },
    )
    const turned = [-0.5, Math.sqrt(0.75), 0]
    expect(distance(pointOf([1, 0, 0]), pointOf(turned))).toBeCloseTo(Math.sqrt(4.5), 9)
    // The same bound, from the standard deviation: rho = D^2 / (2 sigma^2), epsilon = rho + 2 sqrt(rho ln(1/delta)).
    for (const epsilon of [0.1, 1, 8, 64]) {
      const rho = 4.5 / DOCUMENTS ** 2 / (2 * noiseDeviation(DOCUMENTS, epsilon) ** 2)
      expect(rho + 2 * Math.sqrt(rho * Math.log(1 / NOISE_DELTA))).toBeCloseTo(epsilon, 9)
    }
  })

  it('has the deviation that was asked for, half the variance off the diagonal', () => {
    const exact = statistics(1)
    const epsilon = 5000
    const sigma = noiseDeviation(DOCUMENTS, epsilon)
    const uniform = mulberry32(2)
    const squares = { mean: 0, diagonal: 0, other: 0 }
    const counts = { mean: 0, diagonal: 0, other: 0 }
    for (let round = 0; round < 200; round++) {
      const noised = noisedStatistics(exact, DOCUMENTS, epsilon, () => 1 - uniform())
      let at = 0
      for (let i = 0; i < C; i++) {
        squares.mean += ((noised.mean[i] as number) - (exact.mean[i] as number)) ** 2
        counts.mean++
        for (let j = i; j < C; j++) {
          const kind = i === j ? 'diagonal' : 'other'
          squares[kind] += ((noised.second[at] as number) - (exact.second[at] as number)) ** 2
          counts[kind]++
          at++
        }
      }
    }
    expect(Math.sqrt(squares.mean / counts.mean) / sigma).toBeCloseTo(1, 1)
    expect(Math.sqrt(squares.diagonal / counts.diagonal) / sigma).toBeCloseTo(1, 1)
    expect(Math.sqrt(squares.other / counts.other) / sigma).toBeCloseTo(Math.SQRT1_2, 1)
  })

  it.each([0.01, 1, 8, 100])('leaves statistics that a receiver takes, at epsilon %d', (epsilon) => {
    for (let seed = 1; seed <= 20; seed++) {
      const uniform = mulberry32(seed)
      const noised = noisedStatistics(statistics(seed), DOCUMENTS, epsilon, () => 1 - uniform())
      expect(judged(noised)).toBe('accept')
    }
  })

  it('comes from the system’s generator unless a test says otherwise: never twice the same', () => {
    const exact = statistics(1)
    const [a, b] = [1, 2].map(() => noisedStatistics(exact, DOCUMENTS, 8))
    expect(a).not.toEqual(b)
    expect(a).not.toEqual(exact)
    expect(judged(a as RouterStatistics)).toBe('accept')
  })
})
