/** Providers that deliver slowly, never, or more than was asked for. Time is simulated. */
import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { decodeBlobRequest } from '../../src/exchange/blob.ts'
import { fetchBlob } from '../../src/exchange/fetch-blob.ts'
import { Providers } from '../../src/exchange/providers.ts'
import { ExchangeError } from '../../src/lib/errors.ts'
import { limit } from '../../src/lib/limits.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { fakeNetwork, type Reply } from '../support/fake-network.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { content } from '../support/packages.ts'

const CHUNK = limit('chunkBytes')
const FILE = content(5 * CHUNK + 123)
const { ref, chunkHashes } = fileRefOf(FILE)
const signal = new AbortController().signal
/** Seconds after which a provider that is too slow must have been dropped. */
const PATIENCE = (limit('transferGrace') + limit('transferWindow')) / 1000 + 2

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
})
afterEach(async () => {
  vi.useRealTimers()
  await cleanUp()
})

/** Number of disk operations under way, during which simulated time stands still. */
let diskOperations = 0

/** A store whose operations on disk take no simulated time. */
async function emptyStore(): Promise<BlobStore> {
  const blobs = await BlobStore.open(await folder())
  const instant =
    <A extends unknown[], R>(action: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      diskOperations++
      try {
        return await action(...args)
      } finally {
        diskOperations--
      }
    }
  blobs.has = instant(blobs.has.bind(blobs))
  const begin = blobs.beginPartial.bind(blobs)
  blobs.beginPartial = instant(async (...args) => {
    const partial = await begin(...args)
    partial.writeChunk = instant(partial.writeChunk.bind(partial))
    partial.complete = instant(partial.complete.bind(partial))
    partial.close = instant(partial.close.bind(partial))
    return partial
  })
  return blobs
}

/** Let simulated time pass until `work` has ended. @returns the seconds that passed. */
async function secondsUntil(work: Promise<unknown>): Promise<number> {
  let isOver = false
  const end = (): void => {
    isOver = true
  }
  void work.then(end, end)
  for (let seconds = 0; ; seconds++) {
    // Enough turns of the event loop for everything that the last second has caused.
    for (let turn = 0; (turn < 50 || diskOperations > 0) && !isOver; turn++) {
      if (diskOperations > 0) turn = 0
      await setImmediate()
    }
    if (isOver) return seconds
    await vi.advanceTimersByTimeAsync(1000)
  }
}

const second = (inner: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const giveUp = (): void => reject(new ExchangeError('aborted', 'given up'))
    setTimeout(() => {
      inner.removeEventListener('abort', giveUp)
      resolve()
    }, 1000)
    inner.addEventListener('abort', giveUp)
  })

const honest: Reply = async function* (_, value) {
  const request = decodeBlobRequest(value)
  if (request.kind === 'hashes') {
    yield { bytes: chunkHashes }
    return
  }
  const { first, count } = request
  for (let index = first; index < first + count && index * CHUNK < FILE.length; index++) {
    yield { bytes: FILE.slice(index * CHUNK, (index + 1) * CHUNK) }
  }
}

/** Sends `rate` bytes each second, and a frame when it is complete. */
const atRate = (rate: number): Reply =>
  async function* (peer, request, inner, onBytes) {
    for await (const frame of honest(peer, request, inner, onBytes)) {
      const { bytes } = frame as { bytes: Uint8Array }
      for (let sent = 0; sent < bytes.length; sent += rate) {
        await second(inner)
        onBytes(Math.min(rate, bytes.length - sent))
      }
      yield frame
    }
  }

const silent: Reply = async function* (_peer, _request, inner) {
  for (;;) await second(inner)
}

/** Answers the question for the hashes as one provider, and for chunks as another. */
const both =
  (hashes: Reply, chunks: Reply): Reply =>
  (...args) =>
    (decodeBlobRequest(args[1]).kind === 'hashes' ? hashes : chunks)(...args)

const endless = (reply: Reply): Reply =>
  async function* (...args) {
    for (;;) {
      yield* reply(...args)
      await second(args[2])
    }
  }

const HOSTILE: [string, Reply][] = [
  ['answers nothing', silent],
  ['sends one byte of the hashes a second', atRate(1)],
  ['is silent after the hashes', both(honest, silent)],
  ['sends one byte of a chunk a second', both(honest, atRate(1))],
  ['sends just less than the minimum in two answers', both(honest, atRate(limit('transferRate') / 2 - 1024))],
  ['sends hashes without end and then nothing', both(endless(honest), silent)],
  [
    'sends nothing but empty frames',
    async function* (_peer, _request, inner) {
      for (;;) {
        await second(inner)
        yield { bytes: new Uint8Array(0) }
      }
    },
  ],
  [
    'sends one chunk fast and then nothing',
    both(honest, async function* (...args) {
      for await (const frame of honest(...args)) {
        yield frame
        yield* silent(...args)
      }
    }),
  ],
]

