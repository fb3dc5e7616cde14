import { open, readFile, rm, writeFile } from 'node:fs/promises'
import { afterAll, describe, expect, it } from 'vitest'
import { VerifiedFile } from '../../src/composition/verified-file.ts'
import type { FileRef } from '../../src/lib/file-ref.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const CHUNK = 2 ** 20
const SIZE = 3.5 * CHUNK

async function stored(): Promise<{ blobs: BlobStore; ref: FileRef; bytes: Buffer; path: string }> {
  const random = mulberry32(3)
  const words = Uint32Array.from({ length: SIZE / 4 }, () => 2 ** 32 * random())
  const bytes = Buffer.from(words.buffer)
  const blobs = await BlobStore.open(await folder())
  const path = blobs.path(await blobs.put(bytes))
  return { blobs, ref: fileRefOf(bytes).ref, bytes, path }
}

async function flip(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+')
  const byte = Buffer.alloc(1)
  await file.read(byte, 0, 1, position)
  byte[0] = (byte[0] as number) ^ 1
  await file.write(byte, 0, 1, position)
  await file.close()
}

describe('a verified file', () => {
  it('gives the bytes of any part', async () => {
    const { blobs, ref, bytes } = await stored()
    const file = await VerifiedFile.open(blobs, ref)
    expect(await file.size()).toBe(SIZE)
    for (const [from, length] of [
      [0, 10],
      [CHUNK - 5, 10],
      [CHUNK, CHUNK],
      [17, SIZE - 17],
      [SIZE - 3, 3],
      [5, 0],
    ] as const) {
      const into = Buffer.alloc(length)
      await file.read(into, from)
      expect(into.equals(bytes.subarray(from, from + length))).toBe(true)
    }
    await expect(file.read(new Uint8Array(4), SIZE - 3)).rejects.toMatchObject({ code: 'truncated' })
  })

  it('refuses a part that has changed on the disk, and only that', async () => {
    const { blobs, ref, path } = await stored()
    const file = await VerifiedFile.open(blobs, ref)
    await flip(path, 2 * CHUNK + 7)
    await file.read(new Uint8Array(2 * CHUNK), 0)
    await file.read(new Uint8Array(10), 3 * CHUNK)
    for (const [from, length] of [
      [2 * CHUNK, 1],
      [0, SIZE],
      [3 * CHUNK - 1, 2],
    ] as const) {
      await expect(file.read(new Uint8Array(length), from)).rejects.toMatchObject({
        code: 'wrong-digest',
        message: `package file ${ref.sha256}: chunk 2 has changed on the disk`,
      })
    }
  })

  it('is not opened with other chunk hashes than those of its publisher, and not read once it is deleted', async () => {
    const { blobs, ref, path } = await stored()
    const file = await VerifiedFile.open(blobs, ref)
    await rm(path)
    await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringContaining('was deleted, because its package is no longer used'),
    })
    await expect(VerifiedFile.open(blobs, ref)).rejects.toMatchObject({ code: 'not-found' })
    const other = await stored()
    const hashes = await readFile(`${other.path}.chunks`)
    await writeFile(`${other.path}.chunks`, hashes.fill(1, 0, 1))
    await expect(VerifiedFile.open(other.blobs, other.ref)).rejects.toMatchObject({ code: 'wrong-digest' })
  })
})
