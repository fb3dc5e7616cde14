import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CatchUp } from '../../src/exchange/catch-up.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A catch-up among members a, b and c, each asked at once; only `holders` have what is missing. */
function among(holders: readonly string[]) {
  const asked: string[] = []
  const state = { isBehind: true, isWaiting: false }
  const catchUp = new CatchUp({
    ask: (peer) => {
      if (!state.isBehind) return
      asked.push(peer)
      if (holders.includes(peer)) state.isBehind = false
      queueMicrotask(() => catchUp.asked())
    },
    peers: () => ['a', 'b', 'c'],
    isBehind: () => state.isBehind,
    isWaiting: () => state.isWaiting,
  })
  return { catchUp, asked, state }
}

describe('catching up', () => {
  it('asks nobody when nothing is missing after the first member was asked', async () => {
    const { catchUp, asked, state } = among([])
    state.isBehind = false
    catchUp.asked()
    await vi.runAllTimersAsync()
    expect(asked).toEqual([])
  })

  it('asks the members until nothing is missing', async () => {
    const { catchUp, asked } = among(['b'])
    catchUp.asked()
    await vi.runAllTimersAsync()
    expect(asked).toEqual(['a', 'b'])
  })

  it('waits for those that will be asked anyway', async () => {
    const { catchUp, asked, state } = among(['c'])
    state.isWaiting = true
    catchUp.asked()
    await vi.runAllTimersAsync()
    expect(asked).toEqual([])
    state.isWaiting = false
    catchUp.asked()
    await vi.runAllTimersAsync()
    expect(asked).toEqual(['a', 'b', 'c'])
  })

  it('gives up after 18 rounds when nobody holds what was announced, and begins again with new announcements', async () => {
    const { catchUp, asked } = among([])
    catchUp.asked()
    await vi.runAllTimersAsync()
    expect(asked.length).toBe(18 * 3)
    catchUp.restart()
    catchUp.asked()
    await vi.runAllTimersAsync()
    expect(asked.length).toBe(2 * 18 * 3)
  })

  it('stops', async () => {
    const { catchUp, asked } = among([])
    catchUp.asked()
    catchUp.stop()
    await vi.runAllTimersAsync()
    expect(asked).toEqual([])
  })
})
