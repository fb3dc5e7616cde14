import { setImmediate } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { encodeBlobRequest, serveBlob } from '../../src/exchange/blob.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { content } from '../support/packages.ts'

const CHUNKS = 8
const PER_PEER = limit('chunksPerPeer')
const never = new AbortController().signal

afterEach(cleanUp)

/** A store with one file, and the number of its chunks that were read so far. */
async function countedStore(): Promise<{ blobs: BlobStore; digest: Digest; reads: () => number }> {
  const blobs = await BlobStore.open(await folder())
  const digest = await blobs.put(content(CHUNKS * limit('chunkBytes')))
  const open = blobs.reader.bind(blobs)
  let reads = 0
  blobs.reader = async (digest) => {
    const reader = await open(digest)
    const read = reader.read.bind(reader)
    reader.read = (...args) => {
      reads++
      return read(...args)
    }
    return reader
  }
  return { blobs, digest, reads: () => reads }
}

/** Let every read that may begin do so. */
async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await setImmediate()
}

describe('a node that serves files', () => {
  it('holds few chunks for a peer that does not read, however many answers it asks for', async () => {
    const { blobs, digest, reads } = await countedStore()
    const serve = serveBlob({ handlers: { mayRead: () => true }, blobs })
    const request = encodeBlobRequest({ kind: 'chunks', digest, first: 0, count: CHUNKS })
    const answers = Array.from({ length: 8 }, () => serve(request, 'mallory', never)[Symbol.asyncIterator]())
    const frames = answers.map((answer) => answer.next())
    await Promise.race(frames)
    await settle()
    expect(reads()).toBe(PER_PEER)
    // Another peer does not wait for it.
    const honest = serve(request, 'honest', never)[Symbol.asyncIterator]()
    expect((await honest.next()).done).toBe(false)
    await Promise.all([honest, ...answers].map((answer) => answer.return?.()))
  })

  it('gives every peer a chunk while others hold all that are shared', async () => {
    const { blobs, digest, reads } = await countedStore()
    const serve = serveBlob({ handlers: { mayRead: () => true }, blobs })
    const request = encodeBlobRequest({ kind: 'chunks', digest, first: 0, count: CHUNKS })
    const peers = limit('sharedChunks') + 4
    const answers = Array.from({ length: peers }, (_, i) =>
      serve(request, `member ${i}`, never)[Symbol.asyncIterator](),
    )
    await Promise.all(answers.map((answer) => answer.next()))
    await settle()
    expect(reads()).toBe(peers + limit('sharedChunks'))
    await Promise.all(answers.map((answer) => answer.return?.()))
  })

  it('goes on with the next answer of a peer once one was given up', async () => {
    const { blobs, digest } = await countedStore()
    const serve = serveBlob({ handlers: { mayRead: () => true }, blobs })
    const request = encodeBlobRequest({ kind: 'chunks', digest, first: 0, count: CHUNKS })
    const stalled = serve(request, 'peer', never)[Symbol.asyncIterator]()
    await stalled.next()
    const stopping = new AbortController()
    const waiting = serve(request, 'peer', stopping.signal)[Symbol.asyncIterator]().next()
    const last = serve(request, 'peer', never)
    stopping.abort(new Error('the stream has ended'))
    await expect(waiting).rejects.toThrow('the stream has ended')
    await stalled.return?.()
    let chunks = 0
    for await (const _ of last) chunks++
    expect(chunks).toBe(CHUNKS)
  })
})
