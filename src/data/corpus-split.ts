/**
 * Divides the documents of a corpus into training and held-out text while they are read, and leaves out those that
 * repeat others. Knows neither files nor tokens.
 */
import { createHash } from 'node:crypto'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { Converted, SideStats } from './corpus.ts'
import type { Encoding } from './encodings.ts'
import { cutText } from './pieces.ts'
import type { SplitInit } from './prepare-corpus.ts'
import { Progress } from './prepare-progress.ts'
import type { ReadingLog } from './reading-report.ts'
import { SeenDigests } from './seen-digests.ts'
import { SeenShingles } from './shingles.ts'
import { type SampleDocument, TextSample } from './text-sample.ts'
import type { Origin } from './unit-index.ts'

/** Writes documents. */
export interface SplitTarget {
  /** @param origin where the text comes from; given by a split that keeps track of it. */
  train(text: string, origin?: Origin): Promise<void>
  heldOut(text: string): Promise<void>
}

export interface SplitCounts {
  readonly duplicates: number
  readonly nearDuplicates: number
  readonly repeated: number
  readonly heldOutRepeats: boolean
  readonly unsampled: { readonly documents: number; readonly bytes: number }
  readonly converted: readonly Converted[]
}

export const DEFAULT_HELD_OUT_SHARE = 0.05
/** A held-out document is left out if a larger share of its runs of words is in the training text. */
const MAX_OVERLAP = 0.5
/** A training document counts as a near-duplicate if a larger share of its runs of words was in earlier ones. */
const NEAR_DUPLICATE_OVERLAP = 0.8
/** Maximum size of the held-out text relative to a sample of the training text. */
const HELD_OUT_OF_SAMPLE = 1 / 8
/** A lone document of at least this length is cut, so that a part can be held out. */
const MIN_SPLIT_CHARACTERS = 400

/** UTF-8 that was read as Windows-1252 or Latin-1 and written again: ä as Ã¤, a typographic quote as â€œ. */
const WRONG_CHARACTERS = /[ÂÃ][\u0080-\u00bf]|â€/u

/**
 * A document is held out if its hash falls below a threshold, so every machine and every file order picks the same
 * ones. If they exceed `heldOutBytes`, or an eighth of `maxTrainBytes`, those with the smallest hashes are kept.
 * Held-out documents are written in order of their hash, so the first bytes are a sample of all sources.
 *
 * Two kinds of documents are left out: those that equal an earlier one except for case and white space, and held-out
 * documents that repeat the training text, which means that more than half of their runs of eight words occur in it
 * (`SeenShingles`: 64 MiB, one pass, the first 67 million different runs). If that would leave out every held-out
 * document, all are kept and `heldOutRepeats` is true. Training documents that mostly repeat others are kept and
 * counted as `nearDuplicates`.
 *
 * With `maxTrainBytes`, the training documents with the smallest hashes are kept, and the others are counted as
 * `unsampled`.
 */
export class CorpusSplit {
  readonly #init: SplitInit
  readonly #log: ReadingLog
  readonly #target: SplitTarget
  readonly #seen = new SeenDigests()
  readonly #shingles = new SeenShingles()
  readonly #converted = new Map<Encoding, Converted>()
  readonly #candidates: TextSample
  readonly #sample: TextSample | undefined
  readonly #unsampled = { documents: 0, bytes: 0 }
  #learned = 0
  #duplicates = 0
  #nearDuplicates = 0
  /** The latest training document is written late: it is held out if the hashes hold out no other. */
  #waiting: SampleDocument | undefined

  constructor(init: SplitInit, log: ReadingLog, target: SplitTarget) {
    this.#init = init
    this.#log = log
    this.#target = target
    const { maxTrainBytes } = init
    this.#sample = maxTrainBytes === undefined ? undefined : new TextSample(maxTrainBytes)
    const heldOutBytes = HELD_OUT_OF_SAMPLE * (maxTrainBytes ?? Number.POSITIVE_INFINITY)
    this.#candidates = new TextSample(Math.min(limit('heldOutBytes'), heldOutBytes))
  }

