import { describe, expect, it } from 'vitest'
import { MAX_REQUESTS, Providers } from '../../src/exchange/providers.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'

const [file, other] = [digestOf(utf8('file')), digestOf(utf8('other'))] as const
const signal = new AbortController().signal

describe('a provider that failed to deliver a file', () => {
  it('is not asked for it for 30 seconds, and twice as long after each further failure', () => {
    let now = 0
    const providers = new Providers(() => now)
    for (const seconds of [30, 60, 120]) {
      providers.strikeOff('a', file)
      const from = now
      now = from + seconds * 1000 - 1
      expect(providers.mayAsk('a', file)).toBe(false)
      now = from + seconds * 1000
      expect(providers.mayAsk('a', file)).toBe(true)
    }
  })

  it('is asked again within an hour, however often it failed', () => {
    let now = 0
    const providers = new Providers(() => now)
    for (let i = 0; i < 20; i++) providers.strikeOff('a', file)
    now = 3_600_000
    expect(providers.mayAsk('a', file)).toBe(true)
  })

  it('is asked for other files, as are others for this file', () => {
    const providers = new Providers(() => 0)
    providers.strikeOff('a', file)
    expect([providers.mayAsk('a', other), providers.mayAsk('b', file)]).toEqual([true, true])
  })

  it('starts anew once it has delivered', () => {
    const providers = new Providers(() => 0)
    providers.strikeOff('a', file)
    providers.delivered('a', file)
    expect(providers.mayAsk('a', file)).toBe(true)
  })

  it('is forgotten after 4096 others', () => {
    const providers = new Providers(() => 0)
    for (let i = 0; i <= 4096; i++) providers.strikeOff(`peer ${i}`, file)
    expect([providers.mayAsk('peer 0', file), providers.mayAsk('peer 1', file)]).toEqual([true, false])
  })
})

describe('requests to one member', () => {
  it('wait while it answers as many as it accepts, and start in order', async () => {
    const providers = new Providers(() => 0)
    const started: number[] = []
    const all = Array.from({ length: MAX_REQUESTS + 2 }, async (_, i) => {
      const release = await providers.acquire('a', signal)
      started.push(i)
      return release
    })
    const running = await Promise.all(all.slice(0, MAX_REQUESTS))
    expect(started).toHaveLength(MAX_REQUESTS)
    running[0]?.()
    ;(await all[MAX_REQUESTS])?.()
    ;(await all[MAX_REQUESTS + 1])?.()
    expect(started).toEqual([0, 1, 2, 3, 4].slice(0, MAX_REQUESTS + 2))
    for (const release of running.slice(1)) release()
    expect(providers.requests('a')).toBe(0)
  })

  it('leave the line when their caller gives up', async () => {
    const providers = new Providers(() => 0)
    const releases = await Promise.all(
      Array.from({ length: MAX_REQUESTS }, () => providers.acquire('a', signal)),
    )
    const caller = new AbortController()
    const waiting = providers.acquire('a', caller.signal)
    caller.abort(new Error('given up'))
    await expect(waiting).rejects.toThrow('given up')
    for (const release of releases) release()
    expect(providers.requests('a')).toBe(0)
  })

  it('do not wait for requests to others', async () => {
    const providers = new Providers(() => 0)
    for (let i = 0; i < MAX_REQUESTS; i++) await providers.acquire('a', signal)
    await providers.acquire('b', signal)
    expect(providers.requests('b')).toBe(1)
  })
})
