import { describe, expect, it } from 'vitest'
import { epsilonOf } from '../../src/privacy/accountant.ts'
import { planPrivacy } from '../../src/privacy/private-plan.ts'

const FACTS = { units: 2000, steps: 60, windowsPerUnit: 4, trained: 30_000 }

describe('the parameters of a private training', () => {
  it.each([1, 2, 8])('spend at most epsilon %i, with delta of truncation included', (epsilon) => {
    const plan = planPrivacy({ unit: 'document', epsilon }, FACTS)
    const { noiseMultiplier, sampleRate, steps, delta, truncationDelta } = plan
    expect(
      epsilonOf([{ noiseMultiplier, sampleRate, steps }], delta - truncationDelta).epsilon,
    ).toBeLessThanOrEqual(epsilon)
    expect(delta).toBe(1e-5)
    expect(truncationDelta).toBeLessThanOrEqual(delta / 100)
    expect(plan.expectedBatch).toBe(256)
    expect(plan.capacity).toBeLessThan(600)
  })

  it('take all units in every step if these are fewer than a batch', () => {
    const plan = planPrivacy({ unit: 'source', epsilon: 50 }, { ...FACTS, units: 90 })
    expect(plan).toMatchObject({
      unit: 'source',
      expectedBatch: 90,
      sampleRate: 1,
      truncationDelta: 0,
      delta: 1e-3,
    })
  })

  it('have less noise for a batch, relative to its units, the larger the batch is', () => {
    const noise = (batch: number): number => {
      const { noiseMultiplier } = planPrivacy({ unit: 'document', epsilon: 8, batch }, FACTS)
      return noiseMultiplier / batch
    }
    expect(noise(256)).toBeLessThan(0.7 * noise(64))
    expect(noise(64)).toBeLessThan(0.7 * noise(32))
  })

  it('are refused if noise would drown everything that the units can teach', () => {
    const plan = () => planPrivacy({ unit: 'document', epsilon: 1 }, { ...FACTS, units: 78 })
    expect(plan).toThrow(
      /^78 documents are too few for --epsilon 1: the noise would be \d+\.\d times as large/,
    )
  })

  it('use the delta that the owner asked for', () => {
    expect(planPrivacy({ unit: 'document', epsilon: 8, delta: 1e-6 }, FACTS).delta).toBe(1e-6)
  })
})
