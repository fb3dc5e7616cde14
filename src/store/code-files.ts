/**
 * Files of coded weights beside the files that they were computed from, so that a node that starts again reads them
 * instead of coding again. They are a cache: a file that is missing, incomplete or damaged is written again. Knows no
 * model and no coding.
 *
 * A file is named `<owner>.<coding>.codes`: the SHA-256 of the file that was coded, in hexadecimal, and a word for the
 * coding with its version, such as `int8-1`. Its content:
 *
 * - bytes 0 to 7: `FMCODES1`; bytes 8 to 11: length of the table, unsigned, little-endian.
 * - table: one line of text for each section, `<name> <bytes> <CRC-32 as 8 hexadecimal digits>`, ending in a line feed.
 * - zeros up to a multiple of 4096, then the sections, one after the other without gaps.
 *
 * The table is written last and the file renamed last, without a flush: after a power failure the checksums find
 * sections that were not written.
 */
import { randomBytes } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { type Digest, parseDigest, toHex } from '../lib/bytes.ts'
import { hasErrno } from '../lib/errors.ts'
import { mapDiskErrors, PIECE_BYTES, PRIVATE_FILE_MODE } from '../lib/files.ts'

/** The coded bytes of one tensor. */
export interface CodeSection {
  /** Without spaces and line feeds. */
  readonly name: string
  readonly bytes: number
}

const MAGIC = 'FMCODES1'
const TABLE_START = 12
const DATA_ALIGNMENT = 4096
const NO_CHECKSUM = '00000000'
const NAME = /^([a-f0-9]{64})\.[a-z0-9-]+\.codes$/

/** The owner's SHA-256 in hexadecimal, if `name` is that of a file of codes; else undefined. */
export function codesOwner(name: string): string | undefined {
  return NAME.exec(name)?.[1]
}

/** The files of codes in one folder. */
export class CodeFiles {
  readonly #dir: string

  constructor(dir: string) {
    this.#dir = dir
  }

  /**
   * Opens the codes of an owner.
   * @param sections what the caller expects, in order
   * @returns undefined if there is no file with exactly these sections.
   * @throws InputError `permissions`, `io`.
   */
  async open(
    owner: Digest,
    coding: string,
    sections: readonly CodeSection[],
  ): Promise<CodeReader | undefined> {
    const path = this.#path(owner, coding)
    return mapDiskErrors(path, async () => {
      let file: FileHandle
      try {
        file = await open(path, 'r')
      } catch (error) {
        if (hasErrno(error, 'ENOENT')) return undefined
        throw error
      }
      try {
        const checksums = await readTable(file, sections)
        if (checksums !== undefined) return new CodeReader(path, file, sections, checksums)
      } catch (error) {
        await file.close()
        throw error
      }
      await file.close()
      return undefined
    })
  }

  /**
   * Begins to write the codes of an owner; `finish` of the result publishes them in place of any earlier file.
   * @throws InputError `disk-full`, `permissions`.
   */
  async create(owner: Digest, coding: string, sections: readonly CodeSection[]): Promise<CodeWriter> {
    const temporary = join(this.#dir, `.${toHex(randomBytes(8))}.tmp`)
    const path = this.#path(owner, coding)
    const file = await mapDiskErrors(path, () => open(temporary, 'wx', PRIVATE_FILE_MODE))
    return new CodeWriter(path, temporary, file, sections)
  }

  /** Removes the codes of an owner in one coding. @throws InputError `permissions`. */
  async discard(owner: Digest, coding: string): Promise<void> {
    const path = this.#path(owner, coding)
    await mapDiskErrors(path, () => rm(path, { force: true }))
  }

  #path(owner: Digest, coding: string): string {
    return join(this.#dir, `${hexOf(owner)}.${coding}.codes`)
  }
}

/** Reads the sections of one file, in any order. */
export class CodeReader {
  readonly #path: string
  readonly #file: FileHandle
  readonly #sections: readonly CodeSection[]
  readonly #checksums: readonly string[]
  readonly #offsets: readonly number[]

  constructor(
    path: string,
    file: FileHandle,
    sections: readonly CodeSection[],
    checksums: readonly string[],
  ) {
    this.#path = path
    this.#file = file
    this.#sections = sections
    this.#checksums = checksums
    this.#offsets = offsetsOf(sections)
  }

