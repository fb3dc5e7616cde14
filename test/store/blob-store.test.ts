import { appendFile, mkdtemp, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Digest, digestOf, equalBytes, utf8 } from '../../src/lib/bytes.ts'
import {
  checkChunkHashes,
  chunkCount,
  chunkLength,
  fileRefOf,
  fileRefOfPath,
} from '../../src/lib/file-ref.ts'
import { limit } from '../../src/lib/limits.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { ChunkWriteWorker } from '../../src/store/chunk-write-worker.ts'
import { codeOf, codeOfAsync, randomOf } from '../support/packages.ts'

const CHUNK = limit('chunkBytes')

function content(length: number, seed = 1): Uint8Array {
  const random = randomOf(seed)
  const words = Uint32Array.from({ length: Math.ceil(length / 4) }, () => random() * 2 ** 32)
  return new Uint8Array(words.buffer, 0, length)
}

let home = ''
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'flexmesh-store-'))
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

/** Names in the folder of the store, sorted. */
const storedNames = async (): Promise<string[]> => (await readdir(join(home, 'blobs'))).sort()

async function readPart(
  store: BlobStore,
  digest: Digest,
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const file = await store.reader(digest)
  try {
    return await file.read(offset, length, signal)
  } finally {
    await file.close()
  }
}

describe('a file reference', () => {
  it('is the same for a file in one piece, in parts and on disk', async () => {
    const bytes = content(2 * CHUNK + 77)
    const whole = fileRefOf(bytes)
    const cuts = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, bytes.length]
    const parts = cuts.slice(1).map((cut, index) => bytes.subarray(cuts[index], cut))
    expect(fileRefOf(parts)).toEqual(whole)
    await writeFile(join(home, 'file'), bytes)
    expect(await fileRefOfPath(join(home, 'file'))).toEqual(whole)
    expect([whole.ref.size, whole.ref.sha256, chunkCount(whole.ref)]).toEqual([
      bytes.length,
      digestOf(bytes),
      3,
    ])
    expect([0, 1, 2].map((index) => chunkLength(whole.ref, index))).toEqual([CHUNK, CHUNK, 77])
    const hashes = [0, CHUNK, 2 * CHUNK].map((at) => digestOf(bytes.subarray(at, at + CHUNK)).slice(7))
    expect(Buffer.from(whole.chunkHashes).toString('hex')).toBe(hashes.join(''))
  })

  it('has no empty last chunk', () => {
    expect(fileRefOf(content(CHUNK)).chunkHashes.length).toBe(32)
    expect(fileRefOf(new Uint8Array(0)).chunkHashes.length).toBe(0)
  })

  it('refuses chunk hashes that it does not commit to', () => {
    const { ref, chunkHashes } = fileRefOf(content(CHUNK + 1))
    const other = chunkHashes.slice()
    other[40] = (other[40] as number) ^ 1
    expect(codeOf(() => checkChunkHashes(ref, other))).toBe('wrong-digest')
    expect(codeOf(() => checkChunkHashes(ref, chunkHashes.subarray(32)))).toBe('bad-field')
  })
})

