/** Token ids on disk, little-endian 16 or 32 bits each, read by window. Knows no text. */
import { type FileHandle, open, stat } from 'node:fs/promises'
import { mapDiskErrors } from '../lib/files.ts'

const WIDE_VOCABULARY = 65_536

export function tokenBytes(vocabSize: number): 2 | 4 {
  return vocabSize <= WIDE_VOCABULARY ? 2 : 4
}

/** The bytes of ids as a token file holds them. */
export function packTokens(ids: Int32Array, width: 2 | 4): Uint8Array {
  const packed = width === 2 ? Uint16Array.from(ids) : ids
  return new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength)
}

export class TokenFile {
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

  /** Ids from `start`; fewer than `count` at the end of the file. */
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

/**
 * Deterministic random windows of `length` ids: a pure function of seed and index, so that training
 * resumes exactly. A file shorter than a window is repeated.
 */
export function windowSampler(
  file: Pick<TokenFile, 'tokens' | 'read'>,
  length: number,
  seed: number,
): (index: number) => Promise<Int32Array> {
  return async (index) => {
    const room = Math.max(1, file.tokens - length + 1)
    const start = Math.floor(hash(seed, index) * room)
    const window = await file.read(start, length)
    if (window.length === length) return window
    return Int32Array.from({ length }, (_, i) => window[i % Math.max(1, window.length)] ?? 0)
  }
}

/**
 * At most `most` stretches of at most `length` ids, spread evenly over a file in which `boundary` starts every
 * document. No id is in two of them and each lies in one document: where `length` ids hold several, the
 * longest stretch is taken.
 */
export async function disjointStretches(
  file: TokenFile,
  boundary: number,
  length: number,
  most: number,
): Promise<Int32Array[]> {
  const blocks = Math.max(1, Math.floor(file.tokens / length))
  const count = Math.min(most, blocks)
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
