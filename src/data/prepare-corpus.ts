/**
 * Turns an owner's text into a corpus: reads it once as a stream, leaves duplicates out, and splits documents into
 * training and held-out text by their hash. Everything that it writes stays in one folder. Knows no model.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import {
  type Converted,
  type Corpus,
  HELD_OUT_FILE,
  openCorpus,
  type SideStats,
  saveCorpusIndex,
  TRAIN_FILE,
} from './corpus.ts'
import type { Encoding } from './encodings.ts'
import { HeldOutSample } from './held-out-sample.ts'
import { cutText } from './pieces.ts'
import { readDocuments } from './readers.ts'
import { SeenShingles } from './shingles.ts'
import { TokenFileWriter, tokenBytes } from './token-file.ts'
import type { Tokenizer } from './tokenizer.ts'

export interface PrepareInit {
  readonly paths: readonly string[]
  readonly tokenizer: Tokenizer
  readonly outDir: string
  /** Share of documents that are held out, 0 to 1. */
  readonly heldOutShare?: number
  /** Minimum number of training tokens. */
  readonly minTrainTokens?: number
  readonly signal?: AbortSignal
}

const DEFAULT_HELD_OUT_SHARE = 0.05
/** A held-out document is left out if a larger share of its runs of words is in the training text. */
const MAX_OVERLAP = 0.5
/** A lone document of at least this length is cut, so that a part can be held out. */
const MIN_SPLIT_CHARACTERS = 400

/**
 * Write text as token files, training and held-out text apart. A document is held out if its hash falls below a
 * threshold, so every machine and every file order picks the same ones. If they exceed `heldOutBytes`, those with the
 * smallest hashes are kept. Held-out documents are written in order of their hash, so the first bytes are a sample of
 * all sources.
 *
 * Two kinds of documents are left out: those that equal an earlier one except for case and white space, and held-out
 * documents that repeat the training text, which means that more than half of their runs of eight words occur in it
 * (`SeenShingles`: 64 MiB, one pass, the first 67 million different runs). If that would leave out every held-out
 * document, all are kept and `heldOutRepeats` is true.
 *
 * @throws InputError `empty`, `too-small`, `not-text`, `not-found`, `usage`, `disk-full`.
 */
export async function prepareCorpus(init: PrepareInit): Promise<Corpus> {
  const { outDir, tokenizer, paths } = init
  await ensurePrivateDir(outDir)
  const width = tokenBytes(tokenizer.vocabSize)
  const files: TokenFileWriter[] = []
  const create = async (name: string): Promise<Side> => {
    const file = await TokenFileWriter.create(join(outDir, name), width)
    files.push(file)
    return new Side(file, tokenizer)
  }
  try {
    const train = await create(TRAIN_FILE)
    const heldOut = await create(HELD_OUT_FILE)
    const counts = await split(init, train, heldOut)
    for (const file of files) await file.finish()
    const stats = { train: train.stats(), heldOut: heldOut.stats(), ...counts }
    await saveCorpusIndex(outDir, { tokenizer, paths, width, stats, heldOut: heldOut.index })
  } catch (error) {
    await Promise.all(files.map((file) => file.discard()))
    throw error
  }
  return openCorpus(outDir, tokenizer)
}

/** The training text or the held-out text while it is written. */
class Side {
  readonly index: [tokens: number, bytes: number][] = []
  readonly #file: TokenFileWriter
  readonly #tokenizer: Tokenizer
  readonly #sums = { documents: 0, tokens: 0, bytes: 0 }

  constructor(file: TokenFileWriter, tokenizer: Tokenizer) {
    this.#file = file
    this.#tokenizer = tokenizer
  }

  /** Append a document: the token that separates documents, then its own tokens. */
  async write(text: string): Promise<void> {
    const ids = this.#tokenizer.encode(text)
    const framed = new Int32Array(ids.length + 1)
    framed[0] = this.#tokenizer.endOfText
    framed.set(ids, 1)
    await this.#file.append(framed)
    const bytes = Buffer.byteLength(text)
    this.#sums.documents++
    this.#sums.tokens += ids.length
    this.#sums.bytes += bytes
    this.index.push([ids.length, bytes])
  }

