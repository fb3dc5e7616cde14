/** Reads files in pieces: whole with their digest, or one piece after the other. Does not know where files are kept. */
import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import type { Digest } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { mapDiskErrors, PIECE_BYTES } from '../lib/files.ts'

/** Hash each piece while the next one is read, so that verifying takes little more time than reading. */
export async function readAndHash(
  path: string,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<{ bytes: Uint8Array; digest: Digest }> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    if (size > maxBytes) {
      throw new FormatError('too-large', `${path}: expected at most ${maxBytes} bytes, got ${size}`)
    }
    const bytes = new Uint8Array(size)
    const hash = createHash('sha256')
    const read = (at: number): Promise<Uint8Array> =>
      readWhole(handle, bytes.subarray(at, at + PIECE_BYTES), at, signal)
    for (let piece = await read(0), end = piece.length; piece.length > 0; ) {
      const next = read(end)
      hash.update(piece)
      piece = await next
      end += piece.length
    }
    return { bytes, digest: `sha256:${hash.digest('hex')}` }
  } finally {
    await handle.close()
  }
}

async function readWhole(
  handle: FileHandle,
  into: Uint8Array,
  start: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  for (let done = 0; done < into.length; ) {
    signal?.throwIfAborted()
    const { bytesRead } = await handle.read(into, done, into.length - done, start + done)
    if (bytesRead === 0) throw new FormatError('truncated', 'blob: ended while it was read')
    done += bytesRead
  }
  return into
}

/** The content of a file. A piece is overwritten by the next one. @throws InputError as `mapDiskErrors`. */
export async function* piecesOf(
  path: string,
  onProgress: (bytes: number) => void,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const source = await mapDiskErrors(path, () => open(path, 'r'))
  try {
    const buffer = new Uint8Array(PIECE_BYTES)
    for (let done = 0; ; ) {
      signal?.throwIfAborted()
      const { bytesRead } = await mapDiskErrors(path, () => source.read(buffer, 0, buffer.length))
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
      done += bytesRead
      onProgress(done)
    }
  } finally {
    await source.close()
  }
}
