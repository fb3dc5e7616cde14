import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { Guests } from '../../src/network/guests.ts'

let closed: string[]
let guests: Guests

beforeEach(() => {
  vi.useFakeTimers()
  closed = []
  guests = new Guests((peer) => void closed.push(peer))
})
afterEach(() => {
  guests.stop()
  vi.useRealTimers()
})

describe('a guest without a proof', () => {
  it('is disconnected after a short time', () => {
    guests.arrived('a', 's')
    vi.advanceTimersByTime(limit('guestProofTimeout') - 1)
    expect(closed).toEqual([])
    vi.advanceTimersByTime(1)
    expect(closed).toEqual(['a'])
  })

  it('does not gain time with a second connection', () => {
    guests.arrived('a', 's')
    vi.advanceTimersByTime(limit('guestProofTimeout') - 1)
    guests.arrived('a', 's')
    vi.advanceTimersByTime(1)
    expect(closed).toEqual(['a'])
  })

  it('is disconnected once its first request is answered and the answer could be read', () => {
    guests.arrived('a', 's')
    guests.answered('a')
    expect(closed).toEqual([])
    vi.advanceTimersByTime(500)
    expect(closed).toEqual(['a'])
  })

  it('makes room for newer ones of its source', () => {
    for (let i = 0; i <= limit('unprovenGuestsPerSource'); i++) guests.arrived(`${i}`, 's')
    expect(closed).toEqual(['0'])
  })

  it('is forgotten when it disconnects by itself', () => {
    guests.arrived('a', 's')
    guests.gone('a')
    vi.advanceTimersByTime(limit('guestProofTimeout'))
    expect(closed).toEqual([])
  })
})

describe('a guest with a proof', () => {
  it('is not replaced, and keeps its place as long as it asks', () => {
    guests.arrived('a', 's')
    expect(guests.proved('a', 'token')).toBe(true)
    guests.answered('a')
    for (let i = 0; i < 100; i++) guests.arrived(`${i}`, 's')
    expect(guests.isProven('a')).toBe(true)
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(limit('guestIdleTimeout') - 1)
      guests.active('a')
    }
    expect(closed).not.toContain('a')
    vi.advanceTimersByTime(limit('guestIdleTimeout'))
    expect(closed).toContain('a')
    expect(guests.isProven('a')).toBe(false)
  })

  it('shares its token with one more peer at most', () => {
    const peers = Array.from({ length: limit('guestsPerToken') + 1 }, (_, i) => `${i}`)
    expect(peers.map((peer) => guests.proved(peer, 'token'))).toEqual([true, true, false])
    guests.gone('0')
    expect(guests.proved('2', 'token')).toBe(true)
  })

  it('is one of a limited number, whatever the tokens', () => {
    const peers = Array.from({ length: limit('guestConnections') + 1 }, (_, i) => `${i}`)
    const admitted = peers.filter((peer) => guests.proved(peer, `token ${peer}`))
    expect(admitted).toHaveLength(limit('guestConnections'))
  })

  it('cannot show a second token, but the same one again', () => {
    guests.proved('a', 'token')
    expect([guests.proved('a', 'token'), guests.proved('a', 'other')]).toEqual([true, false])
  })
})
