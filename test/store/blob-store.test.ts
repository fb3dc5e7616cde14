import { appendFile, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Digest, digestOf, equalBytes, utf8 } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { codeOf, codeOfAsync, content } from '../support/packages.ts'

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

describe('the blob store', () => {
  it('returns a stored file under its digest, as a whole and in parts', async () => {
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

  it('makes files and folder readable by the owner only', async () => {
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

  it('throws not-found, truncated and too-large', async () => {
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

  it('refuses other bytes than were stored', async () => {
    const store = await BlobStore.open(home)
    const digest = await store.put(utf8('trustworthy'))
    await appendFile(store.path(digest), '!')
    expect(await codeOfAsync(() => store.readAll(digest, 100))).toBe('wrong-digest')
  })

  it('refuses damage in any piece of a large file', async () => {
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

  it('computes missing chunk hashes and stores them', async () => {
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

  it('stores a copy of a file, also of an empty one', async () => {
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

  it('removes in a sweep what nothing needs and nothing else', async () => {
    const store = await BlobStore.open(home)
    const needed = await store.put(utf8('x'))
    const hex = needed.slice(7)
    const whole = fileRefOf(utf8('a complete file'))
    await store.put(utf8('a complete file'))
    const wanted = fileRefOf(utf8('wanted'))
    await (await store.beginPartial(wanted.ref, wanted.chunkHashes)).close()
    const kept = await storedNames()
    await store.put(utf8('a file of a package that is gone'))
    const unwanted = fileRefOf(utf8('unwanted'))
    await (await store.beginPartial(unwanted.ref, unwanted.chunkHashes)).close()
    await writeFile(join(home, 'blobs', '.0123456789abcdef.tmp'), 'half')
    await writeFile(join(home, 'blobs', `${'0'.repeat(64)}.chunks`), 'without a file')
    expect(await store.sweep([wanted.ref, whole.ref], new Set([needed]))).toBe(5)
    expect(await storedNames()).toEqual(kept)
    expect(kept).toContain(hex)
    expect(kept).toContain(`${hex}.chunks`)
    expect(kept.filter((name) => name.startsWith(wanted.ref.sha256.slice(7)))).toHaveLength(1)
    expect(await store.sweep([], new Set([needed]))).toBe(3)
    expect(await storedNames()).toEqual([hex, `${hex}.chunks`])
  })

  it('discards a file together with what an interrupted download has left of it', async () => {
    const store = await BlobStore.open(home)
    const bytes = content(2 * CHUNK)
    const { ref, chunkHashes } = fileRefOf(bytes)
    const other = fileRefOf(content(CHUNK, 7))
    for (const file of [{ ref, chunkHashes }, other]) {
      const partial = await store.beginPartial(file.ref, file.chunkHashes)
      await partial.close()
    }
    await store.discard(ref)
    expect(await storedNames()).toEqual([expect.stringContaining(other.ref.sha256.slice(7))])
    await store.put(bytes)
    await store.discard(ref)
    await store.discard(ref)
    expect(await storedNames()).toHaveLength(1)
  })

  it('tells how much of a file an interrupted download has left', async () => {
    const store = await BlobStore.open(home)
    const bytes = content(3 * CHUNK)
    const { ref, chunkHashes } = fileRefOf(bytes)
    expect(await store.partialBytes(ref)).toBe(0)
    const partial = await store.beginPartial(ref, chunkHashes)
    await partial.writeChunk(2, bytes.subarray(2 * CHUNK))
    await partial.close()
    const left = await store.partialBytes(ref)
    expect(left).toBeGreaterThanOrEqual(CHUNK)
    expect(left).toBeLessThan(2 * CHUNK)
  })

  it('stops a sweep at an abort', async () => {
    const store = await BlobStore.open(home)
    await writeFile(join(home, 'blobs', '.0123456789abcdef.tmp'), 'half')
    await expect(store.sweep([], new Set(), AbortSignal.abort())).rejects.toThrow('abort')
    expect(await storedNames()).toEqual(['.0123456789abcdef.tmp'])
  })
})
