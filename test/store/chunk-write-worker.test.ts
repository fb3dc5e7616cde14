import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { equalBytes } from '../../src/lib/bytes.ts'
import { chunkLength } from '../../src/lib/file-ref.ts'
import { limit } from '../../src/lib/limits.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { ChunkWriteWorker } from '../../src/store/chunk-write-worker.ts'
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

describe('ChunkWriteWorker', () => {
  const count = 20
  const file = content(count * CHUNK - 7, 6)
  const { ref, chunkHashes } = fileRefOf(file)
  const chunk = (index: number): Uint8Array =>
    file.subarray(index * CHUNK, index * CHUNK + chunkLength(ref, index))
  const halves = (bytes: Uint8Array): Uint8Array[] => [bytes.subarray(0, 1000), bytes.subarray(1000)]

  it('writes many chunks at once, in any order, and refuses wrong ones', async () => {
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

  it('reports errors of the disk, and that it has ended', async () => {
    const full = await open('/dev/full', 'w')
    try {
      const worker = new ChunkWriteWorker(full.fd, ref, chunkHashes)
      const given = Array.from({ length: count }, (_, index) => worker.write(index, [chunk(index)]))
      for (const outcome of await Promise.allSettled(given)) {
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ENOSPC' } })
      }
      await worker.close()
      await expect(worker.write(0, [chunk(0)])).rejects.toThrow('ended')
      const ending = new ChunkWriteWorker(full.fd, ref, chunkHashes)
      const underWay = Array.from({ length: count }, (_, index) => ending.write(index, [chunk(index)]))
      await ending.close()
      for (const outcome of await Promise.allSettled(underWay)) {
        expect(outcome).toMatchObject({ status: 'rejected' })
        expect(String((outcome as PromiseRejectedResult).reason)).toMatch(/ended|ENOSPC/)
      }
    } finally {
      await full.close()
    }
  })
})
