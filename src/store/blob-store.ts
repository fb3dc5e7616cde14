/**
 * Files addressed by their SHA-256 under `blobs/`. A file that exists is complete and verified; its chunk hashes are
 * beside it as `<hex>.chunks`, its coded weights as `<hex>.<coding>.codes`. Two processes may use one folder, since equal names mean equal content. Knows no
 * manifest and no peer.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Digest, parseDigest } from '../lib/bytes.ts'
import { FormatError, hasErrno, VerificationError } from '../lib/errors.ts'
import {
  checkChunkHashes,
  type FileRef,
  fileRefOf,
  fileRefOfPath,
  HASH_BYTES,
  type HashedFile,
} from '../lib/file-ref.ts'
import {
  ensurePrivateDir,
  mapDiskErrors,
  PIECE_BYTES,
  pathExists,
  readFileBounded,
  syncDir,
  writeFileAtomic,
} from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { SharedWork } from '../lib/shared-work.ts'
import { BlobReader } from './blob-reader.ts'
import { CodeFiles, codesOwner, removeCodes } from './code-files.ts'
import { PartialBlob, partialPath } from './partial-blob.ts'

/** Names of files that a write has not finished: those of `writeFileAtomic` and of partial blobs. */
const UNFINISHED_NAME = /^\.[a-f0-9]{16}\.tmp$|\.part$/
/** Name of a complete file. */
const BLOB_NAME = /^[a-f0-9]{64}$/
const CHUNKS_SUFFIX = '.chunks'

export class BlobStore {
  readonly #dir: string
  /** Coded weights of the files; `delete` and `sweep` remove them with their file. */
  readonly codes: CodeFiles
  /** Computations of missing chunk hashes under way, by digest. */
  readonly #hashing = new SharedWork<Uint8Array>()

  private constructor(dir: string) {
    this.#dir = dir
    this.codes = new CodeFiles(dir)
  }

  /** Use or create `blobs/` inside `dir`. @throws InputError `permissions`, `disk-full`. */
  static async open(dir: string): Promise<BlobStore> {
    const blobs = join(dir, 'blobs')
    await ensurePrivateDir(blobs)
    return new BlobStore(blobs)
  }

  /** The folder that holds the files. */
  get dir(): string {
    return this.#dir
  }

