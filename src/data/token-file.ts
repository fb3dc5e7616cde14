/** Token ids on disk, 16 or 32 bits each, little-endian, read window by window. Knows nothing about text. */
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises'
import { mapDiskErrors, PRIVATE_FILE_MODE } from '../lib/files.ts'

/** Largest vocabulary whose ids fit 16 bits. */
const NARROW_VOCABULARY = 65_536

/** Bytes per id. */
export function tokenBytes(vocabSize: number): 2 | 4 {
  return vocabSize <= NARROW_VOCABULARY ? 2 : 4
}

/** Encodes ids as the bytes of a token file. */
export function packTokens(ids: Int32Array, width: 2 | 4): Uint8Array {
  const packed = width === 2 ? Uint16Array.from(ids) : ids
  return new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength)
}

export class TokenFile {
  /** Number of ids. */
  readonly tokens: number
  readonly #handle: FileHandle
  readonly #width: 2 | 4

  private constructor(handle: FileHandle, width: 2 | 4, tokens: number) {
    this.#handle = handle
    this.#width = width
    this.tokens = tokens
  }

  static async open(path: string, width: 2 | 4): Promise<TokenFile> {
    return mapDiskErrors(path, async () => {
      const { size } = await stat(path)
      return new TokenFile(await open(path, 'r'), width, size / width)
    })
  }

  /** `count` ids from `start` on; fewer at the end of the file. */
  async read(start: number, count: number): Promise<Int32Array> {
    const wanted = Math.max(0, Math.min(count, this.tokens - start))
    const bytes = new Uint8Array(wanted * this.#width)
    await this.#handle.read(bytes, 0, bytes.length, start * this.#width)
    return this.#width === 2 ? Int32Array.from(new Uint16Array(bytes.buffer)) : new Int32Array(bytes.buffer)
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** A token file while it is written; it has a temporary name until `finish`. */
export class TokenFileWriter {
  readonly #path: string
  readonly #handle: FileHandle
  readonly #width: 2 | 4

  private constructor(path: string, handle: FileHandle, width: 2 | 4) {
    this.#path = path
    this.#handle = handle
    this.#width = width
  }

  /** @throws InputError of `mapDiskErrors`. */
  static async create(path: string, width: 2 | 4): Promise<TokenFileWriter> {
    const handle = await mapDiskErrors(path, () => open(temporaryPath(path), 'w', PRIVATE_FILE_MODE))
    return new TokenFileWriter(path, handle, width)
  }

  /** @throws InputError `disk-full`. */
  async append(ids: Int32Array): Promise<void> {
    await mapDiskErrors(this.#path, () => this.#handle.writeFile(packTokens(ids, this.#width)))
  }

  /** Flush the file and give it its name. `discard` it if this throws. */
  async finish(): Promise<void> {
    await mapDiskErrors(this.#path, async () => {
      await this.#handle.sync()
      await this.#handle.close()
      await rename(temporaryPath(this.#path), this.#path)
    })
  }

  /** Close the file, and remove it unless `finish` has given it its name. */
  async discard(): Promise<void> {
    await this.#handle.close()
    await rm(temporaryPath(this.#path), { force: true })
  }
}

function temporaryPath(path: string): string {
  return `${path}.tmp`
}

/**
 * Deterministic random windows of `length` ids: a pure function of seed and index, so that training resumes exactly.
 * A file that is shorter than a window is repeated.
 */
export function windowSampler(
  file: Pick<TokenFile, 'tokens' | 'read'>,
  length: number,
  seed: number,
): (index: number) => Promise<Int32Array> {
  return async (index) => {
    const starts = Math.max(1, file.tokens - length + 1)
    const start = Math.floor(hash(seed, index) * starts)
    const window = await file.read(start, length)
    if (window.length === length) return window
    return Int32Array.from({ length }, (_, i) => window[i % Math.max(1, window.length)] ?? 0)
  }
}

/**
 * At most `max` stretches of at most `length` ids, spread evenly over a file in which `boundary` starts every
 * document. The stretches are disjoint and each lies within one document: the longest one of its block of `length`
 * ids.
 */
export async function disjointStretches(
  file: Pick<TokenFile, 'tokens' | 'read'>,
  boundary: number,
  length: number,
  max: number,
): Promise<Int32Array[]> {
  const blocks = Math.max(1, Math.floor(file.tokens / length))
  const count = Math.min(max, blocks)
  return Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const block = Math.floor((i * blocks) / count)
      return longestStretch(await file.read(block * length, length), boundary)
    }),
  )
}

function longestStretch(ids: Int32Array, boundary: number): Int32Array {
  let longest = ids.subarray(0, 0)
  for (let start = 0; start < ids.length; ) {
    const next = ids.indexOf(boundary, start + 1)
    const end = next < 0 ? ids.length : next
    if (end - start > longest.length) longest = ids.subarray(start, end)
    start = end
  }
  return longest
}

/** A number in [0, 1) from two integers (splitmix-style finaliser). */
function hash(seed: number, index: number): number {
  let x = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(index + 1, 0xc2b2ae35)) >>> 0
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0
  return ((x ^ (x >>> 16)) >>> 0) / 4294967296
}