  stats(): SideStats {
    return { ...this.#sums }
  }
}

interface SplitCounts {
  readonly duplicates: number
  readonly repeated: number
  readonly heldOutRepeats: boolean
  readonly converted: readonly Converted[]
}

async function split(init: PrepareInit, train: Side, heldOut: Side): Promise<SplitCounts> {
  const share = init.heldOutShare ?? DEFAULT_HELD_OUT_SHARE
  const seen = new Set<string>()
  const shingles = new SeenShingles()
  const converted = new Map<Encoding, Converted>()
  const candidates = new HeldOutSample(limit('heldOutBytes'))
  let duplicates = 0
  const learn = async (text: string): Promise<void> => {
    shingles.add(text)
    await train.write(text)
  }
  const onEncoding = (path: string, encoding: Encoding): void => {
    const { files, example } = converted.get(encoding) ?? { files: 0, example: path }
    converted.set(encoding, { encoding, files: files + 1, example })
  }
  const options = { onEncoding, ...(init.signal === undefined ? {} : { signal: init.signal }) }
  let waiting: string | undefined
  for await (const { text } of readDocuments(init.paths, options)) {
    const key = digestOf(text.toLowerCase().replace(/\s+/g, ' ').trim()).toString('base64', 0, 16)
    if (seen.has(key)) {
      duplicates++
      continue
    }
    seen.add(key)
    const hash = digestOf(text)
    if (hash.readUInt32BE(16) < share * 2 ** 32) {
      for (const evicted of candidates.add(hash, text)) await learn(evicted)
    } else {
      // The latest training document is written late: it is held out if the hashes hold out no other.
      if (waiting !== undefined) await learn(waiting)
      waiting = text
    }
  }
  if (waiting !== undefined) {
    if (candidates.size > 0) await learn(waiting)
    else if (train.stats().documents > 0) candidates.add(digestOf(waiting), waiting)
    else {
      const lone = splitLone(waiting)
      for (const text of lone.train) await learn(text)
      for (const text of lone.heldOut) candidates.add(digestOf(text), text)
    }
  }
  refuseTooSmall(train.stats(), duplicates, init)
  const held = candidates.inOrder()
  const fresh = held.filter((text) => shingles.overlap(text) <= MAX_OVERLAP)
  const heldOutRepeats = fresh.length === 0
  const kept = heldOutRepeats ? held : fresh
  for (const text of kept) await heldOut.write(text)
  return {
    duplicates,
    repeated: held.length - kept.length,
    heldOutRepeats,
    converted: [...converted.values()],
  }
}

/** @throws InputError `empty` without any training text, `too-small` for fewer tokens than asked for. */
function refuseTooSmall(
  train: SideStats,
  duplicates: number,
  { paths, minTrainTokens = 0 }: PrepareInit,
): void {
  const from = paths.join(', ')
  if (train.documents === 0) {
    throw new InputError(
      'empty',
      `too little text in ${from}: one short document cannot be split into train and held-out; add documents`,
    )
  }
  if (train.tokens < minTrainTokens) {
    const after = duplicates > 0 ? ` after ${duplicates} duplicate documents were left out` : ''
    throw new InputError(
      'too-small',
      `too little text in ${from}: ${train.tokens} tokens (${train.bytes} bytes) to train on${after}, at least ${minTrainTokens} tokens are needed; add documents`,
    )
  }
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/**
 * Split a lone document: two of ten pieces are held out, those with the smallest hashes, from anywhere in the text. A
 * text too short for that is held out whole.
 */
function splitLone(text: string): { train: string[]; heldOut: string[] } {
  if (text.length < MIN_SPLIT_CHARACTERS) return { train: [], heldOut: [text] }
  const pieces = [...cutText(text, Math.ceil(text.length / 10))]
  const order = pieces
    .map((piece) => digestOf(piece).toString('hex'))
    .sort()
    .slice(0, Math.max(1, Math.floor(pieces.length / 5)))
  const isHeldOut = (piece: string): boolean => order.includes(digestOf(piece).toString('hex'))
  const train: string[] = []
  let joined = ''
  for (const piece of pieces) {
    if (!isHeldOut(piece)) joined += piece
    else if (joined !== '') {
      train.push(joined)
      joined = ''
    }
  }
  if (joined !== '') train.push(joined)
  return { train, heldOut: pieces.filter(isHeldOut) }
}
