import { mkdtemp, open, readdir, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf, equalBytes, utf8 } from '../../src/lib/bytes.ts'
import { chunkLength } from '../../src/lib/file-ref.ts'
import { limit } from '../../src/lib/limits.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { codeOfAsync, content } from '../support/packages.ts'

const CHUNK = limit('chunkBytes')

let home = ''
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'flexmesh-store-'))
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

/** Names in the folder of the store, sorted. */
const storedNames = async (): Promise<string[]> => (await readdir(join(home, 'blobs'))).sort()

describe('a partial blob', () => {
  const bytes = content(3 * CHUNK + 100, 2)
  const { ref, chunkHashes } = fileRefOf(bytes)
  const chunk = (index: number) => bytes.subarray(index * CHUNK, index * CHUNK + chunkLength(ref, index))

  it('accepts chunks in any order, and the file appears when it is complete', async () => {
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

  it('resumes with the chunks that are missing or damaged', async () => {
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

  it('refuses a wrong chunk, which stays missing', async () => {
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

  it('refuses other chunk hashes than those of the reference', async () => {
    const store = await BlobStore.open(home)
    expect(await codeOfAsync(() => store.beginPartial(ref, chunkHashes.slice().reverse()))).toBe(
      'wrong-digest',
    )
    expect(await readdir(join(home, 'blobs'))).toEqual([])
  })

  it('removes a file with right chunks and a wrong digest', async () => {
    const store = await BlobStore.open(home)
    const lie = { ...ref, sha256: digestOf(utf8('another file')) }
    const partial = await store.beginPartial(lie, chunkHashes)
    for (const index of partial.missing()) await partial.writeChunk(index, chunk(index))
    expect(await codeOfAsync(() => partial.complete())).toBe('wrong-digest')
    expect(await readdir(join(home, 'blobs'))).toEqual([])
  })

  it.each([
    ['a small file', 3],
    ['a file that is hashed while it is received', 17],
  ])(
    'takes a chunk of %s that changed on disk for a fault of the disk, and fetches it again',
    async (_, chunks) => {
      const store = await BlobStore.open(home)
      const pattern = content(CHUNK, 4)
      const file = fileRefOf(Array.from({ length: chunks }, () => pattern))
      const partial = await store.beginPartial(file.ref, file.chunkHashes)
      await partial.writeChunk(1, pattern)
      const [part] = (await storedNames()).filter((name) => name.endsWith('.part')) as [string]
      const handle = await open(join(home, 'blobs', part), 'r+')
      await handle.write(Uint8Array.of(0x55, 0xaa), 0, 2, CHUNK + 9)
      await handle.close()
      for (const index of partial.missing()) await partial.writeChunk(index, pattern)
      expect(await codeOfAsync(() => partial.complete())).toBe('io')
      await partial.close()
      const again = await store.beginPartial(file.ref, file.chunkHashes)
      expect(again.missing()).toEqual([1])
      await again.writeChunk(1, pattern)
      await again.complete()
      expect(await store.has(file.ref.sha256)).toBe(true)
    },
  )

  it('does not change a stored file for a false claim about it', async () => {
    const store = await BlobStore.open(home)
    await store.put(bytes)
    const other = fileRefOf(content(10))
    const partial = await store.beginPartial({ ...other.ref, sha256: ref.sha256 }, other.chunkHashes)
    expect(partial.missing()).toEqual([])
    await partial.complete()
    expect(await store.chunkHashes(ref.sha256)).toEqual(chunkHashes)
    expect(equalBytes(await store.readAll(ref.sha256, bytes.length), bytes)).toBe(true)
  })

  it('can be completed twice for one file', async () => {
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

  it('hashes a large file while it is received, and removes it if the digest is wrong', async () => {
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

  it('writes several chunks at once, in any order, repeated and across gaps', async () => {
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

  it('waits for writes under way before it closes, and refuses chunks afterwards', async () => {
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

  it('holds few chunks in memory', async () => {
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