describe('the blob store', () => {
  it('gives back what was put, whole and in part, under its digest', async () => {
    const store = await BlobStore.open(home)
    const bytes = content(CHUNK + 5)
    const digest = await store.put([bytes.subarray(0, 10), bytes.subarray(10)])
    expect(digest).toBe(digestOf(bytes))
    expect(await store.put(bytes)).toBe(digest)
    expect(equalBytes(await store.readAll(digest, bytes.length), bytes)).toBe(true)
    expect(equalBytes(await readPart(store, digest, CHUNK - 2, 7), bytes.subarray(CHUNK - 2))).toBe(true)
    expect(await store.chunkHashes(digest)).toEqual(fileRefOf(bytes).chunkHashes)
    const hex = digest.slice(7)
    expect((await readdir(join(home, 'blobs'))).sort()).toEqual([hex, `${hex}.chunks`])
  })

  it('keeps files and folder readable by the owner only', async () => {
    const store = await BlobStore.open(home)
    const digest = await store.put(utf8('x'))
    expect((await stat(store.path(digest))).mode & 0o777).toBe(0o600)
    expect((await stat(join(home, 'blobs'))).mode & 0o777).toBe(0o700)
  })

  it('refuses every name that is not a digest', async () => {
    const store = await BlobStore.open(home)
    const hex = 'ab'.repeat(32)
    const names = [
      '../x',
      `sha256:../${hex}`,
      `sha256:${hex.toUpperCase()}`,
      `sha256:${hex}/..`,
      `sha256:${hex}\0`,
      hex,
      '',
    ]
    for (const name of names) expect(codeOf(() => store.path(name as Digest))).toBe('bad-field')
  })

  it('says not-found, truncated and too-large in our own errors', async () => {
    const store = await BlobStore.open(home)
    const digest = await store.put(utf8('four'))
    const none = digestOf(utf8('none'))
    expect(await codeOfAsync(() => store.reader(none))).toBe('not-found')
    expect(await codeOfAsync(() => store.chunkHashes(none))).toBe('not-found')
    expect(await codeOfAsync(() => store.readAll(digest, 3))).toBe('too-large')
    for (const [offset, length] of [
      [0, 5],
      [4, 1],
      [-1, 2],
      [Number.NaN, 1],
      [0, Number.POSITIVE_INFINITY],
    ] as const) {
      expect(await codeOfAsync(() => readPart(store, digest, offset, length))).toBe('truncated')
    }
    expect([await store.has(none), await store.delete(none), await store.delete(digest)]).toEqual([
      false,
      false,
      true,
    ])
    expect(await readdir(join(home, 'blobs'))).toEqual([])
  })

  it('notices when the disk gives back other bytes', async () => {
    const store = await BlobStore.open(home)
    const digest = await store.put(utf8('trustworthy'))
    await appendFile(store.path(digest), '!')
    expect(await codeOfAsync(() => store.readAll(digest, 100))).toBe('wrong-digest')
  })

  it('notices damage in any piece of a file that is read in pieces', async () => {
    const store = await BlobStore.open(home)
    const bytes = content(2 * CHUNK + 5)
    const digest = await store.put(bytes)
    for (const at of [0, CHUNK, 2 * CHUNK + 4]) {
      const damaged = bytes.slice()
      damaged[at] = (damaged[at] as number) ^ 1
      await writeFile(store.path(digest), damaged)
      expect(await codeOfAsync(() => store.readAll(digest, bytes.length))).toBe('wrong-digest')
    }
    await writeFile(store.path(digest), bytes.subarray(0, CHUNK))
    expect(await codeOfAsync(() => store.readAll(digest, bytes.length))).toBe('wrong-digest')
    await writeFile(store.path(digest), bytes)
    expect(equalBytes(await store.readAll(digest, bytes.length), bytes)).toBe(true)
  })

  it('computes chunk hashes once when they are not beside the file', async () => {
    const store = await BlobStore.open(home)
    const bytes = content(CHUNK + 1)
    const digest = await store.put(bytes)
    await rm(`${store.path(digest)}.chunks`)
    expect(await store.chunkHashes(digest)).toEqual(fileRefOf(bytes).chunkHashes)
    expect((await stat(`${store.path(digest)}.chunks`)).size).toBe(64)
  })

  it('computes missing chunk hashes once for callers that ask at the same time', async () => {
    const store = await BlobStore.open(home)
    const bytes = content(2 * CHUNK + 77)
    const digest = await store.put(bytes)
    await rm(`${store.path(digest)}.chunks`)
    const [first, second] = await Promise.all([store.chunkHashes(digest), store.chunkHashes(digest)])
    expect(second).toBe(first)
    expect(first).toEqual(fileRefOf(bytes).chunkHashes)
  })

  it('copies a file in, empty ones too', async () => {
    const store = await BlobStore.open(home)
    for (const bytes of [content(2 * CHUNK + 3), new Uint8Array(0)]) {
      await writeFile(join(home, 'file'), bytes)
      const ref = await store.putFile(join(home, 'file'))
      expect(ref).toEqual(fileRefOf(bytes).ref)
      expect(equalBytes(await store.readAll(ref.sha256, 1e9), bytes)).toBe(true)
      expect(await store.putFile(join(home, 'file'))).toEqual(ref)
    }
    expect(await codeOfAsync(() => store.putFile(join(home, 'none')))).toBe('not-found')
  })

  it('stops at an abort', async () => {
    const store = await BlobStore.open(home)
    const digest = await store.put(utf8('x'))
    const signal = AbortSignal.abort()
    for (const action of [
      () => store.put(utf8('y'), signal),
      () => readPart(store, digest, 0, 1, signal),
      () => store.readAll(digest, 9, signal),
    ]) {
      await expect(action()).rejects.toThrow('abort')
    }
    expect(await storedNames()).toEqual([digest.slice(7), `${digest.slice(7)}.chunks`])
  })

  it('sweeps what interrupted writes left behind and nothing else', async () => {
    const store = await BlobStore.open(home)
    const hex = (await store.put(utf8('x'))).slice(7)
    const wanted = fileRefOf(utf8('wanted'))
    await (await store.beginPartial(wanted.ref, wanted.chunkHashes)).close()
    const kept = await storedNames()
    const unwanted = fileRefOf(utf8('unwanted'))
    await (await store.beginPartial(unwanted.ref, unwanted.chunkHashes)).close()
    await writeFile(join(home, 'blobs', '.0123456789abcdef.tmp'), 'half')
    await writeFile(join(home, 'blobs', `${'0'.repeat(64)}.chunks`), 'without a file')
    expect(await store.sweep([wanted.ref])).toBe(3)
    expect(await storedNames()).toEqual(kept)
    expect(kept).toContain(hex)
    expect(kept).toContain(`${hex}.chunks`)
    expect(kept.filter((name) => name.startsWith(wanted.ref.sha256.slice(7)))).toHaveLength(1)
    expect(await store.sweep([])).toBe(1)
    expect(await storedNames()).toEqual([hex, `${hex}.chunks`])
  })

  it('stops a sweep at an abort', async () => {
    const store = await BlobStore.open(home)
    await writeFile(join(home, 'blobs', '.0123456789abcdef.tmp'), 'half')
    await expect(store.sweep([], AbortSignal.abort())).rejects.toThrow('abort')
    expect(await storedNames()).toEqual(['.0123456789abcdef.tmp'])
  })
})