  /**
   * Reads a section into memory of its size. While one piece is read, the checksum of the one before is computed.
   * @returns whether its checksum is right; if not, `into` holds other bytes.
   * @throws InputError `io`; the signal's reason.
   */
  async read(section: number, into: Uint8Array, signal?: AbortSignal): Promise<boolean> {
    const { bytes } = this.#sections[section] as CodeSection
    if (into.length !== bytes) throw new RangeError(`expected memory of ${bytes} bytes, got ${into.length}`)
    const from = this.#offsets[section] as number
    return mapDiskErrors(this.#path, async () => {
      let checksum = 0
      const piece = (at: number): Promise<Uint8Array | undefined> =>
        readExactly(this.#file, into.subarray(at, at + PIECE_BYTES), from + at)
      let next = piece(0)
      for (let at = 0; at < bytes; at += PIECE_BYTES) {
        const read = await next
        if (read === undefined) return false
        // A read that fails is reported by the `await` of the next round.
        next = at + PIECE_BYTES < bytes ? piece(at + PIECE_BYTES) : Promise.resolve(undefined)
        next.catch(() => undefined)
        if (signal?.aborted === true) await next.catch(() => undefined)
        signal?.throwIfAborted()
        checksum = crc32(read, checksum)
      }
      return hexChecksum(checksum) === this.#checksums[section]
    })
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** Writes the sections of one file, in order. */
export class CodeWriter {
  readonly #path: string
  readonly #temporary: string
  readonly #file: FileHandle
  readonly #sections: readonly CodeSection[]
  readonly #checksums: string[] = []
  #at: number

  constructor(path: string, temporary: string, file: FileHandle, sections: readonly CodeSection[]) {
    this.#path = path
    this.#temporary = temporary
    this.#file = file
    this.#sections = sections
    this.#at = offsetsOf(sections)[0] ?? 0
  }

  /**
   * Appends the next section, whose bytes must not change meanwhile.
   * @throws InputError `disk-full`, `io`; the caller then calls `abandon`.
   */
  async append(bytes: Uint8Array): Promise<void> {
    const section = this.#sections[this.#checksums.length]
    if (section?.bytes !== bytes.length) {
      throw new RangeError(`expected ${section?.bytes ?? 'no'} more bytes, got ${bytes.length}`)
    }
    await mapDiskErrors(this.#path, async () => {
      let checksum = 0
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
        const piece = bytes.subarray(at, at + PIECE_BYTES)
        const writing = writeExactly(this.#file, piece, this.#at + at)
        checksum = crc32(piece, checksum)
        await writing
      }
      this.#at += bytes.length
      this.#checksums.push(hexChecksum(checksum))
    })
  }

  /** Publishes the file. @throws InputError `disk-full`, `io`; the caller then calls `abandon`. */
  async finish(): Promise<void> {
    if (this.#checksums.length !== this.#sections.length) {
      throw new RangeError(`expected ${this.#sections.length} sections, got ${this.#checksums.length}`)
    }
    await mapDiskErrors(this.#path, async () => {
      await writeExactly(this.#file, tableOf(this.#sections, this.#checksums), 0)
      await this.#file.close()
      await rename(this.#temporary, this.#path)
    })
  }

  /** Removes what was written. Does nothing after `finish`. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => undefined)
    await mapDiskErrors(this.#path, () => rm(this.#temporary, { force: true }))
  }
}

function hexOf(owner: Digest): string {
  return parseDigest(owner).slice('sha256:'.length)
}

function hexChecksum(checksum: number): string {
  return checksum.toString(16).padStart(NO_CHECKSUM.length, '0')
}

/** The bytes before the first section's data, without padding. */
function tableOf(sections: readonly CodeSection[], checksums: readonly string[]): Buffer {
  const lines = sections.map(({ name, bytes }, i) => `${name} ${bytes} ${checksums[i] ?? NO_CHECKSUM}\n`)
  const table = Buffer.from(lines.join(''))
  const start = Buffer.alloc(TABLE_START)
  start.write(MAGIC, 'latin1')
  start.writeUInt32LE(table.length, MAGIC.length)
  return Buffer.concat([start, table])
}

/** Position of each section in the file. */
function offsetsOf(sections: readonly CodeSection[]): number[] {
  let at = Math.ceil(tableOf(sections, []).length / DATA_ALIGNMENT) * DATA_ALIGNMENT
  return sections.map(({ bytes }) => {
    const offset = at
    at += bytes
    return offset
  })
}

/** The checksums of a file that has exactly these sections; undefined for any other file. */
async function readTable(
  file: FileHandle,
  sections: readonly CodeSection[],
): Promise<readonly string[] | undefined> {
  const expected = tableOf(sections, [])
  const found = await readExactly(file, Buffer.alloc(expected.length), 0)
  if (found === undefined) return undefined
  const text = Buffer.from(found.buffer, found.byteOffset, found.length).toString('latin1')
  const checksums = text
    .slice(TABLE_START, -1)
    .split('\n')
    .map((line) => line.slice(-NO_CHECKSUM.length))
  return tableOf(sections, checksums).equals(found) ? checksums : undefined
}

/** Fills `into`; undefined if the file ends before that. */
async function readExactly(
  file: FileHandle,
  into: Uint8Array,
  from: number,
): Promise<Uint8Array | undefined> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, from + done)
    if (bytesRead === 0) return undefined
    done += bytesRead
  }
  return into
}

async function writeExactly(file: FileHandle, bytes: Uint8Array, to: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, to + done)
    done += bytesWritten
  }
}
