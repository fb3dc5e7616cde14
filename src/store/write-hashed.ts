/**
 * Writes a new file piece by piece and computes its reference on the way, so that a file of any size is written in one
 * pass and in little memory. Knows no format.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { FileHasher, type HashedFile } from '../lib/file-ref.ts'
import { mapDiskErrors, PRIVATE_FILE_MODE, removeLeftOver } from '../lib/files.ts'

/** The content of a file, in order. A piece is used completely before the next one is asked for. */
export type Pieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

/** Bytes between flushes to disk, so that the last flush has little to write. */
const FLUSH_BYTES = 64 * 2 ** 20

/**
 * Write the new file `path` and flush it. It is removed after any failure.
 * @throws what `pieces` throws; the signal's reason; InputError `disk-full`, `permissions`, `io`.
 */
export async function writeHashedFile(
  path: string,
  pieces: Pieces,
  signal?: AbortSignal,
): Promise<HashedFile> {
  return mapDiskErrors(path, async () => {
    const handle = await open(path, 'wx', PRIVATE_FILE_MODE)
    try {
      return await writeTo(handle, pieces, signal)
    } catch (error) {
      await removeLeftOver(path)
      throw error
    } finally {
      await handle.close()
    }
  })
}

async function writeTo(handle: FileHandle, pieces: Pieces, signal?: AbortSignal): Promise<HashedFile> {
  const hasher = new FileHasher()
  let unflushed = 0
  let flushing: Promise<void> = Promise.resolve()
  try {
    for await (const piece of pieces) {
      signal?.throwIfAborted()
      const writing = writeWhole(handle, piece)
      writing.catch(() => undefined) // Awaited once the piece is hashed.
      hasher.update(piece)
      await writing
      unflushed += piece.length
      if (unflushed < FLUSH_BYTES) continue
      unflushed = 0
      // The system reports a failed flush only once, so it is kept until the end.
      flushing = flushing.then(() => handle.datasync())
      flushing.catch(() => undefined)
    }
  } finally {
    await flushing.catch(() => undefined)
  }
  await flushing
  await handle.sync()
  return hasher.finish()
}

async function writeWhole(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten
  }
}

/** The reference of a file that is not written. @throws what `pieces` throws; the signal's reason. */
export async function hashPieces(pieces: Pieces, signal?: AbortSignal): Promise<HashedFile> {
  const hasher = new FileHasher()
  for await (const piece of pieces) {
    signal?.throwIfAborted()
    hasher.update(piece)
  }
  return hasher.finish()
}
