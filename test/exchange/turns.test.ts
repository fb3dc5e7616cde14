import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Turns } from '../../src/exchange/turns.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** Turns whose visits take as long as `took` says, ms. `visits` tells who was visited when. */
function turnsOf(init: { took?: number; burst?: number; isDue?: (peer: string) => boolean }) {
  const visits: string[] = []
  const began = Date.now()
  const turns = new Turns({
    visit: async (peer) => {
      visits.push(`${peer} ${Date.now() - began}`)
      await new Promise((resolve) => setTimeout(resolve, init.took ?? 10))
    },
    isDue: init.isDue ?? (() => true),
    patienceMs: 250,
    burst: init.burst ?? 10,
    everyMs: 400,
  })
  return { turns, visits }
}

describe('turns', () => {
  it('visit a member at once, and those that come meanwhile one after the other, each once', async () => {
    const { turns, visits } = turnsOf({})
    for (const peer of ['a', 'b', 'c', 'b', 'c', 'a']) turns.add(peer)
    await vi.runAllTimersAsync()
    expect(visits).toEqual(['a 0', 'b 10', 'c 20', 'a 30'])
    expect(turns.isWaiting).toBe(false)
  })

  it('skip members whose reason is gone when their turn comes', async () => {
    let isBehind = true
    const { turns, visits } = turnsOf({ isDue: () => isBehind })
    for (const peer of ['a', 'b', 'c']) turns.add(peer)
    isBehind = false
    await vi.runAllTimersAsync()
    expect(visits).toEqual(['a 0'])
  })

  it('do not wait long for a member that does not answer', async () => {
    const { turns, visits } = turnsOf({ took: 30_000 })
    for (const peer of ['a', 'b', 'c']) turns.add(peer)
    await vi.runAllTimersAsync()
    expect(visits).toEqual(['a 0', 'b 250', 'c 500'])
  })

  it('follow each other at once a few times, and then at intervals', async () => {
    const { turns, visits } = turnsOf({ burst: 2 })
    for (const peer of ['a', 'b', 'c', 'd']) turns.add(peer)
    await vi.runAllTimersAsync()
    expect(visits).toEqual(['a 0', 'b 10', 'c 400', 'd 800'])
    await vi.advanceTimersByTimeAsync(10_000)
    for (const peer of ['a', 'b', 'c']) turns.add(peer)
    await vi.advanceTimersByTimeAsync(20)
    expect(visits.slice(4).map((visit) => visit[0])).toEqual(['a', 'b'])
  })

  it('end', async () => {
    const { turns, visits } = turnsOf({})
    turns.add('a')
    turns.add('b')
    turns.stop()
    turns.add('c')
    await vi.runAllTimersAsync()
    expect(visits).toEqual(['a 0'])
  })
})
