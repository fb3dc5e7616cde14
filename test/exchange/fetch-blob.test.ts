import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { decodeBlobRequest } from '../../src/exchange/blob.ts'
import { fetchBlob } from '../../src/exchange/fetch-blob.ts'
import { digestOf, equalBytes } from '../../src/lib/bytes.ts'
import { ExchangeError, FormatError, InputError } from '../../src/lib/errors.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { fakeNetwork, type Reply } from '../support/fake-network.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { codeOfAsync } from '../support/packages.ts'

const CHUNK = 2 ** 20
const random = mulberry32(7)
const FILE = new Uint8Array(9 * CHUNK + 123).map(() => random() * 256)
const { ref, chunkHashes } = fileRefOf(FILE)
const signal = new AbortController().signal
const folders: string[] = []

afterEach(async () => {
  await Promise.all(folders.splice(0).map((path) => rm(path, { recursive: true, force: true })))
})

async function emptyStore(): Promise<BlobStore> {
  const dir = await mkdtemp(join(tmpdir(), 'flexmesh-fetch-'))
  folders.push(dir)
  return BlobStore.open(dir)
}

/** An honest answer. */
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

/** Make one write of the store fail, as a disk does that is full for a moment. */
function failOnce(blobs: BlobStore, error: Error): void {
  const begin = blobs.beginPartial.bind(blobs)
  blobs.beginPartial = async (...args) => {
    const partial = await begin(...args)
    const write = partial.writeChunk.bind(partial)
    let failed = false
    partial.writeChunk = async (...chunk) => {
      if (failed) return write(...chunk)
      failed = true
      throw error
    }
    return partial
  }
}

describe('a fetch', () => {
  it('collects a file from several providers', async () => {
    const blobs = await emptyStore()
    const asked = new Set<string>()
    const network = fakeNetwork(async function* (peer, request, ...rest) {
      asked.add(peer)
      yield* honest(peer, request, ...rest)
    })
    await fetchBlob(network, blobs, ref, ['a', 'b'], { signal })
    expect(equalBytes(await blobs.readAll(ref.sha256, FILE.length), FILE)).toBe(true)
    expect([...asked]).toEqual(['a', 'b'])
  })

  it('does not ask a provider again that sent wrong chunk hashes', async () => {
    const blobs = await emptyStore()
    const network = fakeNetwork(async function* (peer, request, ...rest) {
      if (peer === 'liar') yield { bytes: new Uint8Array(chunkHashes.length) }
      else yield* honest(peer, request, ...rest)
    })
    await fetchBlob(network, blobs, ref, ['liar', 'honest'], { signal })
    expect(await blobs.has(ref.sha256)).toBe(true)
  })

  it('blames the provider and not the signer for wrong chunk hashes', async () => {
    const network = fakeNetwork(async function* () {
      yield { bytes: new Uint8Array(chunkHashes.length) }
    })
    const blobs = await emptyStore()
    expect(await codeOfAsync(() => fetchBlob(network, blobs, ref, ['liar'], { signal }))).toBe('protocol')
  })

  it.each<[string, { hashes?: unknown[]; chunks?: unknown[] }]>([
    ['an empty answer instead of the chunk hashes', { hashes: [] }],
    ['too few chunk hashes', { hashes: [{ bytes: chunkHashes.slice(32) }] }],
    ['another frame than that of the chunk hashes', { hashes: [{ text: 'x' }] }],
    ['a chunk that is too short', { chunks: [{ bytes: FILE.slice(0, 9) }] }],
    ['another frame than that of a chunk', { chunks: [{ text: 'x' }] }],
    ['no chunks', { chunks: [] }],
    ['a wrong chunk', { chunks: [{ bytes: FILE.slice(CHUNK, 2 * CHUNK) }] }],
  ])(
    'blames the provider and not the signer for %s',
    async (_, { hashes = [{ bytes: chunkHashes }], chunks }) => {
      const network = fakeNetwork(async function* (_peer, value) {
        yield* decodeBlobRequest(value).kind === 'hashes' ? hashes : (chunks ?? [])
      })
      const fetched = fetchBlob(network, await emptyStore(), ref, ['liar'], { signal })
      await expect(fetched).rejects.toMatchObject({ family: 'exchange', code: 'protocol' })
    },
  )

  it('blames the provider and not the signer for bytes that are no frame', async () => {
    const network = fakeNetwork(async function* () {
      throw new FormatError('not-cbor', 'frame')
    })
    const fetched = fetchBlob(network, await emptyStore(), ref, ['liar'], { signal })
    await expect(fetched).rejects.toMatchObject({ family: 'exchange', code: 'protocol' })
  })

  it.each([
    ['one chunk more', ref.size + CHUNK],
    ['a chunk less', ref.size - CHUNK],
    ['one byte more', ref.size + 1],
    ['one byte less', ref.size - 1],
  ])('blames the signer for a size that implies %s than its own hashes', async (_, size) => {
    const lie = { ...ref, size }
    const fetched = fetchBlob(fakeNetwork(honest), await emptyStore(), lie, ['honest'], { signal })
    await expect(fetched).rejects.toMatchObject({ family: 'verification', code: 'wrong-digest' })
  })

  it('blames the signer for a reference whose chunks make another file', async () => {
    const lie = { ...ref, sha256: digestOf(FILE.subarray(1)) }
    const fetched = fetchBlob(fakeNetwork(honest), await emptyStore(), lie, ['honest'], { signal })
    await expect(fetched).rejects.toMatchObject({ family: 'verification', code: 'wrong-digest' })
  })

  it('ends with the error of the own disk, which is no fault of a provider', async () => {
    const blobs = await emptyStore()
    failOnce(blobs, new InputError('disk-full', 'no space left'))
    const fetched = fetchBlob(fakeNetwork(honest), blobs, ref, ['a', 'b', 'c'], { signal })
    expect(await codeOfAsync(() => fetched)).toBe('disk-full')
    expect(await blobs.has(ref.sha256)).toBe(false)
  })

  it('that the caller aborts is aborted, and a later one continues', async () => {
    const blobs = await emptyStore()
    const caller = new AbortController()
    const aborted = fetchBlob(fakeNetwork(honest), blobs, ref, ['a'], {
      signal: caller.signal,
      onProgress: ({ doneChunks }) => doneChunks === 3 && caller.abort(),
    })
    expect(await codeOfAsync(() => aborted)).toBe('aborted')
    const progress: number[] = []
    await fetchBlob(fakeNetwork(honest), blobs, ref, ['a'], {
      signal,
      onProgress: ({ doneChunks }) => progress.push(doneChunks),
    })
    expect(progress[0]).toBeGreaterThanOrEqual(3)
    expect(progress.at(-1)).toBe(10)
  })

  it('fails with the error of the last provider when none is left', async () => {
    const blobs = await emptyStore()
    const network = fakeNetwork(async function* () {
      throw new ExchangeError('timeout', 'no answer')
    })
    expect(await codeOfAsync(() => fetchBlob(network, blobs, ref, ['a', 'b'], { signal }))).toBe('timeout')
    expect(await codeOfAsync(() => fetchBlob(network, blobs, ref, [], { signal }))).toBe('unreachable')
  })
})
