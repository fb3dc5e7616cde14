import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { canaryAudit } from '../../src/privacy/canary-audit.ts'
import { defaultCanaries } from '../../src/privacy/canary-number.ts'

/** Secret coins of `count` canaries. */
const coins = (count: number, seed: number): boolean[] => {
  const random = mulberry32(seed)
  return Array.from({ length: count }, () => random() < 0.5)
}

describe('guesses about canaries', () => {
  it('are all right about a model that has memorised every canary in its text', () => {
    const included = coins(100, 1)
    const found = canaryAudit(
      included.map((is) => (is ? 1 : 0)),
      included,
      0,
    )
    expect(found).toMatchObject({ canaries: 100, guesses: 50, right: 50 })
    expect(found.epsilonLow).toBeCloseTo(2.78, 2)
  })

  it('prove nothing about a model that has learnt nothing of them', () => {
    const random = mulberry32(3)
    const included = coins(200, 2)
    expect(
      canaryAudit(
        included.map(() => random()),
        included,
        0,
      ).epsilonLow,
    ).toBe(0)
  })

  it('are made about the highest and the lowest scores, a quarter each', () => {
    const included = [true, false, false, true, true, false, true, false]
    const scores = [9, 8, 5, 4, 3, 2, 1, 0]
    // In: 9 (right), 8 (wrong). Out: 1 (wrong), 0 (right).
    expect(canaryAudit(scores, included, 0)).toMatchObject({ guesses: 4, right: 2 })
  })

  it('prove at most the epsilon of the Gaussian mechanism in 19 of 20 runs', () => {
    // A sum in which each canary has a coordinate of its own: sensitivity 1, noise sigma. Epsilon 2 needs sigma 1.9 at
    // delta 1e-5 (Balle and Wang 2018, arXiv 1805.06530).
    const [epsilon, delta, sigma] = [2, 1e-5, 1.936]
    const runs = 60
    let above = 0
    for (let run = 0; run < runs; run++) {
      const random = mulberry32(1000 + run)
      const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
      const included = coins(500, 2000 + run)
      const scores = included.map((is) => (is ? 1 : 0) + sigma * normal())
      if (canaryAudit(scores, included, delta).epsilonLow > epsilon) above++
    }
    expect(above).toBe(0)
  })
})

describe('the number of canaries that nobody asked for', () => {
  it.each([
    [100_000, 4e6, 0],
    [640_000, 4e6, 100],
    [1_000_000, 4e6, 156],
    [1e9, 4e6, 500],
    [1e9, 1.5e9, 0],
  ])('of %i tokens beside %f weights is %i', (tokens, weights, count) => {
    expect(defaultCanaries(tokens, weights)).toBe(count)
  })
})
