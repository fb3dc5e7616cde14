import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { attack, leastLikely, membership } from '../../src/privacy/membership-audit.ts'

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i)

describe('an attack on membership', () => {
  it('finds 11 % at 1 % false accusations in the example of jax_privacy', () => {
    // docs of google-deepmind/jax_privacy, auditing.py: others 0..99, members 9.5..108.5.
    const { area, at } = attack(range(9.5, 100), range(0, 100))
    // Pairs in which the member scores higher: 10 + ... + 99 for the first 90 members, 100 for each of the others.
    expect(area).toBeCloseTo(5905 / 10_000, 9)
    expect(at[0]).toMatchObject({ falsePositiveRate: 0.01, accused: 1, found: 11, rate: 0.11 })
    expect(at[0]?.interval.low).toBeCloseTo(0.0562, 4)
    expect(at[0]?.interval.high).toBeCloseTo(0.1883, 4)
    expect(at[1]).toMatchObject({ falsePositiveRate: 0.001, accused: 0, found: 10 })
  })

  it('finds all members that score above all others, and none that score below', () => {
    expect(attack([5, 6], [1, 2, 3])).toMatchObject({ area: 1, at: [{ found: 2, rate: 1 }, { found: 2 }] })
    expect(attack([1, 2], [5, 6])).toMatchObject({ area: 0, at: [{ found: 0, rate: 0 }, { found: 0 }] })
  })

  it('gives ties no member, and half of the area', () => {
    expect(attack([3, 3], [3, 3])).toMatchObject({ area: 0.5, at: [{ found: 0 }, { found: 0 }] })
  })

  it('accuses at most the stated share of the others', () => {
    const random = mulberry32(5)
    const scores = (): number[] => Array.from({ length: 1500 }, () => random())
    const others = scores()
    const { at } = attack(scores(), others)
    expect(at.map(({ accused }) => accused)).toEqual([15, 1])
    const [first] = at
    expect(first?.interval.low).toBeLessThan(0.01)
  })

  it('says nothing without others', () => {
    expect(attack([1], [])).toMatchObject({ area: 0.5, at: [{ found: 0 }, { found: 0 }] })
  })
})

describe('the scores of a text', () => {
  it('Min-K%++ averages the fifth of the tokens that are the least likely', () => {
    expect(leastLikely({ standard: Float64Array.from([9, -3, 8, 7, 6, -5, 5, 4, 3, 2]) })).toBe(-4)
    expect(leastLikely({ standard: Float64Array.of(1, 2) })).toBe(1)
  })

  it('the loss ratio finds texts that the expert predicts better than the public model', () => {
    const score = (nats: number) => ({
      nats: Float64Array.of(nats, nats),
      standard: Float64Array.of(0, 0),
      greedy: Uint8Array.of(0, 0),
    })
    const found = membership(
      { pair: [score(1), score(2)], public: [score(3), score(4)] },
      { pair: [score(1), score(2)], public: [score(1), score(2)] },
    )
    expect(found).toMatchObject({ members: 2, others: 2 })
    expect(found.lossRatio.at[0]?.found).toBe(2)
    expect(found.minK.at[0]?.found).toBe(0)
  })
})
