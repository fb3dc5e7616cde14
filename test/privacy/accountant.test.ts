import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { epsilonOf, noiseFor, type SubsampledGaussian, stepRdp } from '../../src/privacy/accountant.ts'

const runs = (sampleRate: number, noiseMultiplier: number, steps: number): SubsampledGaussian => ({
  sampleRate,
  noiseMultiplier,
  steps,
})
const epsilon = (mechanism: SubsampledGaussian, delta: number): number =>
  epsilonOf([mechanism], delta).epsilon
const relative = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b)
/** Epsilon by the conversion of Mironov 2017 (arXiv 1702.07476, proposition 3), which older tables use. */
const olderEpsilon = (mechanism: SubsampledGaussian, delta: number): number => {
  const orders = Array.from({ length: 255 }, (_, index) => index + 2)
  return Math.min(
    ...orders.map((order) => mechanism.steps * stepRdp(mechanism, order) - Math.log(delta) / (order - 1)),
  )
}

describe('published epsilons', () => {
  it.each([
    [
      'TF-Privacy, compute_dp_sgd_privacy_test, first case',
      runs(150 / 60_000, 1.3, 6000),
      1e-5,
      0.7242234026109595,
      19,
    ],
    [
      'TF-Privacy, compute_dp_sgd_privacy_test, second case',
      runs(0.001, 1, 30_000),
      1e-7,
      1.4154988495444842,
      13,
    ],
  ])('equal ours at integer orders: %s', (_, mechanism, delta, published, order) => {
    const ours = epsilonOf([mechanism], delta)
    expect(relative(ours.epsilon, published)).toBeLessThan(1e-9)
    expect(ours.order).toBe(order)
  })

  it.each([
    ['Opacus, accountants_test', runs(0.04, 1.5, 2250), 1e-5, 7.32911117143, 7.3298767738],
    ['TF-Privacy, no sampling', runs(1, 0.7, 2), 1e-5, 10.8602036, 10.9241404597],
    ['TF-Privacy, half the noise', runs(1, 0.35, 2), 1e-5, 26.2880374, 26.4531617161],
    ['TF-Privacy, Poisson sampling', runs(0.01, 0.7, 120), 1e-5, 3.2392676, 3.3994076754],
    ['TF-Privacy, statement test, sampled', runs(0.0064, 1, 782), 1e-6, 1.61639, 1.6362167357],
    ['TF-Privacy, statement test, not sampled', runs(1, 1, 5), 1e-6, 13.37638, 13.4529840265],
    ['dp-accounting, Gaussian test', runs(1, 4.530877117, 1), 1e-6, 1, 1.0000002896],
  ])('at fractional orders are at most 6 %% below ours: %s', (_, mechanism, delta, published, atIntegers) => {
    const ours = epsilon(mechanism, delta)
    expect(ours).toBeGreaterThanOrEqual(published)
    expect(ours).toBeLessThanOrEqual(published * 1.06)
    expect(relative(ours, atIntegers)).toBeLessThan(1e-9)
  })

  it('equal ours for two different mechanisms one after the other: Opacus, doc-test of the RDP analysis', () => {
    const orders = Array.from({ length: 31 }, (_, index) => index + 2)
    const { epsilon, order } = epsilonOf([runs(1e-5, 1, 10), runs(1e-4, 3, 4)], 1e-5, orders)
    expect(epsilon).toBeCloseTo(0.336, 3)
    expect(order).toBe(23)
  })

  it('have the Rényi divergences of dp-accounting, test_compute_rdp_poisson_sampled_gaussian', () => {
    const mechanism = runs(0.01, 2.5, 50)
    const ours = [5, 50, 100].map((order) => mechanism.steps * stepRdp(mechanism, order))
    const theirs = [2.18075656e-3, 2.38460375e-2, 1.67416308e2]
    for (const [index, value] of ours.entries())
      expect(relative(value, theirs[index] as number)).toBeLessThan(3e-9)
  })

  it.each([
    ['TF-Privacy tutorial, 1 epoch', runs(256 / 60_000, 1.1, 234), 1.03, 0.7402],
    ['TF-Privacy tutorial, 2 epochs', runs(256 / 60_000, 1.1, 468), 1.11, 0.8066],
    ['TF-Privacy tutorial, 60 epochs', runs(256 / 60_000, 1.1, 14_062), 3.01, 2.5966],
    ['Abadi et al. 2016, figure 2', runs(0.01, 4, 10_000), 1.26, 1.0355],
  ])('follow from ours by the older conversion, and ours is lower: %s', (_, mechanism, published, ours) => {
    expect(olderEpsilon(mechanism, 1e-5)).toBeCloseTo(published, 2)
    expect(epsilon(mechanism, 1e-5)).toBeCloseTo(ours, 3)
  })
})

/** Computed by scripts/parity/accountant_vectors.py. */
interface StoredCase {
  readonly mechanisms: readonly SubsampledGaussian[]
  readonly delta: number
  readonly rdp: number
  readonly order: number
  readonly opacus: number
  readonly lower: number
  readonly upper: number
}
const { cases } = JSON.parse(readFileSync(new URL('accountant-vectors.json', import.meta.url), 'utf8')) as {
  cases: StoredCase[]
}

describe('epsilons by dp-accounting and Opacus', () => {
  it.each(cases.map((stored) => [JSON.stringify(stored.mechanisms), stored] as const))(
    'equal ours and are above the smallest epsilon: %s',
    (_, { mechanisms, delta, rdp, order, opacus, lower }) => {
      const ours = epsilonOf(mechanisms, delta)
      expect(relative(ours.epsilon, rdp)).toBeLessThan(1e-9)
      expect(relative(ours.epsilon, opacus)).toBeLessThan(1e-9)
      expect(ours.order).toBe(order)
      expect(ours.epsilon).toBeGreaterThan(lower)
    },
  )
})

