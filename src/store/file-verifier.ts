/**
 * Reads stored files again and again, slowly, to notice what the disk has damaged. Compares chunk by chunk with the
 * hashes that the reference of the file commits to. Keeps its position in the catalogue, so that a restart goes on where
 * the last run stopped. Does not repair anything.
 */
import { setTimeout } from 'node:timers/promises'
import { equalBytes, fromUtf8, sha256, utf8 } from '../lib/bytes.ts'
import { FlexMeshError, hasErrno } from '../lib/errors.ts'
import { checkChunkHashes, chunkCount, chunkHash, chunkLength, type FileRef } from '../lib/file-ref.ts'
import { BlobReader } from './blob-reader.ts'
import type { Catalogue } from './catalogue.ts'

export interface StoredFile {
  /** Identifies the file over restarts. */
  readonly key: string
  readonly path: string
  readonly ref: FileRef
}

export interface FileVerifierInit {
  readonly catalogue: Catalogue
  /** The files that exist now. */
  readonly files: () => readonly StoredFile[]
  /** Hashes of all chunks of a file, 32 bytes each. @throws FlexMeshError if they cannot be the right ones. */
  readonly chunkHashes: (ref: FileRef, signal: AbortSignal) => Promise<Uint8Array>
  /** Called for a file that has changed or cannot be read. */
  readonly onDamage: (file: StoredFile, reason: string) => Promise<void>
  /** Called for a failure that says nothing about a file. */
  readonly onFailure: (error: unknown) => void
  readonly signal: AbortSignal
  /** Pause between two chunks, ms. */
  readonly pauseMs?: number
}

/** With chunks of 1 MiB, at most 35 MB/s and a few percent of one processor. */
const PAUSE_MS = 30
/** Chunks between two writes of the position. */
const KEPT_EVERY = 512
const POSITION = 'verified-up-to'

/** What was verified of the current pass over all files. */
export interface VerifiedShare {
  readonly doneBytes: number
  readonly totalBytes: number
}

interface Position {
  readonly key: string
  /** Chunks below this index are verified. */
  readonly chunk: number
}

export class FileVerifier {
  readonly #init: FileVerifierInit
  #running: Promise<void> | undefined
  #position: Position | undefined

  constructor(init: FileVerifierInit) {
    this.#init = init
  }

  /** Verify all files once, from the kept position on. A call while this runs has no effect. Never rejects. */
  run(): Promise<void> {
    this.#running ??= this.#pass()
      .catch((error: unknown) => {
        if (!this.#init.signal.aborted) this.#init.onFailure(error)
      })
      .finally(() => {
        this.#running = undefined
      })
    return this.#running
  }

  /** Resolves when no pass runs; a pass ends soon after the signal. */
  async stopped(): Promise<void> {
    await this.#running
  }

  /** How far the pass is that runs now; undefined if none runs. */
  share(): VerifiedShare | undefined {
    if (this.#running === undefined) return undefined
    const files = this.#sorted()
    const at = this.#position
    const doneBytes = files.reduce((sum, { key, ref }) => {
      if (at === undefined || key > at.key) return sum
      return sum + (key < at.key ? ref.size : Math.min(at.chunk * ref.chunkSize, ref.size))
    }, 0)
    return { doneBytes, totalBytes: files.reduce((sum, { ref }) => sum + ref.size, 0) }
  }

  #sorted(): StoredFile[] {
    return [...this.#init.files()].sort((a, b) => (a.key < b.key ? -1 : 1))
  }

  async #pass(): Promise<void> {
    const { signal } = this.#init
    this.#position = await this.#load()
    for (;;) {
      signal.throwIfAborted()
      // Asked again for each file: packages come and go meanwhile.
      const at = this.#position
      const next = this.#sorted().find(({ key }) => at === undefined || key >= at.key)
      if (next === undefined) break
      const from = at?.key === next.key ? at.chunk : 0
      await this.#verify(next, from)
      // A key that sorts right after this one.
      await this.#keep({ key: `${next.key} `, chunk: 0 })
    }
    this.#position = undefined
    await this.#init.catalogue.delete('settings', POSITION)
  }

  async #verify(file: StoredFile, from: number): Promise<void> {
    const { chunkHashes, onDamage, signal, pauseMs = PAUSE_MS } = this.#init
    const { ref, path } = file
    let reader: BlobReader | undefined
    try {
      const hashes = await chunkHashes(ref, signal)
      checkChunkHashes(ref, hashes)
      reader = await BlobReader.open(path)
      if (reader.size !== ref.size) {
        await onDamage(file, `it has ${reader.size} bytes instead of ${ref.size}`)
        return
      }
      for (let index = from; index < chunkCount(ref); index++) {
        const bytes = await reader.read(index * ref.chunkSize, chunkLength(ref, index), signal)
        if (!equalBytes(sha256(bytes), chunkHash(hashes, index))) {
          await onDamage(file, `chunk ${index} has changed`)
          return
        }
        this.#position = { key: file.key, chunk: index + 1 }
        if ((index + 1) % KEPT_EVERY === 0) await this.#keep(this.#position)
        await setTimeout(pauseMs, undefined, { signal, ref: false })
      }
    } catch (error) {
      if (signal.aborted || !isDamage(error)) throw error
      // A file that was deleted meanwhile is not damaged.
      if (this.#init.files().some(({ key }) => key === file.key)) await onDamage(file, error.message)
    } finally {
      await reader?.close()
    }
  }

  async #load(): Promise<Position | undefined> {
    const stored = await this.#init.catalogue.get('settings', POSITION)
    return stored === undefined ? undefined : (JSON.parse(fromUtf8(stored)) as Position)
  }

  async #keep(position: Position): Promise<void> {
    this.#position = position
    await this.#init.catalogue.put('settings', POSITION, utf8(JSON.stringify(position)))
  }
}

/** The file is missing, cannot be read or is not what its reference says. */
function isDamage(error: unknown): error is FlexMeshError {
  return (
    error instanceof FlexMeshError && error.code !== 'disk-full' && !hasErrno(error.cause, 'EMFILE', 'ENFILE')
  )
}
