/**
 * A package file whose bytes are verified when they are read: every chunk is compared with its hash, so a copy of the
 * file needs no other pass over it. Knows nothing about tensors.
 */
import { createHash } from 'node:crypto'
import { DiskFile, type PartFile } from '../checkpoint/file-weight.ts'
import { equalBytes } from '../lib/bytes.ts'
import { FormatError, InputError, VerificationError } from '../lib/errors.ts'
import { checkChunkHashes, chunkHash, chunkLength, type FileRef } from '../lib/file-ref.ts'
import type { BlobStore } from '../store/blob-store.ts'

export class VerifiedFile implements PartFile {
  readonly #file: DiskFile
  readonly #ref: FileRef
  readonly #chunkHashes: Uint8Array
  /** The chunk that was read last: the next read often begins in it. */
  #latest: { readonly index: number; readonly bytes: Uint8Array } | undefined

  private constructor(path: string, ref: FileRef, chunkHashes: Uint8Array) {
    this.#file = new DiskFile(path)
    this.#ref = ref
    this.#chunkHashes = chunkHashes
  }

  /**
   * @throws InputError `not-found`; VerificationError `wrong-digest` if the chunk hashes in the store are not those
   * that `ref` commits to.
   */
  static async open(blobs: BlobStore, ref: FileRef, signal?: AbortSignal): Promise<VerifiedFile> {
    const chunkHashes = await blobs.chunkHashes(ref.sha256, signal)
    checkChunkHashes(ref, chunkHashes)
    return new VerifiedFile(blobs.path(ref.sha256), ref, chunkHashes)
  }

  get path(): string {
    return this.#file.path
  }

  async size(): Promise<number> {
    return this.#ref.size
  }

  /**
   * @throws as `PartFile.read`; InputError `not-found` once the package was withdrawn; VerificationError `wrong-digest`
   * for a chunk that has changed on the disk.
   */
  async read(into: Uint8Array, position: number, signal?: AbortSignal): Promise<void> {
    const { chunkSize, size } = this.#ref
    if (position + into.length > size) {
      throw new FormatError(
        'truncated',
        `${this.path}: expected ${position + into.length} bytes, got ${size}`,
      )
    }
    for (let at = 0; at < into.length; ) {
      const index = Math.floor((position + at) / chunkSize)
      const chunk = await this.#chunk(index, signal)
      const part = chunk.subarray(position + at - index * chunkSize).subarray(0, into.length - at)
      into.set(part, at)
      at += part.length
    }
  }

  async #chunk(index: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (this.#latest?.index === index) return this.#latest.bytes
    const bytes = new Uint8Array(chunkLength(this.#ref, index))
    try {
      await this.#file.read(bytes, index * this.#ref.chunkSize, signal)
    } catch (error) {
      if (!(error instanceof InputError) || error.code !== 'not-found') throw error
      throw new InputError(
        'not-found',
        `package file ${this.#ref.sha256} was deleted, because its package is no longer used; run the command again without it`,
        { file: this.#ref.sha256 },
        error,
      )
    }
    const digest = createHash('sha256').update(bytes).digest()
    if (!equalBytes(digest, chunkHash(this.#chunkHashes, index))) {
      throw new VerificationError(
        'wrong-digest',
        `package file ${this.#ref.sha256}: chunk ${index} has changed on the disk`,
        { file: this.#ref.sha256, chunk: index },
      )
    }
    this.#latest = { index, bytes }
    return bytes
  }
}
