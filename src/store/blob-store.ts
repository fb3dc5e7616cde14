/**
 * Files addressed by their SHA-256 under `blobs/`. A file that exists is complete and verified. Files that are computed
 * from it are beside it as `<hex>.<suffix>` and are removed with it; its chunk hashes are `<hex>.chunks`, its coded
 * weights `<hex>.<coding>.codes`. Two processes may use one folder, since equal names mean equal content. Knows nothing
 * about manifests and peers.
 */
import { randomBytes } from 'node:crypto'
import { readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Digest, parseDigest, toHex } from '../lib/bytes.ts'
import { hasErrno, VerificationError } from '../lib/errors.ts'
import {
  checkChunkHashes,
  type FileRef,
  fileRefOfPath,
  HASH_BYTES,
  type HashedFile,
} from '../lib/file-ref.ts'
import {
  ensurePrivateDir,
  mapDiskErrors,
  pathExists,
  readFileBounded,
  syncDir,
  writeFileAtomic,
} from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { SharedWork } from '../lib/shared-work.ts'
import { BlobReader } from './blob-reader.ts'
import { CodeFiles, codesOwner } from './code-files.ts'
import { PartialBlob, partialPath } from './partial-blob.ts'
import { piecesOf, readAndHash } from './read-file.ts'
import { type Pieces, writeHashedFile } from './write-hashed.ts'

/** Names of files that a write has not finished: those of `temporaryPath`, of `writeFileAtomic` and of partial blobs. */
const UNFINISHED_NAME = /^\.[a-f0-9]{16}\.tmp$|\.part$/
/** Name of a complete file, or of a file that is computed from one. */
const BLOB_NAME = /^([a-f0-9]{64})(\..+)?$/
const CHUNKS = 'chunks'

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

  /**
   * Path for a file that is computed from a stored file, such as its chunk hashes. It is removed with the stored file.
   * @param suffix letters, digits, "-" and "."
   * @throws FormatError `bad-field`.
   */
  beside(digest: Digest, suffix: string): string {
    return `${this.path(digest)}.${suffix}`
  }

  /** New path for a file that is removed when the node starts, unless it was adopted or removed before. */
  temporaryPath(): string {
    return join(this.#dir, `.${toHex(randomBytes(8))}.tmp`)
  }

  /** Store bytes, given whole or as consecutive parts. @throws InputError `disk-full`, `permissions`. */
  async put(file: Uint8Array | readonly Uint8Array[], signal?: AbortSignal): Promise<Digest> {
    const { ref } = await this.putPieces(file instanceof Uint8Array ? [file] : file, signal)
    return ref.sha256
  }

  /** Store a file that arrives piece by piece. @throws what `pieces` throws; InputError `disk-full`, `permissions`. */
  async putPieces(pieces: Pieces, signal?: AbortSignal): Promise<HashedFile> {
    const path = this.temporaryPath()
    const file = await writeHashedFile(path, pieces, signal)
    await this.adopt(path, file)
    return file
  }

  /** Store a copy of a file of any size, read once. @param onProgress called with the number of bytes copied. */
  async putFile(
    path: string,
    signal?: AbortSignal,
    onProgress: (bytes: number) => void = () => undefined,
  ): Promise<FileRef> {
    const { ref } = await this.putPieces(piecesOf(path, onProgress, signal), signal)
    return ref
  }

  /**
   * Store a file by moving it, which must be flushed and in the folder of this store. It is removed if its content is
   * stored already.
   * @param file its references, which are not verified
   */
  async adopt(path: string, { ref: { sha256 }, chunkHashes }: HashedFile): Promise<void> {
    await mapDiskErrors(path, async () => {
      try {
        if (await this.has(sha256)) return
        await writeFileAtomic(this.beside(sha256, CHUNKS), chunkHashes)
        await rename(path, this.path(sha256))
        await syncDir(this.#dir)
      } finally {
        await rm(path, { force: true })
      }
    })
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
    const chunks = this.beside(digest, CHUNKS)
    if (await pathExists(chunks)) {
      const kept = await readFileBounded(chunks, maxChunkHashBytes(), signal)
      if (kept.length === expected) return kept
    }
    const compute = async (shared: AbortSignal): Promise<Uint8Array> => {
      const { chunkHashes } = await fileRefOfPath(path, shared)
      await writeFileAtomic(chunks, chunkHashes, { signal: shared })
      return chunkHashes
    }
    return this.#hashing.run(digest, compute, signal)
  }

  /** `chunkHashes` of the file that `ref` names, computed again if the stored ones are not those of `ref`. */
  async chunkHashesOf(ref: FileRef, signal?: AbortSignal): Promise<Uint8Array> {
    const kept = await this.chunkHashes(ref.sha256, signal)
    try {
      checkChunkHashes(ref, kept)
      return kept
    } catch {
      await rm(this.beside(ref.sha256, CHUNKS), { force: true })
      return this.chunkHashes(ref.sha256, signal)
    }
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
          await writeFileAtomic(this.beside(ref.sha256, CHUNKS), chunkHashes)
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

  /** Remove a file and all files computed from it; true if it existed. Flushed before this resolves. */
  async delete(digest: Digest): Promise<boolean> {
    const path = this.path(digest)
    return mapDiskErrors(path, async () => {
      const existed = await unlink(path)
      const prefix = `${basename(path)}.`
      for (const name of await readdir(this.#dir)) {
        if (name.startsWith(prefix)) await unlink(join(this.#dir, name))
      }
      await syncDir(this.#dir)
      return existed
    })
  }

  /**
   * Remove what nothing needs: temporary files, files computed from a file that is missing, and files, complete or
   * partial, that are neither in `wanted` nor in `kept`. Partial files in `wanted` stay, so that their download resumes. Only for the
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
        if (UNFINISHED_NAME.test(name)) return !partials.has(name)
        const [, file, suffix] = BLOB_NAME.exec(name) ?? []
        if (file === undefined) return false
        // Codes of the public model belong to its digest, which names no file.
        const isComputed = suffix !== undefined && codesOwner(name) === undefined
        return !files.has(file) || (isComputed && !names.has(file))
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

function maxChunkHashBytes(): number {
  return Math.ceil(limit('fileBytes') / limit('chunkBytes')) * HASH_BYTES
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
