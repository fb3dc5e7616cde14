/**
 * A file that is being received. Chunks arrive in any order and are verified before they are written. Memory holds
 * only the chunks that are being written, whatever the size of the file. Knows no network.
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
import { ChunkWriteWorker } from './chunk-write-worker.ts'
import { FileHashWorker } from './file-hash-worker.ts'

/** Files below this size use no worker threads, which would cost more time than they save. */
const THREADED_BYTES = 16 * 2 ** 20
/** Chunks between messages to the hash worker: waking its thread takes as long as hashing 200 KiB. */
const HASHED_CHUNKS = 8
/** Bytes between flushes to disk, so that the last flush has little to write. */
const FLUSH_BYTES = 64 * 2 ** 20

export interface PartialBlobInit {
  readonly ref: FileRef
  /** 32 bytes per chunk, already checked against `ref`. */
  readonly chunkHashes: Uint8Array
  /** Path of the file that collects the chunks. */
  readonly path: string
  readonly isComplete: () => Promise<boolean>
  /** Move the flushed and verified file at `path` to its digest. */
  readonly publish: (path: string) => Promise<void>
}

/** The name depends on everything that `ref` claims, so that two claims never share a file. */
export function partialPath(blobPath: string, ref: FileRef): string {
  const claim = digestOf(utf8(`${ref.size} ${ref.chunkSize} ${ref.chunksSha256}`))
  return `${blobPath}-${claim.slice('sha256:'.length, 'sha256:'.length + 16)}.part`
}

export class PartialBlob {
  readonly #init: PartialBlobInit
  readonly #missing: Set<number>
  #handle: FileHandle | undefined
  #hashWorker: FileHashWorker | undefined
  /** All chunks below this index are written. */
  #next = 0
  /** All chunks below this index were given to the hash worker. */
  #hashed = 0
  #unflushedBytes = 0
  #writeWorker: ChunkWriteWorker | undefined
  /** Writes under way. */
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

  /** Indexes of the chunks that are missing, ascending. */
  missing(): number[] {
    return [...this.#missing].sort((a, b) => a - b)
  }

  /**
   * Verify a chunk, given whole or as consecutive parts, and write it. Several writes may be under way at once.
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
      this.#writeWorker ??= new ChunkWriteWorker(handle.fd, ref, chunkHashes)
      await this.#writeWorker.write(index, parts)
    } else {
      const bytes = concatBytes(...parts)
      checkChunkHash(ref, chunkHashes, index, sha256(bytes))
      await writeAll(handle, bytes, index * ref.chunkSize)
    }
    this.#missing.delete(index)
    this.#hashOn()
    this.#flush(handle, chunkLength(ref, index))
  }

  /**
   * Verify the whole file, flush it and make it visible. Closes on success.
   * @throws InputError `mismatch` while chunks are missing; `io` if a chunk has changed on disk, which keeps the file
   * and counts that chunk as missing when it is opened again; VerificationError `wrong-digest` if all chunks are right
   * but the file is not, which is then removed.
   */
  async complete(signal?: AbortSignal): Promise<void> {
    const { ref, path, isComplete, publish } = this.#init
    if (this.#missing.size > 0) {
      throw new InputError('mismatch', `${this.#missing.size} of ${chunkCount(ref)} chunks are missing`)
    }
    if (this.#handle === undefined) return
    const handle = this.#handle
    await mapDiskErrors(path, async () => {
      // Another download of the same file may have finished first and moved the collected chunks.
      if (await isComplete()) {
        await this.close()
        await rm(path, { force: true })
        return
      }
      let got: string | undefined = await this.#hashWorker?.finish(ref.size)
      // A bad read gives a wrong digest too, so only a read that checks every chunk may blame the reference.
      if (got !== ref.sha256) got = await hashCheckedChunks(this.#init, handle, signal)
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

  /** Close the file; received chunks are kept for a later attempt. */
  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await Promise.allSettled(this.#writes)
    const workers = [this.#writeWorker, this.#hashWorker]
    this.#writeWorker = undefined
    this.#hashWorker = undefined
    for (const worker of workers) await worker?.close()
    await this.#flushing.catch(() => undefined)
    await handle?.close()
  }

  /** Give the hash worker all bytes that are written without a gap. */
  #hashOn(): void {
    const { ref } = this.#init
    if (ref.size < THREADED_BYTES || this.#handle === undefined) return
    while (this.#next < chunkCount(ref) && !this.#missing.has(this.#next)) this.#next++
    if (this.#next - this.#hashed < HASHED_CHUNKS) return
    this.#hashed = this.#next
    this.#hashWorker ??= new FileHashWorker(this.#handle.fd)
    this.#hashWorker.advance(Math.min(this.#next * ref.chunkSize, ref.size))
  }

  /** The system reports a failed flush only once, so it is kept: `complete` throws it. */
  #flush(handle: FileHandle, length: number): void {
    this.#unflushedBytes += length
    if (this.#unflushedBytes < FLUSH_BYTES) return
    this.#unflushedBytes = 0
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

/** Digest of the whole file. @throws InputError `io` for a chunk that differs from its hash. */
async function hashCheckedChunks(
  { ref, chunkHashes, path }: PartialBlobInit,
  handle: FileHandle,
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash('sha256')
  const buffer = new Uint8Array(ref.chunkSize)
  for (let index = 0; index < chunkCount(ref); index++) {
    signal?.throwIfAborted()
    const length = chunkLength(ref, index)
    const chunk = buffer.subarray(0, length)
    const isRight =
      (await readExactly(handle, buffer, length, index * ref.chunkSize)) &&
      equalBytes(sha256(chunk), chunkHash(chunkHashes, index))
    if (!isRight) {
      throw new InputError(
        'io',
        `${path}: chunk ${index} differs from what was written; check the disk, then fetch the file again`,
      )
    }
    hash.update(chunk)
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
