import { describe, expect, it } from 'vitest'
import { Standing } from '../../src/acceptance/standing.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { consortium, identityOf, NOW, type Publisher } from '../support/consortium.ts'

const c = consortium()
const [owner, other] = [identityOf(2), identityOf(3)]
const add = (standing: Standing, publisher: Publisher, changes = {}) => {
  const { id, manifest } = publisher.manifest(changes)
  return { id, placed: standing.add({ id, manifest }) }
}

const placedIds = (standing: Standing): Digest[] => standing.takePlaced().map(({ id }) => id)
const idOf = (one: { id: Digest } | undefined): Digest => one?.id ?? digestOf(new Uint8Array())

describe('packages of one publisher', () => {
  it('have places in the order of its log; the others wait until one is withdrawn', () => {
    const standing = new Standing(2, () => NOW)
    const publisher = c.publisher(owner)
    const [a, b, third, fourth] = [1, 2, 3, 4].map(() => add(standing, publisher))
    expect([a, b, third, fourth].map((one) => one?.placed)).toEqual([true, true, false, false])
    expect(standing.count(owner.peerId)).toBe(4)
    expect(placedIds(standing)).toEqual([])
    standing.remove(owner.peerId, [idOf(a)])
    expect(placedIds(standing)).toEqual([third?.id])
    expect(placedIds(standing)).toEqual([])
    expect(standing.has(owner.peerId, idOf(fourth))).toBe(false)
  })

  it('that ask again without a place wait once more, and do not count if they are replaced', () => {
    const standing = new Standing(1, () => NOW)
    const publisher = c.publisher(owner)
    const [first, second] = [publisher.manifest(), publisher.manifest()]
    expect([standing.add(first), standing.add(second)]).toEqual([true, false])
    standing.remove(owner.peerId, [])
    expect(standing.claim(second)).toBe(false)
    expect(standing.count(owner.peerId, [first.id])).toBe(1)
    standing.remove(owner.peerId, [first.id])
    expect(placedIds(standing)).toEqual([second.id])
    expect(standing.claim(second)).toBe(true)
  })

  it('that were withdrawn while they waited never get a place', () => {
    const standing = new Standing(1, () => NOW)
    const publisher = c.publisher(owner)
    const [first, second] = [add(standing, publisher), add(standing, publisher)]
    standing.remove(owner.peerId, [second.id])
    standing.remove(owner.peerId, [first.id])
    expect(placedIds(standing)).toEqual([])
  })

  it('lose their place when their consent ends', () => {
    let now = NOW
    const standing = new Standing(1, () => now)
    const publisher = c.publisher(owner)
    const first = add(standing, publisher, { expiresAt: NOW + 100 })
    const second = add(standing, publisher)
    now = NOW + 100 + limit('clockSkew')
    expect(placedIds(standing)).toEqual([])
    now++
    expect(placedIds(standing)).toEqual([second.id])
    expect(standing.count(owner.peerId)).toBe(1)
    // Its verdict, which is that it has expired, need not wait.
    expect(standing.has(owner.peerId, first.id)).toBe(true)
  })

  it('take no places of another publisher, whose withdrawal has no effect on them', () => {
    const standing = new Standing(1, () => NOW)
    const first = add(standing, c.publisher(owner))
    expect(add(standing, c.publisher(other)).placed).toBe(true)
    standing.remove(other.peerId, [first.id])
    expect(standing.has(owner.peerId, first.id)).toBe(true)
  })
})
