/**
 * Turns an owner's text into a corpus: reads it once as a stream, leaves duplicates out, splits documents into training
 * and held-out text by their hash, and turns them into tokens. Everything that it writes stays in one folder. Knows
 * nothing about models.
 */
import { join } from 'node:path'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir } from '../lib/files.ts'
import {
  type Corpus,
  type CorpusStats,
  HELD_OUT_FILE,
  openCorpus,
  type SideStats,
  saveCorpusIndex,
  TRAIN_FILE,
} from './corpus.ts'
import { CorpusSplit, type SplitTarget } from './corpus-split.ts'
import { readingBytes } from './find-files.ts'
import { IndependentSplit } from './independent-split.ts'
import { type PrepareProgress, Progress } from './prepare-progress.ts'
import { readDocuments } from './readers.ts'
import { ReadingLog } from './reading-report.ts'
import { TokenFileWriter, tokenBytes } from './token-file.ts'
import type { Tokenizer } from './tokenizer.ts'
import { type Origin, UnitIndexWriter } from './unit-index.ts'

export interface PrepareInit {
  readonly paths: readonly string[]
  readonly tokenizer: Tokenizer
  readonly outDir: string
  /** Column of tables that holds the text; default `text`. */
  readonly column?: string | undefined
  /** Share of documents that are held out, 0 to 1. */
  readonly heldOutShare?: number
  /** Minimum number of training tokens. */
  readonly minTrainTokens?: number
  /** Maximum number of bytes of training text that are turned into tokens: a sample of the documents; default all. */
  readonly maxTrainBytes?: number | undefined
  /**
   * Treat every document independently of the others and index the units of the training text, for differentially
   * private training. Ignores `maxTrainBytes`, because a sample would depend on all documents.
   */
  readonly independent?: boolean | undefined
  /**
   * Called when all text is written: token sequences that become documents of the training text, at its end. The
   * statistics of the corpus do not count them. Each is a unit of its own.
   */
  readonly append?: ((train: SideStats) => Promise<readonly Int32Array[]>) | undefined
  readonly signal?: AbortSignal
  readonly onProgress?: ((progress: PrepareProgress) => void) | undefined
}

/** What dividing a text needs to know; the rest concerns its files. */
export type SplitInit = Omit<PrepareInit, 'outDir' | 'append'>

/**
 * Write text as token files, training and held-out text apart, as `CorpusSplit` divides it.
 * @throws InputError `empty`, `too-small`, `not-text`, `not-found`, `usage`, `permissions`, `disk-full`.
 */
export async function prepareCorpus(init: PrepareInit): Promise<Corpus> {
  const { outDir, tokenizer, paths, column } = init
  await ensurePrivateDir(outDir)
  const width = tokenBytes(tokenizer.vocabSize)
  const files: TokenFileWriter[] = []
  const create = async (name: string, units?: UnitIndexWriter): Promise<Side> => {
    const file = await TokenFileWriter.create(join(outDir, name), width)
    files.push(file)
    return new Side(file, tokenizer, units)
  }
  const index: [tokens: number, bytes: number][] = []
  try {
    const units = init.independent === true ? await UnitIndexWriter.create(outDir) : undefined
    if (units !== undefined) files.push(units.file)
    const train = await create(TRAIN_FILE, units)
    const heldOut = await create(HELD_OUT_FILE)
    const log = new ReadingLog()
    const target: SplitTarget = {
      train: async (text, origin) => void (await train.write(text, origin)),
      heldOut: async (text) => void index.push(await heldOut.write(text)),
    }
    const split =
      units === undefined ? new CorpusSplit(init, log, target) : new IndependentSplit(init, target)
    await readInto(split, init, log)
    const counts = await split.finish(() => train.stats())
    const stats = { train: train.stats(), heldOut: heldOut.stats(), ...counts, reading: log.report() }
    for (const ids of (await init.append?.(stats.train)) ?? []) await train.append(ids)
    for (const file of files) await file.finish()
    await saveCorpusIndex(outDir, { tokenizer, paths, column, width, stats, heldOut: index })
  } catch (error) {
    await Promise.all(files.map((file) => file.discard()))
    throw error
  }
  return openCorpus(outDir, tokenizer)
}

async function readInto(
  split: CorpusSplit | IndependentSplit,
  init: SplitInit,
  log: ReadingLog,
): Promise<void> {
  const { paths, column, signal, onProgress } = init
  const progress = new Progress(
    'reading',
    onProgress === undefined ? 0 : await readingBytes(paths, signal),
    onProgress,
  )
  const onBytes = (bytes: number): void => progress.add(bytes)
  const onEncoding = split.noteEncoding.bind(split)
  const options = { log, column, onBytes, onEncoding, ...(signal === undefined ? {} : { signal }) }
  for await (const document of readDocuments(paths, options)) {
    progress.documents++
    await split.add(document)
  }
  if (column !== undefined && log.report().columns.length === 0) {
    throw new InputError(
      'usage',
      `--column ${column}: expected a table (.csv, .jsonl or .parquet) in ${paths.join(', ')}, found none; leave out --column`,
    )
  }
}

/** What `prepareCorpus` would find in a text. Writes nothing. @throws as `prepareCorpus`. */
export async function previewCorpus(init: SplitInit): Promise<CorpusStats> {
  const log = new ReadingLog()
  const train = new Side(undefined, init.tokenizer, undefined)
  const heldOut = new Side(undefined, init.tokenizer, undefined)
  const target: SplitTarget = {
    train: async (text, origin) => void (await train.write(text, origin)),
    heldOut: async (text) => void (await heldOut.write(text)),
  }
  const split =
    init.independent === true ? new IndependentSplit(init, target) : new CorpusSplit(init, log, target)
  await readInto(split, init, log)
  const counts = await split.finish(() => train.stats())
  return { train: train.stats(), heldOut: heldOut.stats(), ...counts, reading: log.report() }
}

/** The training text or the held-out text while it is written. */
class Side {
  readonly #file: TokenFileWriter | undefined
  readonly #tokenizer: Tokenizer
  readonly #sums = { documents: 0, tokens: 0, bytes: 0 }

  readonly #units: UnitIndexWriter | undefined

  /**
   * @param file receives the tokens; undefined if they are only counted
   * @param units index of the units of this side; undefined if nobody needs it.
   */
  constructor(file: TokenFileWriter | undefined, tokenizer: Tokenizer, units: UnitIndexWriter | undefined) {
    this.#file = file
    this.#tokenizer = tokenizer
    this.#units = units
  }

  /**
   * Append a document: the token that separates documents, then its own tokens.
   * @returns number of its own tokens and of its bytes.
   */
  async write(text: string, origin?: Origin): Promise<[tokens: number, bytes: number]> {
    const ids = this.#tokenizer.encode(text)
    await this.append(ids, origin)
    const bytes = Buffer.byteLength(text)
    this.#sums.documents++
    this.#sums.tokens += ids.length
    this.#sums.bytes += bytes
    return [ids.length, bytes]
  }

  /** Append a document that the statistics do not count. */
  async append(ids: Int32Array, origin?: Origin): Promise<void> {
    const framed = new Int32Array(ids.length + 1)
    framed[0] = this.#tokenizer.endOfText
    framed.set(ids, 1)
    await this.#file?.append(framed)
    await this.#units?.add(framed.length, origin)
  }

  stats(): SideStats {
    return { ...this.#sums }
  }
}
