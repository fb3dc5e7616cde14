import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { epsilonOf, type SubsampledGaussian } from '../../src/privacy/accountant.ts'
import { tightEpsilon } from '../../src/privacy/loss-distribution.ts'
import { normalBetween, upperTail } from '../../src/privacy/normal-distribution.ts'

interface StoredCase {
  readonly mechanisms: readonly SubsampledGaussian[]
  readonly delta: number
  readonly lower: number
  readonly upper: number
}
/** Computed by scripts/parity/accountant_vectors.py: `lower` and `upper` enclose the smallest epsilon. */
const { cases } = JSON.parse(readFileSync(new URL('accountant-vectors.json', import.meta.url), 'utf8')) as {
  cases: StoredCase[]
}

/** Each takes up to a second. */
const some = cases.filter((_, i) => i % 3 === 0)

/** Delta of a Gaussian mechanism at an epsilon (Balle and Wang 2018, arXiv 1805.06530, theorem 8). */
function gaussianDelta(epsilon: number, sigma: number): number {
  const tail = upperTail(epsilon * sigma - 1 / (2 * sigma))
  return tail - Math.exp(epsilon) * upperTail(epsilon * sigma + 1 / (2 * sigma))
}

describe('the tighter epsilon', () => {
  it.each(some.map((stored) => [JSON.stringify(stored.mechanisms), stored] as const))(
    'is not below the smallest one, and hardly above that of dp-accounting: %s',
    (_, { mechanisms, delta, lower, upper }) => {
      const ours = tightEpsilon(mechanisms, delta)
      expect(ours).toBeGreaterThanOrEqual(lower)
      expect(ours).toBeLessThan(upper * 1.015)
      expect(ours).toBeLessThan(epsilonOf(mechanisms, delta).epsilon)
    },
  )

  it.each([
    [1, 1, 1e-5],
    [2, 1, 1e-9],
    [0.5, 1, 1e-6],
    [5, 100, 1e-6],
    [10, 7, 1e-5],
    [0.3, 3, 1e-8],
  ])('encloses the exact one of a Gaussian mechanism: noise %f, %i runs, delta %f', (sigma, runs, delta) => {
    const ours = tightEpsilon([{ noiseMultiplier: sigma, sampleRate: 1, steps: runs }], delta)
    const together = sigma / Math.sqrt(runs)
    expect(gaussianDelta(ours, together)).toBeLessThanOrEqual(delta)
    expect(gaussianDelta(ours * 0.999, together)).toBeGreaterThan(delta)
    expect(
      epsilonOf([{ noiseMultiplier: sigma, sampleRate: 1, steps: runs }], delta).epsilon,
    ).toBeGreaterThan(ours)
  })

  it('grows with the steps, and has no bound without noise', () => {
    const epsilons = [1, 3, 20].map((steps) =>
      tightEpsilon([{ noiseMultiplier: 1, sampleRate: 0.05, steps }], 1e-5),
    )
    expect(epsilons).toEqual(epsilons.toSorted((a, b) => a - b))
    expect(tightEpsilon([], 1e-5)).toBe(0)
    expect(tightEpsilon([{ noiseMultiplier: 1, sampleRate: 0, steps: 9 }], 1e-5)).toBe(0)
    expect(tightEpsilon([{ noiseMultiplier: 0, sampleRate: 0.1, steps: 1 }], 1e-5)).toBe(
      Number.POSITIVE_INFINITY,
    )
  })
})

describe('the normal distribution', () => {
  // Upper tails by mpmath.
  it.each([
    [0, 0.5],
    [1, 0.15865525393145705],
    [2.8, 0.002555130330427932],
    [3, 0.00134989803163009],
    [6, 9.86587645037698e-10],
    [10, 7.61985302416052e-24],
    [-1, 0.8413447460685429],
  ])('has the upper tail of %f', (x, expected) => {
    expect(Math.abs(upperTail(x) / expected - 1)).toBeLessThan(1e-13)
  })

  it('has probabilities of intervals on both sides of 0', () => {
    expect(normalBetween(-1, 1)).toBeCloseTo(0.6826894921370859, 14)
    expect(normalBetween(-4, -3) / normalBetween(3, 4)).toBeCloseTo(1, 12)
    expect(normalBetween(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY)).toBe(1)
    expect(normalBetween(1, 1)).toBe(0)
  })
})
