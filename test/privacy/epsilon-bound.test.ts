import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { atLeast, binomial, clopperPearson } from '../../src/privacy/binomial.ts'
import { epsilonLowerBound, guessesFor } from '../../src/privacy/epsilon-bound.ts'

/** Canaries, guesses and right guesses, and the bounds at delta 0, 1e-6 and 1e-5. */
const VECTORS = [
  [100, 100, 100, 3.493, 3.4927, 3.4902],
  [100, 100, 80, 0.9584, undefined, 0.9581],
  [100, 50, 45, 1.3936, 1.3935, 1.3928],
  [200, 100, 90, 1.6308, 1.6307, 1.6299],
  [200, 200, 200, 4.1936, 4.1931, 4.1882],
  [500, 100, 95, 2.1724, 2.1721, 2.1688],
  [500, 500, 500, 5.1144, 5.1131, 5.101],
  [1000, 100, 98, 2.7232, 2.722, 2.711],
  [1000, 500, 300, 0.2517, 0.2516, 0.2512],
  [1000, 1000, 1000, 5.8091, 5.8064, 5.7823],
] as const

describe('the lower bound on epsilon of one run', () => {
  it.each(VECTORS)('of %i canaries, %i guesses, %i right is %f', (canaries, guesses, right, ...bounds) => {
    const deltas = [0, 1e-6, 1e-5]
    bounds.forEach((expected, i) => {
      if (expected === undefined) return
      const bound = epsilonLowerBound({ canaries, guesses, right, delta: deltas[i] as number })
      expect(Math.abs(bound - expected)).toBeLessThan(1e-4)
    })
  })

  it('is 0 for guesses that are right as often as by chance, and for no guesses', () => {
    expect(epsilonLowerBound({ canaries: 100, guesses: 50, right: 27, delta: 0 })).toBe(0)
    expect(epsilonLowerBound({ canaries: 0, guesses: 0, right: 0, delta: 1e-5 })).toBe(0)
  })

  it('does not rise with delta and rises with right guesses', () => {
    const bound = (right: number, delta: number): number =>
      epsilonLowerBound({ canaries: 200, guesses: 100, right, delta })
    for (let right = 60; right < 100; right += 5) {
      expect(bound(right, 1e-4)).toBeLessThan(bound(right, 0))
      expect(bound(right + 1, 1e-5)).toBeGreaterThan(bound(right, 1e-5))
    }
  })

  it('stays below the epsilon of randomised response, the mechanism that reveals most, in 19 of 20 runs', () => {
    // Each coin is reported truthfully with probability e^eps / (1 + e^eps), which is exactly (eps, 0)-private.
    const canaries = 200
    const guesses = guessesFor(canaries)
    for (const epsilon of [0.5, 1, 3]) {
      const random = mulberry32(Math.round(10 * epsilon))
      let above = 0
      for (let run = 0; run < 400; run++) {
        let right = 0
        for (let i = 0; i < guesses; i++) if (random() < 1 / (1 + Math.exp(-epsilon))) right++
        if (epsilonLowerBound({ canaries, guesses, right, delta: 0 }) > epsilon) above++
      }
      expect(above / 400).toBeLessThanOrEqual(0.05 + 0.025)
    }
  })
})

describe('the number of guesses', () => {
  it.each([
    [0, 0],
    [3, 0],
    [100, 50],
    [101, 50],
    [103, 50],
    [500, 250],
  ])('about %i canaries is %i', (canaries, guesses) => {
    expect(guessesFor(canaries)).toBe(guesses)
  })
})

describe('binomial probabilities', () => {
  it('sum to 1, also for thousands of trials and for certain outcomes', () => {
    for (const [trials, q] of [
      [10, 0.3],
      [5000, 0.999],
      [7, 0],
      [7, 1],
    ] as const) {
      expect(atLeast(binomial(trials, q), 0)).toBeCloseTo(1, 9)
    }
    expect(atLeast(binomial(10, 0.5), 8)).toBeCloseTo(56 / 1024, 12)
  })

  // Values of R's binom.test.
  it.each([
    [0, 10, 0, 0.30849710781],
    [1, 10, 0.00252857854, 0.44501611703],
    [5, 10, 0.18708602844, 0.81291397156],
    [10, 10, 0.69150289219, 1],
    [0, 0, 0, 1],
  ])('give the interval of Clopper and Pearson of %i in %i', (successes, trials, low, high) => {
    const interval = clopperPearson(successes, trials)
    expect(interval.low).toBeCloseTo(low, 8)
    expect(interval.high).toBeCloseTo(high, 8)
  })
})
