/**
 * A file on its way in: chunks arrive in any order, each verified before it is written, and memory
 * holds the chunks that are being written, whatever the file's size. Knows no network.
 */
import { createHash } from 'node:crypto'
import { constants, type FileHandle, open, rm } from 'node:fs/promises'
import { concatBytes, digestOf, equalBytes, sha256, utf8 } from '../lib/bytes.ts'
import { InputError, VerificationError } from '../lib/errors.ts'
import {
  checkChunkHash,
  checkChunkLength,
  chunkCount,
  chunkHash,
  chunkLength,
  type FileRef,
} from '../lib/file-ref.ts'
import { mapDiskErrors, PRIVATE_FILE_MODE } from '../lib/files.ts'
import { ChunkThread } from './chunk-thread.ts'
import { FileFollower } from './file-follower.ts'

/** Smaller files are verified on the thread that receives them, and hashed when they are whole: threads cost more than they save. */
const THREADED_BYTES = 16 * 2 ** 20
/** Chunks that a follower is told of at once: waking its thread costs as much as hashing 200 KiB. */
const TOLD_CHUNKS = 8
/** Written bytes after which the disk is told to keep them, so that the end of a file waits for little. */
const FLUSH_BYTES = 64 * 2 ** 20
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
  #follower: FileFollower | undefined
  /** All chunks below this one are written. */
  #next = 0
  /** The same, as far as the follower knows. */
  #told = 0
  #unflushed = 0
  #chunkThread: ChunkThread | undefined
  /** Under way. */
  readonly #writes = new Set<Promise<void>>()
  #flushing: Promise<void> = Promise.resolve()

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

  /**
   * Verify a chunk, given whole or as consecutive parts, and write it. Several may be under way at once.
   * @throws FormatError `bad-field`, `truncated`; VerificationError `wrong-digest`; InputError `disk-full`.
   */
  async writeChunk(
    index: number,
    bytes: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    const { ref, chunkHashes, path } = this.#init
    const parts = bytes instanceof Uint8Array ? [bytes] : bytes
    checkChunkLength(
      ref,
      index,
      parts.reduce((total, part) => total + part.length, 0),
    )
    signal?.throwIfAborted()
    if (!this.#missing.has(index)) {
      checkChunkHash(ref, chunkHashes, index, sha256(concatBytes(...parts)))
      return
    }
    const write = this.#write(this.#open(), index, parts)
    this.#writes.add(write)
    try {
      await mapDiskErrors(path, () => write)
    } finally {
      this.#writes.delete(write)
    }
  }

  async #write(handle: FileHandle, index: number, parts: readonly Uint8Array[]): Promise<void> {
    const { ref, chunkHashes } = this.#init
    if (ref.size >= THREADED_BYTES) {
      this.#chunkThread ??= new ChunkThread(handle.fd, ref, chunkHashes)
      await this.#chunkThread.write(index, parts)
    } else {
      const bytes = concatBytes(...parts)
      checkChunkHash(ref, chunkHashes, index, sha256(bytes))
      await writeAll(handle, bytes, index * ref.chunkSize)
    }
    this.#missing.delete(index)
    this.#follow()
    this.#flush(handle, chunkLength(ref, index))
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
      const got = await (this.#follower?.finish(ref.size) ?? hashFile(handle, ref, signal))
      if (got !== ref.sha256) {
        await this.close()
        await rm(path, { force: true })
        throw new VerificationError('wrong-digest', `file: expected ${ref.sha256}, got ${got}`, {
          file: ref.sha256,
        })
      }
      await this.#flushing
      await handle.sync()
      await this.close()
      await publish(path)
    })
  }

  /** Keep what has arrived for a later attempt. */
  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await Promise.allSettled(this.#writes)
    const threads = [this.#chunkThread, this.#follower]
    this.#chunkThread = undefined
    this.#follower = undefined
    for (const thread of threads) await thread?.close()
    await this.#flushing.catch(() => undefined)
    await handle?.close()
  }

  /** Let the file's hash come along as far as the file is written without a gap. */
  #follow(): void {
    const { ref } = this.#init
    if (ref.size < THREADED_BYTES || this.#handle === undefined) return
    while (this.#next < chunkCount(ref) && !this.#missing.has(this.#next)) this.#next++
    if (this.#next - this.#told < TOLD_CHUNKS) return
    this.#told = this.#next
    this.#follower ??= new FileFollower(this.#handle.fd)
    this.#follower.advance(Math.min(this.#next * ref.chunkSize, ref.size))
  }

  /** A failure is told once by the system and must not be lost: `complete` throws it. */
  #flush(handle: FileHandle, length: number): void {
    this.#unflushed += length
    if (this.#unflushed < FLUSH_BYTES) return
    this.#unflushed = 0
    this.#flushing = this.#flushing.then(() => handle.datasync())
    this.#flushing.catch(() => undefined)
  }

  #open(): FileHandle {
    if (this.#handle === undefined) throw new Error('the partial file was closed')
    return this.#handle
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, start: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, start + done)).bytesWritten
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