describe('receiving a file', () => {
  const bytes = content(3 * CHUNK + 100, 2)
  const { ref, chunkHashes } = fileRefOf(bytes)
  const chunk = (index: number) => bytes.subarray(index * CHUNK, index * CHUNK + chunkLength(ref, index))

  it('takes chunks in any order and shows the file only when it is whole', async () => {
    const store = await BlobStore.open(home)
    const partial = await store.beginPartial(ref, chunkHashes)
    for (const index of [3, 1, 0]) await partial.writeChunk(index, chunk(index))
    expect([partial.missing(), await store.has(ref.sha256)]).toEqual([[2], false])
    expect(await codeOfAsync(() => partial.complete())).toBe('mismatch')
    await partial.writeChunk(2, chunk(2))
    await partial.complete()
    expect(equalBytes(await store.readAll(ref.sha256, bytes.length), bytes)).toBe(true)
    expect(await store.chunkHashes(ref.sha256)).toEqual(chunkHashes)
    expect((await readdir(join(home, 'blobs'))).length).toBe(2)
  })

  it('goes on where it stopped, and fetches damaged chunks again', async () => {
    const store = await BlobStore.open(home)
    const first = await store.beginPartial(ref, chunkHashes)
    for (const index of [0, 1, 3]) await first.writeChunk(index, chunk(index))
    await first.close()
    const part = (await readdir(join(home, 'blobs'))).find((name) => name.endsWith('.part')) as string
    const path = join(home, 'blobs', part)
    const handle = await open(path, 'r+')
    await handle.write(Uint8Array.of(0x55, 0xaa), 0, 2, CHUNK + 9)
    await handle.close()
    const second = await (await BlobStore.open(home)).beginPartial(ref, chunkHashes)
    expect(second.missing()).toEqual([1, 2])
    await second.close()
    await truncate(path, CHUNK + 3)
    const third = await store.beginPartial(ref, chunkHashes)
    expect(third.missing()).toEqual([1, 2, 3])
    for (const index of third.missing()) await third.writeChunk(index, chunk(index))
    await third.complete()
    expect(equalBytes(await store.readAll(ref.sha256, bytes.length), bytes)).toBe(true)
  })

  it('refuses a wrong chunk and keeps the place open', async () => {
    const store = await BlobStore.open(home)
    const partial = await store.beginPartial(ref, chunkHashes)
    const wrong = chunk(1).slice()
    wrong[500] = (wrong[500] as number) ^ 1
    expect(await codeOfAsync(() => partial.writeChunk(1, wrong))).toBe('wrong-digest')
    expect(await codeOfAsync(() => partial.writeChunk(1, chunk(0)))).toBe('wrong-digest')
    expect(await codeOfAsync(() => partial.writeChunk(1, wrong.subarray(1)))).toBe('truncated')
    for (const index of [4, -1, 0.5, Number.NaN]) {
      expect(await codeOfAsync(() => partial.writeChunk(index, chunk(1)))).toBe('bad-field')
    }
    expect(partial.missing()).toEqual([0, 1, 2, 3])
    await partial.close()
  })

  it('refuses chunk hashes that the reference does not commit to', async () => {
    const store = await BlobStore.open(home)
    expect(await codeOfAsync(() => store.beginPartial(ref, chunkHashes.slice().reverse()))).toBe(
      'wrong-digest',
    )
    expect(await readdir(join(home, 'blobs'))).toEqual([])
  })

  it('removes a file whose chunks are right but whose digest is another', async () => {
    const store = await BlobStore.open(home)
    const lie = { ...ref, sha256: digestOf(utf8('another file')) }
    const partial = await store.beginPartial(lie, chunkHashes)
    for (const index of partial.missing()) await partial.writeChunk(index, chunk(index))
    expect(await codeOfAsync(() => partial.complete())).toBe('wrong-digest')
    expect(await readdir(join(home, 'blobs'))).toEqual([])
  })

  it('never lets a false claim about a stored file touch it', async () => {
    const store = await BlobStore.open(home)
    await store.put(bytes)
    const other = fileRefOf(content(10))
    const partial = await store.beginPartial({ ...other.ref, sha256: ref.sha256 }, other.chunkHashes)
    expect(partial.missing()).toEqual([])
    await partial.complete()
    expect(await store.chunkHashes(ref.sha256)).toEqual(chunkHashes)
    expect(equalBytes(await store.readAll(ref.sha256, bytes.length), bytes)).toBe(true)
  })

  it('ends well when two downloads of one file finish', async () => {
    const store = await BlobStore.open(home)
    const one = await store.beginPartial(ref, chunkHashes)
    const two = await store.beginPartial(ref, chunkHashes)
    for (const index of one.missing()) {
      await one.writeChunk(index, chunk(index))
      await two.writeChunk(index, chunk(index))
    }
    await one.complete()
    await two.complete()
    expect(equalBytes(await store.readAll(ref.sha256, bytes.length), bytes)).toBe(true)
    expect((await readdir(join(home, 'blobs'))).length).toBe(2)
  })

  it('hashes a large file while it arrives, and removes one whose digest is another', async () => {
    const store = await BlobStore.open(home)
    const pattern = content(CHUNK, 4)
    const large = fileRefOf([...Array.from({ length: 17 }, () => pattern), pattern.subarray(0, 9)])
    const lie = { ...large.ref, sha256: digestOf(utf8('another file')) }
    for (const claim of [large.ref, lie]) {
      const partial = await store.beginPartial(claim, large.chunkHashes)
      const indices = [...partial.missing()].reverse()
      await Promise.all(
        indices.map((index) => partial.writeChunk(index, [pattern.subarray(0, chunkLength(claim, index))])),
      )
      expect(await codeOfAsync(() => partial.complete())).toBe(claim === lie ? 'wrong-digest' : 'accept')
    }
    const hex = large.ref.sha256.slice(7)
    expect(await storedNames()).toEqual([hex, `${hex}.chunks`])
    expect(digestOf(await store.readAll(large.ref.sha256, large.ref.size))).toBe(large.ref.sha256)
  })

  it('writes chunks that wait for the disk together, in any order, twice and across gaps', async () => {
    const store = await BlobStore.open(home)
    const file = content(9 * CHUNK + 5)
    const { ref, chunkHashes } = fileRefOf(file)
    const partial = await store.beginPartial(ref, chunkHashes)
    const chunkOf = (index: number): Uint8Array => file.subarray(index * CHUNK, (index + 1) * CHUNK)
    const halves = (bytes: Uint8Array): Uint8Array[] => [bytes.subarray(0, 100), bytes.subarray(100)]
    const given = [4, 0, 1, 9, 2, 7, 4, 8].map((index) => partial.writeChunk(index, halves(chunkOf(index))))
    const wrong = partial.writeChunk(3, halves(chunkOf(4)))
    expect(await codeOfAsync(() => wrong)).toBe('wrong-digest')
    await Promise.all(given)
    expect(partial.missing()).toEqual([3, 5, 6])
    await Promise.all(partial.missing().map((index) => partial.writeChunk(index, chunkOf(index))))
    await partial.complete()
    expect(equalBytes(await store.readAll(ref.sha256, file.length), file)).toBe(true)
  })

  it('waits for what is being written before it closes, and takes nothing afterwards', async () => {
    const store = await BlobStore.open(home)
    const file = content(3 * CHUNK)
    const { ref, chunkHashes } = fileRefOf(file)
    const partial = await store.beginPartial(ref, chunkHashes)
    const writes = [0, 1].map((index) =>
      partial.writeChunk(index, file.subarray(index * CHUNK, (index + 1) * CHUNK)),
    )
    await partial.close()
    await Promise.all(writes)
    await expect(partial.writeChunk(2, file.subarray(2 * CHUNK))).rejects.toThrow('closed')
    const second = await store.beginPartial(ref, chunkHashes)
    expect(second.missing()).toEqual([2])
    await second.close()
  })

  it('keeps memory flat', async () => {
    const store = await BlobStore.open(home)
    const pattern = content(CHUNK, 3)
    const chunks = 64
    const big = fileRefOf(Array.from({ length: chunks }, () => pattern))
    const partial = await store.beginPartial(big.ref, big.chunkHashes)
    const before = process.memoryUsage().arrayBuffers
    let peak = 0
    for (let index = 0; index < chunks; index++) {
      await partial.writeChunk(index, pattern)
      peak = Math.max(peak, process.memoryUsage().arrayBuffers - before)
    }
    await partial.complete()
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before)
    expect(peak).toBeLessThan(8 * CHUNK)
  })
})