describe('every epsilon', () => {
  const parameters = fc.record({
    sampleRate: fc.double({ min: 1e-6, max: 1, noNaN: true }),
    noiseMultiplier: fc.double({ min: 0.05, max: 50, noNaN: true }),
    steps: fc.integer({ min: 1, max: 100_000 }),
  })
  const deltas = fc.double({ min: 1e-12, max: 0.1, noNaN: true })
  /** The accountant on few orders, so that 10,000 cases take seconds. */
  const fast = (mechanism: SubsampledGaussian, delta: number): number =>
    epsilonOf([mechanism], delta, [2, 3, 5, 8, 16, 32, 64]).epsilon

  it('is finite and not negative', () => {
    fc.assert(
      fc.property(parameters, deltas, (mechanism, delta) => {
        const value = fast(mechanism, delta)
        expect(Number.isFinite(value) && value >= 0).toBe(true)
      }),
      { seed: 17, numRuns: 10_000 },
    )
  })

  it('is not lower with more steps, a larger sample, less noise or a smaller delta', () => {
    fc.assert(
      fc.property(
        parameters,
        deltas,
        fc.double({ min: 0.1, max: 0.99, noNaN: true }),
        (mechanism, delta, factor) => {
          const value = fast(mechanism, delta) * (1 + 1e-12)
          const { sampleRate, noiseMultiplier, steps } = mechanism
          expect(fast({ ...mechanism, steps: Math.floor(steps * factor) }, delta)).toBeLessThanOrEqual(value)
          expect(fast({ ...mechanism, sampleRate: sampleRate * factor }, delta)).toBeLessThanOrEqual(value)
          expect(
            fast({ ...mechanism, noiseMultiplier: noiseMultiplier / factor }, delta),
          ).toBeLessThanOrEqual(value)
          expect(fast(mechanism, delta / factor)).toBeLessThanOrEqual(value)
        },
      ),
      { seed: 18, numRuns: 1000 },
    )
  })

  it('is that of the Gaussian mechanism if every step uses every unit', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.3, max: 20, noNaN: true }),
        fc.integer({ min: 2, max: 256 }),
        (sigma, order) => {
          expect(relative(stepRdp(runs(1, sigma, 1), order), order / (2 * sigma * sigma))).toBeLessThan(1e-12)
          const almost = stepRdp(runs(1 - 1e-13, sigma, 1), order)
          expect(relative(almost, order / (2 * sigma * sigma))).toBeLessThan(1e-9)
        },
      ),
      { seed: 19, numRuns: 500 },
    )
  })

  it('spends nothing without steps or without units, and has no bound without noise', () => {
    expect(epsilon(runs(0.1, 0, 0), 0.4)).toBeLessThan(0.01)
    expect(stepRdp(runs(0, 0, 10), 2)).toBe(0)
    expect(epsilon(runs(0.1, 0, 1), 1e-5)).toBe(Number.POSITIVE_INFINITY)
  })

  it('refuses parameters outside their ranges', () => {
    expect(() => epsilon(runs(1.1, 1, 1), 1e-5)).toThrow('sampleRate: expected 0 to 1, got 1.1')
    expect(() => epsilon(runs(Number.NaN, 1, 1), 1e-5)).toThrow('sampleRate')
    expect(() => epsilon(runs(0.1, -1, 1), 1e-5)).toThrow('noiseMultiplier: expected 0 or more, got -1')
    expect(() => epsilon(runs(0.1, 1, Number.NaN), 1e-5)).toThrow('steps')
    for (const delta of [0, 1, -1, Number.NaN]) expect(() => epsilon(runs(0.1, 1, 1), delta)).toThrow('delta')
    expect(() => noiseFor({ epsilon: 0, delta: 1e-5, sampleRate: 0.1, steps: 1 })).toThrow('epsilon')
  })
})

describe('the noise for an epsilon', () => {
  it.each([
    [2000, 64, 200, [1.92, 1.24, 0.89, 0.69]],
    [8000, 256, 200, [2.07, 1.31, 0.94, 0.7]],
    [20_000, 256, 1000, [1.9, 1.19, 0.86, 0.67]],
    [100_000, 256, 200, [1.0, 0.76, 0.59, 0.46]],
  ])(
    'of %i units, batches of %i and %i steps is the smallest that is enough',
    (units, batch, steps, expected) => {
      const request = { delta: 1 / (10 * units), sampleRate: batch / units, steps }
      for (const [index, target] of [1, 2, 4, 8].entries()) {
        const sigma = noiseFor({ epsilon: target, ...request }) as number
        expect(Math.abs(sigma - (expected[index] as number))).toBeLessThan(0.0051)
        expect(epsilon({ noiseMultiplier: sigma, ...request }, request.delta)).toBeLessThanOrEqual(target)
        expect(epsilon({ noiseMultiplier: sigma * 0.9999, ...request }, request.delta)).toBeGreaterThan(
          target,
        )
      }
    },
  )

  it('is larger after earlier mechanisms on the same units, and missing if they have spent too much', () => {
    const request = { epsilon: 2, delta: 1e-5, sampleRate: 0.01, steps: 200 }
    const first = runs(0.01, 1, 200)
    const alone = noiseFor(request) as number
    const later = noiseFor({ ...request, before: [first] }) as number
    expect(later).toBeGreaterThan(alone)
    expect(epsilonOf([first, { ...request, noiseMultiplier: later }], 1e-5).epsilon).toBeLessThanOrEqual(2)
    expect(noiseFor({ ...request, before: [runs(1, 0.5, 1)] })).toBeUndefined()
  })
})
