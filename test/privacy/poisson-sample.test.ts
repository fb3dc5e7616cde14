import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { poissonSample, truncationDelta } from '../../src/privacy/poisson-sample.ts'
import { cryptographic, gaussian } from '../../src/privacy/random.ts'

const SAMPLING = { units: 200, sampleRate: 0.1, capacity: 200 }

describe('Poisson samples', () => {
  it('have the mean and variance of independent choices, not a fixed size', () => {
    const uniform = mulberry32(1)
    const sizes = Array.from({ length: 10_000 }, () => poissonSample(SAMPLING, uniform).length)
    const mean = sizes.reduce((sum, x) => sum + x, 0) / sizes.length
    const variance = sizes.reduce((sum, x) => sum + (x - mean) ** 2, 0) / sizes.length
    // Four standard deviations of each estimate.
    expect(Math.abs(mean - 20)).toBeLessThan(4 * Math.sqrt(18 / 10_000))
    expect(Math.abs(variance - 18)).toBeLessThan(4 * 18 * Math.sqrt(2 / 10_000))
  })

  it('contain every unit with the same probability, independently of the last step', () => {
    const uniform = mulberry32(2)
    const counts = new Int32Array(SAMPLING.units)
    let again = 0
    let before = new Set<number>()
    for (let step = 0; step < 2000; step++) {
      const sample = poissonSample(SAMPLING, uniform)
      for (const unit of sample) counts[unit] = (counts[unit] as number) + 1
      again += sample.filter((unit) => before.has(unit)).length
      before = new Set(sample)
    }
    // A shuffled pass over the units would never choose a unit twice in a row here.
    expect(Math.abs(again / 2000 - 2)).toBeLessThan(0.2)
    for (const count of counts) expect(Math.abs(count - 200)).toBeLessThan(5 * Math.sqrt(180))
  })

  it('may be empty', () => {
    expect(poissonSample({ units: 5, sampleRate: 0, capacity: 5 }, mulberry32(3))).toEqual([])
  })

  it('leave out a random part above the capacity', () => {
    const uniform = mulberry32(4)
    const counts = new Int32Array(10)
    for (let step = 0; step < 5000; step++) {
      const sample = poissonSample({ units: 10, sampleRate: 1, capacity: 4 }, uniform)
      expect(new Set(sample).size).toBe(4)
      for (const unit of sample) counts[unit] = (counts[unit] as number) + 1
    }
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(5000 * 0.24))
  })
})

describe('the delta of truncation', () => {
  const run = { units: 50, sampleRate: 0.2, steps: 3, epsilon: 1 }

  it('bounds the probability of the binomial distribution that a sample exceeds the capacity', () => {
    for (const capacity of [12, 15, 20, 30, 50]) {
      // The neighbouring text may have one unit more.
      const n = run.units + 1
      let tail = 0
      let term = (1 - run.sampleRate) ** n
      for (let k = 0; k <= n; k++) {
        if (k > capacity) tail += term
        term *= ((n - k) / (k + 1)) * (run.sampleRate / (1 - run.sampleRate))
      }
      const exact = (1 + Math.E) * run.steps * tail
      expect(truncationDelta({ ...run, capacity })).toBeGreaterThanOrEqual(Math.min(1, exact) * (1 - 1e-9))
    }
  })

  it('is zero if no sample can exceed the capacity, and 1 if most do', () => {
    expect(truncationDelta({ ...run, capacity: 51 })).toBe(0)
    expect(truncationDelta({ ...run, capacity: 8 })).toBe(1)
  })

  it('falls with the capacity', () => {
    const deltas = [15, 20, 25, 30].map((capacity) => truncationDelta({ ...run, capacity }))
    expect([...deltas].sort((a, b) => b - a)).toEqual(deltas)
    expect(deltas.at(-1)).toBeLessThan(1e-6)
  })
})

describe('random numbers', () => {
  it('are standard normal in double precision', () => {
    const normal = gaussian(cryptographic())
    const draws = Array.from({ length: 20_000 }, normal).sort((a, b) => a - b)
    // Kolmogorov and Smirnov: the largest distance to the distribution, times sqrt(n), exceeds 1.95 once in 1000 runs;
    // 2.7 once in a million.
    const distance = draws.reduce(
      (most, x, i) =>
        Math.max(
          most,
          Math.abs(cumulative(x) - i / draws.length),
          Math.abs(cumulative(x) - (i + 1) / draws.length),
        ),
      0,
    )
    expect(distance * Math.sqrt(draws.length)).toBeLessThan(2.7)
    expect(draws.filter((x) => Math.fround(x) === x).length).toBeLessThan(10)
  })

  it('are never 0, whose logarithm is infinite', () => {
    const uniform = cryptographic()
    for (let i = 0; i < 100_000; i++) {
      const value = uniform()
      if (!(value > 0 && value <= 1)) throw new Error(`got ${value}`)
    }
  })
})

/** Standard normal distribution function, by the error function of Abramowitz and Stegun 7.1.26. */
function cumulative(x: number): number {
  const z = Math.abs(x) / Math.SQRT2
  const t = 1 / (1 + 0.3275911 * z)
  const polynomial =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
  const half = 0.5 * polynomial * Math.exp(-z * z)
  return x > 0 ? 1 - half : half
}