describe('the thread that verifies and writes chunks', () => {
  const count = 20
  const file = content(count * CHUNK - 7, 6)
  const { ref, chunkHashes } = fileRefOf(file)
  const chunk = (index: number): Uint8Array =>
    file.subarray(index * CHUNK, index * CHUNK + chunkLength(ref, index))
  const halves = (bytes: Uint8Array): Uint8Array[] => [bytes.subarray(0, 1000), bytes.subarray(1000)]

  it('writes many at once, in any order, but none that is wrong', async () => {
    const store = await BlobStore.open(home)
    const partial = await store.beginPartial(ref, chunkHashes)
    const right = [...partial.missing()].reverse().filter((index) => index !== 3)
    const given = right.map((index) => partial.writeChunk(index, halves(chunk(index))))
    expect(await codeOfAsync(() => partial.writeChunk(3, halves(chunk(4))))).toBe('wrong-digest')
    await Promise.all(given)
    expect(partial.missing()).toEqual([3])
    expect(await codeOfAsync(() => partial.writeChunk(5, chunk(6)))).toBe('wrong-digest')
    await partial.close()
    await expect(partial.writeChunk(3, chunk(3))).rejects.toThrow('closed')
    const again = await store.beginPartial(ref, chunkHashes)
    expect(again.missing()).toEqual([3])
    await again.writeChunk(3, chunk(3))
    await again.complete()
    expect(equalBytes(await store.readAll(ref.sha256, file.length), file)).toBe(true)
  })

  it('says what the disk says, and that it has ended', async () => {
    const full = await open('/dev/full', 'w')
    try {
      const thread = new ChunkWriteWorker(full.fd, ref, chunkHashes)
      const given = Array.from({ length: count }, (_, index) => thread.write(index, [chunk(index)]))
      for (const outcome of await Promise.allSettled(given)) {
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ENOSPC' } })
      }
      await thread.close()
      await expect(thread.write(0, [chunk(0)])).rejects.toThrow('ended')
      const cut = new ChunkWriteWorker(full.fd, ref, chunkHashes)
      const underWay = Array.from({ length: count }, (_, index) => cut.write(index, [chunk(index)]))
      await cut.close()
      for (const outcome of await Promise.allSettled(underWay)) {
        expect(outcome).toMatchObject({ status: 'rejected' })
        expect(String((outcome as PromiseRejectedResult).reason)).toMatch(/ended|ENOSPC/)
      }
    } finally {
      await full.close()
    }
  })
})
