/**
 * How a signed statement names a file: its size, its SHA-256 and the digest of its chunk hashes, so that each chunk
 * can be checked on arrival. Knows neither the content of a file nor its path.
 */
import { createHash, type Hash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { type Digest, digestOf, equalBytes, toHex } from './bytes.ts'
import { FormatError, VerificationError } from './errors.ts'
import type { Fields } from './fields.ts'
import { mapDiskErrors, PIECE_BYTES } from './files.ts'
import { limit } from './limits.ts'

export const HASH_BYTES = 32

export interface FileRef {
  /** Bytes in the file. */
  readonly size: number
  /** Digest of the whole file. */
  readonly sha256: Digest
  /** Bytes in every chunk except the last. */
  readonly chunkSize: number
  /** Digest of the concatenated raw chunk hashes. */
  readonly chunksSha256: Digest
}

export interface HashedFile {
  readonly ref: FileRef
  /** 32 bytes per chunk, in order. */
  readonly chunkHashes: Uint8Array
}

/** Hashes a file that arrives in pieces of any length; keeps no content in memory. */
export class FileHasher {
  readonly #chunkSize = limit('chunkBytes')
  readonly #whole: Hash = createHash('sha256')
  readonly #hashes: Uint8Array[] = []
  #chunk: Hash | undefined
  #inChunk = 0
  #size = 0

  update(bytes: Uint8Array): void {
    this.#whole.update(bytes)
    this.#size += bytes.length
    let offset = 0
    while (offset < bytes.length) {
      const take = Math.min(bytes.length - offset, this.#chunkSize - this.#inChunk)
      this.#chunk ??= createHash('sha256')
      this.#chunk.update(bytes.subarray(offset, offset + take))
      offset += take
      this.#inChunk += take
      if (this.#inChunk === this.#chunkSize) this.#closeChunk()
    }
  }

  /** Can be called once. */
  finish(): HashedFile {
    this.#closeChunk()
    const chunkHashes = new Uint8Array(this.#hashes.length * HASH_BYTES)
    this.#hashes.forEach((hash, index) => {
      chunkHashes.set(hash, index * HASH_BYTES)
    })
    return {
      ref: {
        size: this.#size,
        sha256: `sha256:${this.#whole.digest('hex')}`,
        chunkSize: this.#chunkSize,
        chunksSha256: digestOf(chunkHashes),
      },
      chunkHashes,
    }
  }

  #closeChunk(): void {
    if (this.#chunk === undefined) return
    this.#hashes.push(new Uint8Array(this.#chunk.digest()))
    this.#chunk = undefined
    this.#inChunk = 0
  }
}

/**
 * Reference of a file on disk, which is read piece by piece.
 * @param onProgress called with the number of bytes read so far
 * @throws InputError as `mapDiskErrors`; the signal's reason.
 */
export async function fileRefOfPath(
  path: string,
  signal?: AbortSignal,
  onProgress: (bytes: number) => void = () => undefined,
): Promise<HashedFile> {
  return mapDiskErrors(path, async () => {
    const handle = await open(path, 'r')
    try {
      const hasher = new FileHasher()
      const buffers = [0, 1].map(() => new Uint8Array(PIECE_BYTES)) as [Uint8Array, Uint8Array]
      let size = 0
      for (let reading = handle.read(buffers[0]), index = 0; ; index ^= 1) {
        const { bytesRead } = await reading
        if (bytesRead === 0) return hasher.finish()
        signal?.throwIfAborted()
        // The next piece is read while this one is hashed.
        reading = handle.read(buffers[index ^ 1] as Uint8Array)
        hasher.update((buffers[index] as Uint8Array).subarray(0, bytesRead))
        size += bytesRead
        onProgress(size)
      }
    } finally {
      await handle.close()
    }
  })
}

/** Read the four fields of a reference; the caller reads its other fields and calls `end()`. */
export function readFileRef(fields: Fields): FileRef {
  return {
    size: fields.uint('size', limit('fileBytes'), 1),
    sha256: fields.digest('sha256'),
    chunkSize: fields.literal('chunkSize', limit('chunkBytes')),
    chunksSha256: fields.digest('chunksSha256'),
  }
}

export function chunkCount(ref: FileRef): number {
  return Math.ceil(ref.size / ref.chunkSize)
}

/** Bytes in chunk `index`; only the last chunk may be shorter than `chunkSize`. */
export function chunkLength(ref: FileRef, index: number): number {
  return Math.min(ref.chunkSize, ref.size - index * ref.chunkSize)
}

/** The expected hash of chunk `index`. */
export function chunkHash(chunkHashes: Uint8Array, index: number): Uint8Array {
  return chunkHashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
}

/** @throws FormatError `bad-field` for a wrong number of hashes; VerificationError `wrong-digest`. */
export function checkChunkHashes(ref: FileRef, chunkHashes: Uint8Array): void {
  const expected = chunkCount(ref) * HASH_BYTES
  if (chunkHashes.length !== expected) {
    throw new FormatError(
      'bad-field',
      `chunk hashes: expected ${expected} bytes for a file of ${ref.size}, got ${chunkHashes.length}`,
    )
  }
  const got = digestOf(chunkHashes)
  if (got !== ref.chunksSha256) {
    throw new VerificationError('wrong-digest', `chunk hashes: expected ${ref.chunksSha256}, got ${got}`, {
      file: ref.sha256,
    })
  }
}

/** @throws FormatError `bad-field` if the file has no such chunk, `truncated` for a wrong length. */
export function checkChunkLength(ref: FileRef, index: number, length: number): void {
  if (!Number.isSafeInteger(index) || index < 0 || index >= chunkCount(ref)) {
    throw new FormatError('bad-field', `chunk index: expected 0 to ${chunkCount(ref) - 1}, got ${index}`)
  }
  if (length !== chunkLength(ref, index)) {
    throw new FormatError(
      'truncated',
      `chunk ${index}: expected ${chunkLength(ref, index)} bytes, got ${length}`,
    )
  }
}

/** @param got SHA-256 of the received chunk. @throws VerificationError `wrong-digest`. */
export function checkChunkHash(ref: FileRef, chunkHashes: Uint8Array, index: number, got: Uint8Array): void {
  if (!equalBytes(got, chunkHash(chunkHashes, index))) {
    throw new VerificationError(
      'wrong-digest',
      `chunk ${index}: expected SHA-256 ${toHex(chunkHash(chunkHashes, index))}, got ${toHex(got)}`,
      { file: ref.sha256, chunk: index },
    )
  }
}
