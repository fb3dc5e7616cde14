import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { SyncQueue } from '../../src/exchange/sync-queue.ts'

/** Syncs that end when the test says so. */
class ManualSyncs {
  readonly started: string[] = []
  readonly #running: PromiseWithResolvers<void>[] = []
  readonly queue = new SyncQueue((peer) => {
    this.started.push(peer)
    const run = Promise.withResolvers<void>()
    this.#running.push(run)
    return run.promise
  })

  /** Number of syncs that run now. */
  get running(): number {
    return this.#running.length
  }

  /** End the oldest running sync, and let those that wait for it start. */
  async end(error?: Error): Promise<void> {
    const run = this.#running.shift()
    if (error === undefined) run?.resolve()
    else run?.reject(error)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

describe('syncs with one member', () => {
  it('run one at a time; all callers that come while one runs share the next one', async () => {
    const syncs = new ManualSyncs()
    const first = syncs.queue.run('a')
    const late = [1, 2, 3, 4].map(() => syncs.queue.run('a'))
    expect(syncs.running).toBe(1)
    await syncs.end()
    await first
    expect(syncs.running).toBe(1)
    await syncs.end()
    await Promise.all(late)
    expect(syncs.running).toBe(0)
    expect(syncs.started).toEqual(['a', 'a'])
  })

  it('start after the call of everyone who shares them', async () => {
    const syncs = new ManualSyncs()
    const first = syncs.queue.run('a')
    const second = syncs.queue.run('a')
    await syncs.end()
    await first
    const third = syncs.queue.run('a')
    expect(syncs.started.length).toBe(2)
    await syncs.end()
    await second
    expect(syncs.started.length).toBe(3)
    await syncs.end()
    await third
  })

  it('start although the one before failed, and each caller learns about its own', async () => {
    const syncs = new ManualSyncs()
    const first = syncs.queue.run('a')
    const second = syncs.queue.run('a')
    const failed = expect(first).rejects.toThrow('gone')
    await syncs.end(new Error('gone'))
    await failed
    await syncs.end()
    await expect(second).resolves.toBe(undefined)
  })
})

describe('syncs with several members', () => {
  it('run at the same time, and settle when none runs or waits', async () => {
    const syncs = new ManualSyncs()
    const all = ['a', 'b', 'a'].map((peer) => syncs.queue.run(peer))
    expect(syncs.started).toEqual(['a', 'b'])
    let isSettled = false
    const settled = syncs.queue.settled().then(() => {
      isSettled = true
    })
    await syncs.end()
    await syncs.end()
    expect(isSettled).toBe(false)
    await syncs.end()
    await settled
    await Promise.all(all)
    expect(syncs.started).toEqual(['a', 'b', 'a'])
  })
})