/** The hostile one as `h`, and an honest one as every other name. */
const among =
  (hostile: Reply): Reply =>
  (peer, ...rest) =>
    (peer === 'h' ? hostile : honest)(peer, ...rest)

describe.each(HOSTILE)('a provider that %s', (_, hostile) => {
  it('delays the delivery by others by seconds only', async () => {
    const blobs = await emptyStore()
    const fetched = fetchBlob(fakeNetwork(among(hostile)), blobs, ref, ['h', 'a', 'b'], { signal })
    expect(await secondsUntil(fetched)).toBeLessThanOrEqual(6)
    await fetched
    expect(await blobs.has(ref.sha256)).toBe(true)
  })

  it('is given up if it is the only one, and is not asked again for this file for a while', async () => {
    const blobs = await emptyStore()
    let now = 0
    const providers = new Providers(() => now)
    const asked: string[] = []
    const network = fakeNetwork((peer, ...rest) => {
      asked.push(peer)
      return hostile(peer, ...rest)
    })
    const fetched = fetchBlob(network, blobs, ref, ['h'], { signal, providers })
    expect(await secondsUntil(fetched)).toBeLessThanOrEqual(PATIENCE)
    await expect(fetched).rejects.toMatchObject({ family: 'exchange' })
    asked.length = 0
    const again = fetchBlob(network, blobs, ref, ['h'], { signal, providers })
    await secondsUntil(again)
    await expect(again).rejects.toMatchObject({ code: 'unreachable' })
    expect(asked).toEqual([])
    now = 30_000
    const later = fetchBlob(fakeNetwork(honest), blobs, ref, ['h'], { signal, providers })
    await secondsUntil(later)
    await later
  })
})

describe('a provider that is slow but fast enough', () => {
  it('is not given up, also if two requests share its connection', async () => {
    const blobs = await emptyStore()
    let running = 0
    const rate = limit('transferRate') * 1.1
    const network = fakeNetwork(async function* (peer, request, inner, onBytes) {
      running++
      try {
        for await (const frame of honest(peer, request, inner, onBytes)) {
          const { bytes } = frame as { bytes: Uint8Array }
          for (let sent = 0; sent < bytes.length; ) {
            await second(inner)
            const now = Math.ceil(rate / running)
            onBytes(now)
            sent += now
          }
          yield frame
        }
      } finally {
        running--
      }
    })
    const fetched = fetchBlob(network, blobs, ref, ['a'], { signal })
    await secondsUntil(fetched)
    await fetched
  })

  it('is not blamed for a slow disk of this node', async () => {
    const blobs = await emptyStore()
    const begin = blobs.beginPartial.bind(blobs)
    vi.spyOn(blobs, 'beginPartial').mockImplementation(async (...args) => {
      const partial = await begin(...args)
      const write = partial.writeChunk.bind(partial)
      partial.writeChunk = async (...chunk) => {
        for (let i = 0; i < 30; i++) await second(signal)
        return write(...chunk)
      }
      return partial
    })
    const fetched = fetchBlob(fakeNetwork(honest), blobs, ref, ['a'], { signal })
    await secondsUntil(fetched)
    await fetched
  })
})

describe('a provider that sends more chunks than were requested', () => {
  it('is not asked again; the chunks that were right are kept', async () => {
    const blobs = await emptyStore()
    const providers = new Providers(() => 0)
    const tooMany = both(honest, async function* () {
      for (let index = 0; index < 9; index++) yield { bytes: FILE.slice(index * CHUNK, (index + 1) * CHUNK) }
    })
    const fetched = fetchBlob(fakeNetwork(tooMany), blobs, ref, ['h'], { signal, providers })
    await secondsUntil(fetched)
    await expect(fetched).rejects.toMatchObject({ code: 'protocol' })
    expect(providers.mayAsk('h', ref.sha256)).toBe(false)
    const progress: number[] = []
    const rest = fetchBlob(fakeNetwork(honest), blobs, ref, ['a'], {
      signal,
      onProgress: ({ doneChunks }) => progress.push(doneChunks),
    })
    await secondsUntil(rest)
    await rest
    expect(progress[0]).toBeGreaterThanOrEqual(3)
  })
})

describe('a connection that breaks', () => {
  it('does not count against the provider, which may be asked again at once', async () => {
    const blobs = await emptyStore()
    const providers = new Providers(() => 0)
    const broken = both(honest, async function* () {
      throw new ExchangeError('protocol', 'the stream was reset')
    })
    const fetched = fetchBlob(fakeNetwork(broken), blobs, ref, ['a'], { signal, providers })
    await secondsUntil(fetched)
    await expect(fetched).rejects.toMatchObject({ code: 'protocol' })
    expect(providers.mayAsk('a', ref.sha256)).toBe(true)
  })
})
