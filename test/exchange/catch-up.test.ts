import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CatchUp } from '../../src/exchange/catch-up.ts'
import { ExchangeError } from '../../src/lib/errors.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A catch-up among members a, b and c; only `holders` have what is missing. */
function among(holders: readonly string[]): { catchUp: CatchUp; pulled: string[]; entries: LogEntry[] } {
  const pulled: string[] = []
  const entries: LogEntry[] = []
  let isBehind = true
  const catchUp = new CatchUp({
    pull: async (peer) => {
      pulled.push(peer)
      if (peer === 'b') throw new ExchangeError('unreachable', 'b is offline')
      if (holders.includes(peer)) isBehind = false
    },
    peers: () => ['a', 'b', 'c'],
    isBehind: () => isBehind,
    log: new Log((entry) => entries.push(entry), 'debug'),
  })
  return { catchUp, pulled, entries }
}

describe('catching up', () => {
  it('asks nobody else when the first member has everything', async () => {
    const { catchUp, pulled } = among(['a'])
    await catchUp.start('a')
    await vi.runAllTimersAsync()
    expect(pulled).toEqual(['a'])
  })

  it('asks the other members until nothing is missing, and logs those that fail', async () => {
    const { catchUp, pulled, entries } = among(['c'])
    await catchUp.start('a')
    await vi.runAllTimersAsync()
    expect(pulled).toEqual(['a', 'a', 'b', 'c'])
    expect(entries.map(({ level, message }) => `${level} ${message}`)).toEqual([
      'debug the sync with b failed: b is offline',
    ])
  })

  it('gives up after 18 rounds when nobody holds what was announced', async () => {
    const { catchUp, pulled } = among([])
    await catchUp.start('a')
    await vi.runAllTimersAsync()
    expect(pulled.length).toBe(1 + 18 * 3)
  })

  it('stops', async () => {
    const { catchUp, pulled } = among([])
    await catchUp.start('a')
    catchUp.stop()
    await vi.runAllTimersAsync()
    expect(pulled).toEqual(['a'])
  })
})
