import { describe, expect, it } from 'vitest'
import { Crowd } from '../../src/network/crowd.ts'

describe('a crowd', () => {
  it('replaces the oldest item of a source that is full', () => {
    const crowd = new Crowd<string>(2, 10)
    expect([crowd.add('a1', 'a'), crowd.add('b1', 'b'), crowd.add('a2', 'a')]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
    expect(crowd.add('a3', 'a')).toBe('a1')
    expect(['a1', 'a2', 'a3', 'b1'].filter((item) => crowd.has(item))).toEqual(['a2', 'a3', 'b1'])
  })

  it('replaces an item of the largest source when it is full itself', () => {
    const crowd = new Crowd<string>(3, 4)
    for (const item of ['b1', 'a1', 'a2', 'a3']) crowd.add(item, item[0] as string)
    expect(crowd.add('c1', 'c')).toBe('a1')
    expect(crowd.has('b1')).toBe(true)
  })

  it('never lets many items of one source displace the item of another', () => {
    const crowd = new Crowd<string>(8, 16)
    crowd.add('honest', 'campus')
    for (let i = 0; i < 1000; i++) crowd.add(`hostile ${i}`, `attacker ${i % 3}`)
    expect(crowd.has('honest')).toBe(true)
    expect(crowd.size).toBe(16)
  })

  it('keeps an item that is added twice where it is', () => {
    const crowd = new Crowd<string>(1, 1)
    crowd.add('a', 's')
    expect(crowd.add('a', 's')).toBe(undefined)
    crowd.delete('a')
    expect(crowd.size).toBe(0)
  })
})