  noteEncoding(path: string, encoding: Encoding): void {
    const { files, example } = this.#converted.get(encoding) ?? { files: 0, example: path }
    this.#converted.set(encoding, { encoding, files: files + 1, example })
  }

  async add({ text, name }: Pick<SampleDocument, 'text' | 'name'>): Promise<void> {
    if (!this.#seen.add(digestOf(text.toLowerCase().replace(/\s+/g, ' ').trim()))) {
      this.#duplicates++
      this.#log.add('documents', 'duplicate', name)
      return
    }
    if (text.includes('\ufffd')) this.#log.add('damaged', 'lost-characters', name)
    if (WRONG_CHARACTERS.test(text)) this.#log.add('damaged', 'wrong-characters', name)
    const document = { hash: digestOf(text), text, name }
    const share = this.#init.heldOutShare ?? DEFAULT_HELD_OUT_SHARE
    if (isHeldOut(document.hash, share)) {
      for (const evicted of this.#candidates.add(document)) await this.#learn(evicted)
    } else {
      if (this.#waiting !== undefined) await this.#learn(this.#waiting)
      this.#waiting = document
    }
  }

  /**
   * Write what was not written yet.
   * @param trainStats of the training text that was written.
   * @throws InputError `empty` without any training text, `too-small` for fewer tokens than asked for.
   */
  async finish(trainStats: () => SideStats): Promise<SplitCounts> {
    await this.#placeWaiting()
    await this.#writeSample()
    refuseTooSmall(this.#init, trainStats(), this.#duplicates)
    const held = this.#candidates.byHash()
    const fresh = held.filter(({ text }) => this.#shingles.overlap(text) <= MAX_OVERLAP)
    const heldOutRepeats = fresh.length === 0
    const kept = heldOutRepeats ? held : fresh
    for (const { text } of kept) await this.#target.heldOut(text)
    const written = new Set(kept)
    for (const document of held) {
      if (!written.has(document)) this.#log.add('documents', 'repeated', document.name)
    }
    return {
      duplicates: this.#duplicates,
      nearDuplicates: this.#nearDuplicates,
      repeated: held.length - kept.length,
      heldOutRepeats,
      unsampled: this.#unsampled,
      converted: [...this.#converted.values()],
    }
  }

  async #placeWaiting(): Promise<void> {
    const last = this.#waiting
    if (last === undefined) return
    if (this.#candidates.size > 0) await this.#learn(last)
    else if (this.#learned > 0) this.#candidates.add(last)
    else {
      const lone = splitLone(last.text)
      const document = (text: string): SampleDocument => ({ hash: digestOf(text), text, name: last.name })
      for (const text of lone.train) await this.#learn(document(text))
      for (const text of lone.heldOut) this.#candidates.add(document(text))
    }
  }

  async #learn(document: SampleDocument): Promise<void> {
    this.#learned++
    if (this.#sample === undefined) return this.#write(document.text)
    for (const { text, name } of this.#sample.add(document)) {
      this.#unsampled.documents++
      this.#unsampled.bytes += Buffer.byteLength(text)
      this.#log.add('documents', 'unsampled', name)
    }
  }

  async #writeSample(): Promise<void> {
    if (this.#sample === undefined) return
    const { signal, onProgress } = this.#init
    const progress = new Progress('tokenizing', this.#sample.bytes, onProgress)
    for (const { text } of this.#sample.inReadingOrder()) {
      signal?.throwIfAborted()
      await this.#write(text)
      progress.documents++
      progress.add(Buffer.byteLength(text))
    }
  }

  async #write(text: string): Promise<void> {
    if (this.#shingles.add(text) > NEAR_DUPLICATE_OVERLAP) this.#nearDuplicates++
    await this.#target.train(text)
  }
}

/** Whether a document with this hash is held out: its hash falls below a threshold. */
export function isHeldOut(hash: Buffer, share: number): boolean {
  return hash.readUInt32BE(16) < share * 2 ** 32
}

/** @throws InputError `empty` without any training text, `too-small` for fewer tokens than asked for. */
export function refuseTooSmall(
  { paths, minTrainTokens = 0 }: Pick<SplitInit, 'paths' | 'minTrainTokens'>,
  train: SideStats,
  duplicates: number,
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

export function digestOf(text: string): Buffer {
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
