/**
 * A file on its way in: chunks arrive in any order, each verified before it is written, and one
 * chunk is in memory at a time whatever the file's size. Knows no network.
 */
import { createHash } from 'node:crypto'
import { constants, type FileHandle, open, rm } from 'node:fs/promises'
import { digestOf, equalBytes, sha256, utf8 } from '../lib/bytes.ts'
import { InputError, VerificationError } from '../lib/errors.ts'
import { checkChunk, chunkCount, chunkHash, chunkLength, type FileRef } from '../lib/file-ref.ts'
import { mapDiskErrors, PRIVATE_FILE_MODE } from '../lib/files.ts'

export interface PartialBlobInit {
  readonly ref: FileRef
  /** Already checked against `ref`. */
  readonly chunkHashes: Uint8Array
  /** Where chunks are collected. */
  readonly path: string
  readonly isComplete: () => Promise<boolean>
  /** Make the flushed, verified file at `path` visible under its digest. */
  readonly publish: (path: string) => Promise<void>
}

/** Named after everything that `ref` claims, so that two claims never share a file. */
export function partialPath(blobPath: string, ref: FileRef): string {
  const claim = digestOf(utf8(`${ref.size} ${ref.chunkSize} ${ref.chunksSha256}`))
  return `${blobPath}-${claim.slice('sha256:'.length, 'sha256:'.length + 16)}.part`
}

export class PartialBlob {
  readonly #init: PartialBlobInit
  readonly #missing: Set<number>
  #handle: FileHandle | undefined

  private constructor(init: PartialBlobInit, handle: FileHandle | undefined, missing: Set<number>) {
    this.#init = init
    this.#handle = handle
    this.#missing = missing
  }

  /** @throws InputError `disk-full`, `permissions`. */
  static async open(init: PartialBlobInit, signal?: AbortSignal): Promise<PartialBlob> {
    if (await init.isComplete()) return new PartialBlob(init, undefined, new Set())
    return mapDiskErrors(init.path, async () => {
      const handle = await open(init.path, constants.O_RDWR | constants.O_CREAT, PRIVATE_FILE_MODE)
      try {
        return new PartialBlob(init, handle, await missingChunks(init, handle, signal))
      } catch (error) {
        await handle.close()
        throw error
      }
    })
  }

  /** Chunks still to come, ascending. */
  missing(): number[] {
    return [...this.#missing].sort((a, b) => a - b)
  }

  /** @throws FormatError `bad-field`, `truncated`; VerificationError `wrong-digest`; InputError `disk-full`. */
  async writeChunk(index: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { ref, chunkHashes, path } = this.#init
    checkChunk(ref, chunkHashes, index, bytes)
    signal?.throwIfAborted()
    if (!this.#missing.has(index)) return
    const handle = this.#open()
    await mapDiskErrors(path, async () => {
      for (let at = 0; at < bytes.length; ) {
        const start = index * ref.chunkSize + at
        at += (await handle.write(bytes, at, bytes.length - at, start)).bytesWritten
      }
    })
    this.#missing.delete(index)
  }

  /**
   * Verify the whole file, flush it and make it visible. Closes on success.
   * @throws InputError `mismatch` while chunks are missing; VerificationError `wrong-digest` when
   * right chunks make a wrong file, which is then removed.
   */
  async complete(signal?: AbortSignal): Promise<void> {
    const { ref, path, isComplete, publish } = this.#init
    if (this.#missing.size > 0) {
      throw new InputError('mismatch', `${this.#missing.size} of ${chunkCount(ref)} chunks are missing`)
    }
    if (this.#handle === undefined) return
    const handle = this.#handle
    await mapDiskErrors(path, async () => {
      // Another download of the same file may have come first and taken the collected chunks along.
      if (await isComplete()) {
        await this.close()
        await rm(path, { force: true })
        return
      }
      const got = await hashFile(handle, ref, signal)
      if (got !== ref.sha256) {
        await this.close()
        await rm(path, { force: true })
        throw new VerificationError('wrong-digest', `file: expected ${ref.sha256}, got ${got}`, {
          file: ref.sha256,
        })
      }
      await handle.sync()
      await this.close()
      await publish(path)
    })
  }

  /** Keep what has arrived for a later attempt. */
  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close()
  }

  #open(): FileHandle {
    if (this.#handle === undefined) throw new Error('the partial file was closed')
    return this.#handle
  }
}

async function missingChunks(
  { ref, chunkHashes }: PartialBlobInit,
  handle: FileHandle,
  signal?: AbortSignal,
): Promise<Set<number>> {
  const missing = new Set<number>()
  const { size } = await handle.stat()
  const buffer = new Uint8Array(ref.chunkSize)
  for (let index = 0; index < chunkCount(ref); index++) {
    signal?.throwIfAborted()
    const length = chunkLength(ref, index)
    const start = index * ref.chunkSize
    const isRight =
      start + length <= size &&
      (await readExactly(handle, buffer, length, start)) &&
      equalBytes(sha256(buffer.subarray(0, length)), chunkHash(chunkHashes, index))
    if (!isRight) missing.add(index)
  }
  return missing
}

async function hashFile(handle: FileHandle, ref: FileRef, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  const buffer = new Uint8Array(ref.chunkSize)
  for (let index = 0; index < chunkCount(ref); index++) {
    signal?.throwIfAborted()
    const length = chunkLength(ref, index)
    if (!(await readExactly(handle, buffer, length, index * ref.chunkSize))) break
    hash.update(buffer.subarray(0, length))
  }
  return `sha256:${hash.digest('hex')}`
}

async function readExactly(
  handle: FileHandle,
  buffer: Uint8Array,
  length: number,
  start: number,
): Promise<boolean> {
  for (let at = 0; at < length; ) {
    const { bytesRead } = await handle.read(buffer, at, length - at, start + at)
    if (bytesRead === 0) return false
    at += bytesRead
  }
  return true
}