  /** Path of the file once it is complete. @throws FormatError `bad-field`. */
  path(digest: Digest): string {
    return join(this.#dir, parseDigest(digest).slice('sha256:'.length))
  }

  async has(digest: Digest): Promise<boolean> {
    return pathExists(this.path(digest))
  }

  /** Store bytes, given whole or as consecutive parts. @throws InputError `disk-full`, `permissions`. */
  put(file: Uint8Array | readonly Uint8Array[], signal?: AbortSignal): Promise<Digest> {
    return this.putHashed(file, fileRefOf(file), signal)
  }

  /** `put` for bytes that were hashed before. */
  async putHashed(
    file: Uint8Array | readonly Uint8Array[],
    { ref, chunkHashes }: HashedFile,
    signal?: AbortSignal,
  ): Promise<Digest> {
    if (await this.has(ref.sha256)) return ref.sha256
    const options = signal === undefined ? {} : { signal }
    await writeFileAtomic(this.path(ref.sha256) + CHUNKS_SUFFIX, chunkHashes, options)
    await writeFileAtomic(this.path(ref.sha256), file, options)
    return ref.sha256
  }

  /** Store a copy of a file of any size with one chunk in memory at a time. */
  async putFile(path: string, signal?: AbortSignal): Promise<FileRef> {
    const { ref, chunkHashes } = await fileRefOfPath(path, signal)
    const partial = await this.beginPartial(ref, chunkHashes, signal)
    try {
      await copyChunks(path, partial, ref, signal)
      await partial.complete(signal)
    } finally {
      await partial.close()
    }
    return ref
  }

  /**
   * Open a file to read parts of it. They are not verified; the caller compares chunk hashes.
   * @throws InputError `not-found`.
   */
  async reader(digest: Digest): Promise<BlobReader> {
    return BlobReader.open(this.path(digest))
  }

  /**
   * A whole file, verified.
   * @throws InputError `not-found`; FormatError `too-large`; VerificationError `wrong-digest` if the disk returns
   * other bytes than were written.
   */
  async readAll(digest: Digest, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    const path = this.path(digest)
    const { bytes, digest: got } = await mapDiskErrors(path, () => readAndHash(path, maxBytes, signal))
    if (got !== digest) {
      throw new VerificationError('wrong-digest', `blob: expected ${digest}, the disk holds ${got}`, {
        digest,
      })
    }
    return bytes
  }

  /** Hashes of all chunks, 32 bytes each, computed and stored if missing. @throws InputError `not-found`. */
  async chunkHashes(digest: Digest, signal?: AbortSignal): Promise<Uint8Array> {
    const path = this.path(digest)
    const expected =
      Math.ceil((await mapDiskErrors(path, () => stat(path))).size / limit('chunkBytes')) * HASH_BYTES
    if (await pathExists(path + CHUNKS_SUFFIX)) {
      const kept = await readFileBounded(path + CHUNKS_SUFFIX, maxChunkHashBytes(), signal)
      if (kept.length === expected) return kept
    }
    const compute = async (shared: AbortSignal): Promise<Uint8Array> => {
      const { chunkHashes } = await fileRefOfPath(path, shared)
      await writeFileAtomic(path + CHUNKS_SUFFIX, chunkHashes, { signal: shared })
      return chunkHashes
    }
    return this.#hashing.run(digest, compute, signal)
  }

  /**
   * Start or resume receiving a file. Chunks of an earlier attempt are hashed again and kept if they are right.
   * @throws FormatError `bad-field`, VerificationError `wrong-digest` if the hashes are not the ones that `ref`
   * commits to.
   */
  async beginPartial(ref: FileRef, chunkHashes: Uint8Array, signal?: AbortSignal): Promise<PartialBlob> {
    checkChunkHashes(ref, chunkHashes)
    const path = this.path(ref.sha256)
    return PartialBlob.open(
      {
        ref,
        chunkHashes,
        path: partialPath(path, ref),
        isComplete: () => this.has(ref.sha256),
        publish: async (partial) => {
          await writeFileAtomic(path + CHUNKS_SUFFIX, chunkHashes)
          await rename(partial, path)
          await syncDir(this.#dir)
        },
      },
      signal,
    )
  }

  /** Bytes that an interrupted download of a file has left on disk. */
  async partialBytes(ref: FileRef): Promise<number> {
    const path = partialPath(this.path(ref.sha256), ref)
    try {
      // Chunks arrive in any order, so the file may have holes; blocks are counted in units of 512 bytes.
      return Math.min((await stat(path)).blocks * 512, ref.size)
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return 0
      throw error
    }
  }

  /** Remove a file, and what an interrupted download of it has left. */
  async discard(ref: FileRef): Promise<void> {
    const partial = partialPath(this.path(ref.sha256), ref)
    await mapDiskErrors(partial, () => unlink(partial))
    await this.delete(ref.sha256)
  }

  /** Remove a file, its chunk hashes and its codes; true if it existed. Flushed before this resolves. */
  async delete(digest: Digest): Promise<boolean> {
    const path = this.path(digest)
    return mapDiskErrors(path, async () => {
      const existed = await unlink(path)
      await unlink(path + CHUNKS_SUFFIX)
      await removeCodes(this.#dir, digest)
      await syncDir(this.#dir)
      return existed
    })
  }

  /**
   * Remove what nothing needs: temporary files, chunk hashes without their file, and files, complete or partial, and
   * codes of files that are neither in `wanted` nor in `kept`. Partial files in `wanted` stay, so that their download resumes. Only for the
   * process that holds the home's lock, before it starts to write.
   * @returns number of files removed.
   * @throws InputError `permissions`; the reason of `signal`.
   */
  async sweep(wanted: readonly FileRef[], kept: ReadonlySet<Digest>, signal?: AbortSignal): Promise<number> {
    const partials = new Set(wanted.map((ref) => basename(partialPath(this.path(ref.sha256), ref))))
    const files = new Set(
      [...kept, ...wanted.map(({ sha256 }) => sha256)].map((one) => basename(this.path(one))),
    )
    return mapDiskErrors(this.#dir, async () => {
      const names = new Set(await readdir(this.#dir))
      const isLeftOver = (name: string): boolean => {
        if (name.endsWith(CHUNKS_SUFFIX)) {
          const file = name.slice(0, -CHUNKS_SUFFIX.length)
          return !names.has(file) || !files.has(file)
        }
        const coded = codesOwner(name)
        if (coded !== undefined) return !files.has(coded)
        return UNFINISHED_NAME.test(name) ? !partials.has(name) : BLOB_NAME.test(name) && !files.has(name)
      }
      let removed = 0
      for (const name of names) {
        signal?.throwIfAborted()
        if (isLeftOver(name) && (await unlink(join(this.#dir, name)))) removed++
      }
      return removed
    })
  }
}

/** Hash each piece while the next one is read, so that verifying takes little more time than reading. */
async function readAndHash(
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

function maxChunkHashBytes(): number {
  return Math.ceil(limit('fileBytes') / limit('chunkBytes')) * HASH_BYTES
}

/** A short read of a file that shrinks meanwhile fails the check of its chunk. */
async function copyChunks(
  path: string,
  partial: PartialBlob,
  ref: FileRef,
  signal?: AbortSignal,
): Promise<void> {
  await mapDiskErrors(path, async () => {
    const source = await open(path, 'r')
    try {
      const buffer = new Uint8Array(ref.chunkSize)
      for (const index of partial.missing()) {
        const { bytesRead } = await source.read(buffer, 0, buffer.length, index * ref.chunkSize)
        await partial.writeChunk(index, buffer.subarray(0, bytesRead), signal)
      }
    } finally {
      await source.close()
    }
  })
}

async function unlink(path: string): Promise<boolean> {
  try {
    await rm(path)
    return true
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false
    throw error
  }
}
