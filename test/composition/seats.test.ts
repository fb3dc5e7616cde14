import { describe, expect, it } from 'vitest'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { seated } from '../../src/composition/seats.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { tinyExperts } from '../support/compositions.ts'

const [one] = tinyExperts('A') as [AcceptedExpert]
/** Experts of publishers with these numbers of packages. */
const experts = (...counts: number[]) =>
  counts.flatMap((count, p) =>
    Array.from({ length: count }, (_, i) => ({
      ...one,
      peerId: `peer ${p}`,
      id: digestOf(Uint8Array.of(p, i)),
    })),
  )
const shuffled = <T>(items: readonly T[]): T[] => {
  const random = mulberry32(3)
  return items
    .map((item) => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item)
}

describe('the seats of a composition', () => {
  it('are for all accepted experts if there are enough', () => {
    const all = experts(60, 3)
    expect(seated(all)).toEqual(all)
  })

  it('go to each publisher in turn if there are too few, whatever the order of the experts', () => {
    const all = experts(100, 2, 5)
    const chosen = seated(all)
    const countOf = (p: number) => chosen.filter(({ peerId }) => peerId === `peer ${p}`).length
    expect([countOf(0), countOf(1), countOf(2)]).toEqual([56, 2, 5])
    const ids = (list: typeof chosen) => list.map(({ id }) => id).sort()
    expect(ids(seated(shuffled(all)))).toEqual(ids(chosen))
  })
})
