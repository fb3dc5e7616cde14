/**
 * Which tokens of a training text belong to which unit of protection: one entry for each piece of text, in the order of
 * the token file. Knows nothing about texts and gradients.
 */
import { join } from 'node:path'
import { FormatError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { TokenFile, TokenFileWriter } from './token-file.ts'

/** Where a piece of text comes from. */
export interface Origin {
  /** Number of the document, from 0; all pieces of a document have the same one. */
  readonly document: number
  /** Number of the source, from 0. */
  readonly source: number
}

/** A part of the token file: `tokens` ids from `start` on. */
export interface Stretch {
  readonly start: number
  readonly tokens: number
}

/** Everything of one document or one source. */
export type Unit = readonly Stretch[]

const FILE = 'train.units'
/** An entry is three numbers of 32 bits: tokens of the piece, with the token before it; document; source. */
const NUMBERS = 3
const WIDTH = 4

/** Writes the index of a text. */
export class UnitIndexWriter {
  readonly file: TokenFileWriter
  /** Pieces of unknown origin get numbers below 0, each its own. */
  #unknown = -1

  private constructor(file: TokenFileWriter) {
    this.file = file
  }

  static async create(dir: string): Promise<UnitIndexWriter> {
    return new UnitIndexWriter(await TokenFileWriter.create(join(dir, FILE), WIDTH))
  }

  /**
   * Add the next piece of the token file.
   * @param origin a piece without one is a unit of its own.
   */
  async add(tokens: number, origin: Origin | undefined): Promise<void> {
    const { document, source } = origin ?? { document: this.#unknown, source: this.#unknown }
    if (origin === undefined) this.#unknown--
    await this.file.append(Int32Array.of(tokens, document, source))
  }
}

/**
 * The units of a text by document or by source, in the order of their first pieces; undefined if the text was prepared
 * without an index.
 * @param dir folder of the corpus
 * @param total number of tokens of its token file
 * @throws FormatError `bad-field` if the index does not cover exactly that many tokens.
 */
export async function readUnits(
  dir: string,
  by: keyof Origin,
  total: number,
): Promise<readonly Unit[] | undefined> {
  const path = join(dir, FILE)
  if (!(await pathExists(path))) return undefined
  const file = await TokenFile.open(path, WIDTH)
  try {
    const numbers = await file.read(0, file.tokens)
    const units = new Map<number, Stretch[]>()
    let start = 0
    for (let at = 0; at + NUMBERS <= numbers.length; at += NUMBERS) {
      const tokens = numbers[at] as number
      const key = numbers[at + (by === 'document' ? 1 : 2)] as number
      const stretches = units.get(key) ?? []
      const last = stretches.at(-1)
      if (last !== undefined && last.start + last.tokens === start) {
        stretches[stretches.length - 1] = { start: last.start, tokens: last.tokens + tokens }
      } else stretches.push({ start, tokens })
      units.set(key, stretches)
      start += tokens
    }
    if (start !== total || numbers.length % NUMBERS !== 0) {
      throw new FormatError('bad-field', `${path}: expected entries of ${total} tokens, got ${start}`)
    }
    return [...units.values()]
  } finally {
    await file.close()
  }
}

/** `count` ids of a unit from `start` on, as if its stretches were one; fewer at its end. */
export async function readUnit(
  file: Pick<TokenFile, 'read'>,
  unit: Unit,
  start: number,
  count: number,
): Promise<Int32Array> {
  const parts: Int32Array[] = []
  let skip = start
  let wanted = count
  for (const stretch of unit) {
    if (wanted === 0) break
    if (skip >= stretch.tokens) {
      skip -= stretch.tokens
      continue
    }
    const part = await file.read(stretch.start + skip, Math.min(wanted, stretch.tokens - skip))
    parts.push(part)
    wanted -= part.length
    skip = 0
  }
  if (parts.length === 1) return parts[0] as Int32Array
  const ids = new Int32Array(count - wanted)
  let at = 0
  for (const part of parts) {
    ids.set(part, at)
    at += part.length
  }
  return ids
}

/** Number of tokens of a unit. */
export function unitTokens(unit: Unit): number {
  return unit.reduce((sum, { tokens }) => sum + tokens, 0)
}
