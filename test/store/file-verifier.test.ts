/** Slow verification of stored files: what it reports, and that it goes on after a restart. */
import { open, rm, truncate, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { FileRef } from '../../src/lib/file-ref.ts'
import { limit } from '../../src/lib/limits.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { FileVerifier, type StoredFile } from '../../src/store/file-verifier.ts'
import { cleanUp, folder } from '../support/folders.ts'

const CHUNK = limit('chunkBytes')

let blobs: BlobStore
let catalogue: Catalogue
let files: StoredFile[]
let damaged: string[]
let asked: string[]

async function stored(key: string, seed: number): Promise<StoredFile> {
  const bytes = Uint8Array.from({ length: 2 * CHUNK + 5 }, (_, i) => (i * seed) % 251)
  const { ref } = await blobs.putPieces([bytes])
  return { key, path: blobs.path(ref.sha256), ref }
}

beforeEach(async () => {
  const dir = await folder()
  blobs = await BlobStore.open(dir)
  catalogue = await Catalogue.open(dir)
  files = [await stored('a', 3), await stored('b', 5)]
  damaged = []
  asked = []
})
afterEach(async () => {
  await catalogue.close()
  await cleanUp()
})

function verifier(stop = new AbortController(), stopAt?: string): FileVerifier {
  return new FileVerifier({
    catalogue,
    files: () => files,
    chunkHashes: async (ref: FileRef, signal) => {
      const key = files.find((file) => file.ref === ref)?.key ?? ''
      asked.push(key)
      if (key === stopAt) stop.abort(new Error('stopped'))
      return blobs.chunkHashesOf(ref, signal)
    },
    onDamage: async ({ key }, reason) => void damaged.push(`${key}: ${reason}`),
    onFailure: (error) => {
      throw error
    },
    signal: stop.signal,
    pauseMs: 0,
  })
}

async function changeByte(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(Uint8Array.of(255), 0, 1, position)
  await file.close()
}

describe('the verification of stored files', () => {
  it('reports nothing about files that are whole', async () => {
    await verifier().run()
    expect(asked).toEqual(['a', 'b'])
    expect(damaged).toEqual([])
  })

  it('reports a file with a changed byte, and goes on with the next one', async () => {
    await changeByte((files[0] as StoredFile).path, CHUNK + 1)
    await verifier().run()
    expect(damaged).toEqual(['a: chunk 1 has changed'])
    expect(asked).toEqual(['a', 'b'])
  })

  it('reports a file that has become shorter or was removed', async () => {
    await truncate((files[0] as StoredFile).path, 7)
    await rm((files[1] as StoredFile).path)
    await verifier().run()
    expect(damaged[0]).toMatch(/^a: .*7/)
    expect(damaged[1]).toMatch(/^b: .*does not exist/)
  })

  it('computes chunk hashes again that the disk has damaged', async () => {
    const [{ ref }] = files as [StoredFile]
    await writeFile(blobs.beside(ref.sha256, 'chunks'), new Uint8Array(3 * 32))
    await verifier().run()
    expect(damaged).toEqual([])
    expect(await blobs.chunkHashes(ref.sha256)).toEqual(await blobs.chunkHashesOf(ref))
  })

  it('goes on after a restart where it was stopped, and then begins anew', async () => {
    await verifier(new AbortController(), 'b').run()
    expect(asked).toEqual(['a', 'b'])
    await verifier().run()
    expect(asked).toEqual(['a', 'b', 'b'])
    await verifier().run()
    expect(asked).toEqual(['a', 'b', 'b', 'a', 'b'])
  })

  it('says nothing about a file that was deleted meanwhile', async () => {
    const [first] = files as [StoredFile]
    await blobs.delete(first.ref.sha256)
    const all = files
    const checked = verifier()
    files = all.slice(1)
    await checked.run()
    expect(damaged).toEqual([])
  })
})
