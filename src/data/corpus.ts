/**
 * An owner's text as token files: streamed once, duplicates left out, split into train and held-out by document
 * hash. The text never leaves this folder's output. Knows no model.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import {
  ensurePrivateDir,
  mapDiskErrors,
  PRIVATE_FILE_MODE,
  readFileBounded,
  writeFileAtomic,
} from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import type { Encoding } from './encodings.ts'
import { HeldOutSample } from './held-out-sample.ts'
import { cutText } from './pieces.ts'
import { readDocuments } from './readers.ts'
import { SeenShingles } from './shingles.ts'
import { packTokens, TokenFile, tokenBytes } from './token-file.ts'
import type { Tokenizer } from './tokenizer.ts'

export interface SideStats {
  readonly documents: number
  readonly tokens: number
  readonly bytes: number
}

export interface CorpusStats {
  readonly train: SideStats
  readonly heldOut: SideStats
  /** Documents left out because they equal an earlier one but for case and white space. */
  readonly duplicates: number
  /** Held-out documents left out because they repeat text that is trained on. */
  readonly repeated: number
  /** True where all held-out documents repeat it, and stayed. */
  readonly heldOutRepeats: boolean
  /** Files that are not in UTF-8, by encoding. */
  readonly converted: readonly Converted[]
}

export interface Converted {
  readonly encoding: string
  readonly files: number
  readonly example: string
}

export interface HeldOut {
  readonly tokens: Int32Array
  readonly bytes: number
}

export interface Corpus {
  readonly stats: CorpusStats
  /** Files and folders that it was prepared from. */
  readonly paths: readonly string[]
  readonly train: TokenFile
  /** Held-out documents, at most `maxBytes` of text, always the same ones. */
  heldOut(maxBytes: number): Promise<HeldOut[]>
  close(): Promise<void>
}

export interface PrepareInit {
  readonly paths: readonly string[]
  readonly tokenizer: Tokenizer
  readonly outDir: string
  /** Share of documents that is never trained on. */
  readonly heldOutShare?: number
  /** Less text to train on is refused. */
  readonly minTrainTokens?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (stats: { documents: number; bytes: number }) => void
  readonly onSkip?: (path: string) => void
}

const DEFAULT_HELD_OUT_SHARE = 0.05
/** A held-out document is left out when a larger share of its runs of words is in the training text. */
const MAX_OVERLAP = 0.5
/** A lone document this long is cut, so that a part can be held out. */
const MIN_SPLIT_CHARACTERS = 400
const MAX_PATHS = 1024
const MAX_ENCODINGS = 8
const MAX_INDEX_BYTES = 256 * 2 ** 20

interface Side {
  readonly handle: FileHandle
  documents: number
  tokens: number
  bytes: number
  /** Tokens and bytes of each document. */
  readonly index: [tokens: number, bytes: number][]
}

/**
 * Text into token files, train and held-out apart. A document is held out by its own hash, so that the same ones
 * are on every machine and in any order; those of the smallest hashes when they are more than
 * `heldOutBytes`. They are written in the order of their hash: a score of the first bytes is one of all sources.
 *
 * Left out are documents equal to an earlier one but for case and white space, and held-out documents that repeat
 * the training text: more than half of their runs of eight words occur in it (`SeenShingles`: 64 MiB, one pass,
 * the first 67 million different runs). If all would go, they stay, and `heldOutRepeats` is true.
 *
 * @throws InputError `empty`, `too-small`, `not-text`, `not-found`, `usage`, `disk-full`.
 */
export async function prepareCorpus(init: PrepareInit): Promise<Corpus> {
  const { outDir, tokenizer } = init
  await ensurePrivateDir(outDir)
  const width = tokenBytes(tokenizer.vocabSize)
  const share = init.heldOutShare ?? DEFAULT_HELD_OUT_SHARE
  const seen = new Set<string>()
  const shingles = new SeenShingles()
  const converted = new Map<Encoding, Converted>()
  let duplicates = 0
  const train = await openSide(join(outDir, 'train.tokens.tmp'))
  const heldOut = await openSide(join(outDir, 'held-out.tokens.tmp'))
  const candidates = new HeldOutSample(limit('heldOutBytes'))
  let repeats = { left: 0, kept: false }
  try {
    const write = async (side: Side, text: string): Promise<void> => {
      const ids = tokenizer.encode(text)
      const framed = new Int32Array(ids.length + 1)
      framed[0] = tokenizer.endOfText
      framed.set(ids, 1)
      await mapDiskErrors(outDir, () => side.handle.writeFile(packTokens(framed, width)))
      const bytes = Buffer.byteLength(text)
      side.documents++
      side.tokens += ids.length
      side.bytes += bytes
      side.index.push([ids.length, bytes])
      init.onProgress?.({
        documents: train.documents + heldOut.documents,
        bytes: train.bytes + heldOut.bytes,
      })
    }
    const learn = async (text: string): Promise<void> => {
      shingles.add(text)
      await write(train, text)
    }
    let waiting: string | undefined
    const onEncoding = (path: string, encoding: Encoding): void => {
      const { files, example } = converted.get(encoding) ?? { files: 0, example: path }
      converted.set(encoding, { encoding, files: files + 1, example })
    }
    for await (const { text } of readDocuments(init.paths, { ...init, onEncoding })) {
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
        // The newest training document waits, in case none is held out by its hash.
        if (waiting !== undefined) await learn(waiting)
        waiting = text
      }
    }
    if (waiting !== undefined) {
      if (candidates.size > 0) await learn(waiting)
      else if (train.documents > 0) candidates.add(digestOf(waiting), waiting)
      else {
        const lone = splitLone(waiting)
        for (const text of lone.train) await learn(text)
        for (const text of lone.heldOut) candidates.add(digestOf(text), text)
      }
    }
    refuseTooSmall(train, duplicates, init)
    const held = candidates.inOrder()
    const fresh = held.filter((text) => shingles.overlap(text) <= MAX_OVERLAP)
    repeats = { left: fresh.length === 0 ? 0 : held.length - fresh.length, kept: fresh.length === 0 }
    for (const text of fresh.length === 0 ? held : fresh) await write(heldOut, text)
  } catch (error) {
    await Promise.all([train.handle.close(), heldOut.handle.close()])
    await Promise.all(
      ['train', 'held-out'].map((name) => rm(join(outDir, `${name}.tokens.tmp`), { force: true })),
    )
    throw error
  }
  await finish(train, join(outDir, 'train.tokens'))
  await finish(heldOut, join(outDir, 'held-out.tokens'))
  const stats: CorpusStats = {
    train: statsOf(train),
    heldOut: statsOf(heldOut),
    duplicates,
    repeated: repeats.left,
    heldOutRepeats: repeats.kept,
    converted: [...converted.values()],
  }
  const description = {
    version: 1,
    tokenizer: tokenizer.digest,
    paths: init.paths,
    width,
    stats,
    heldOut: heldOut.index,
  }
  await writeFileAtomic(join(outDir, 'corpus.json'), JSON.stringify(description))
  return openCorpus(outDir, tokenizer)
}

/** @throws InputError `empty` for nothing to train on, `too-small` for less than asked, saying how much is needed. */
function refuseTooSmall(train: Side, duplicates: number, { paths, minTrainTokens = 0 }: PrepareInit): void {
  const from = paths.join(', ')
  if (train.documents === 0) {
    throw new InputError(
      'empty',
      `too little text in ${from}: one short document cannot be split into train and held-out; add documents`,
    )
  }
  if (train.tokens < minTrainTokens) {
    const after = duplicates > 0 ? ` after ${duplicates} documents that came before were left out` : ''
    throw new InputError(
      'too-small',
      `too little text in ${from}: ${train.tokens} tokens (${train.bytes} bytes) to train on${after}, at least ${minTrainTokens} tokens are needed; add documents`,
    )
  }
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** @throws InputError `not-found` when nothing was prepared, `mismatch` for another tokenizer. */
export async function openCorpus(dir: string, tokenizer: Tokenizer): Promise<Corpus> {
  const json: unknown = JSON.parse(fromUtf8(await readFileBounded(join(dir, 'corpus.json'), MAX_INDEX_BYTES)))
  const fields = new Fields(json, 'corpus.json')
  fields.literal('version', 1)
  if (fields.digest('tokenizer') !== tokenizer.digest) {
    throw new InputError(
      'mismatch',
      `${dir} was prepared with another tokenizer; run train with --data again`,
    )
  }
  const width = fields.literal('width', 2, 4)
  const stats = readStats(fields.object('stats'))
  const index = fields.list('heldOut', Number.MAX_SAFE_INTEGER, (item) => item as [number, number])
  const train = await TokenFile.open(join(dir, 'train.tokens'), width)
  return {
    stats,
    paths: fields.list('paths', MAX_PATHS, (item) => String(item)),
    train,
    heldOut: (maxBytes) => readHeldOut(join(dir, 'held-out.tokens'), width, index, maxBytes),
    close: () => train.close(),
  }
}

async function readHeldOut(
  path: string,
  width: 2 | 4,
  index: readonly [number, number][],
  maxBytes: number,
): Promise<HeldOut[]> {
  const file = await TokenFile.open(path, width)
  const documents: HeldOut[] = []
  let at = 0
  let total = 0
  try {
    for (const [tokens, bytes] of index) {
      if (total > 0 && total + bytes > maxBytes) break
      documents.push({ tokens: await file.read(at + 1, tokens), bytes })
      at += tokens + 1
      total += bytes
    }
  } finally {
    await file.close()
  }
  return documents
}

function readStats(fields: Fields): CorpusStats {
  const side = (name: string): SideStats => {
    const inner = fields.object(name)
    return { documents: inner.uint('documents'), tokens: inner.uint('tokens'), bytes: inner.uint('bytes') }
  }
  return {
    train: side('train'),
    heldOut: side('heldOut'),
    duplicates: fields.uint('duplicates'),
    // Folders prepared before these were counted lack them.
    repeated: fields.has('repeated') ? fields.uint('repeated') : 0,
    heldOutRepeats: fields.has('heldOutRepeats') && fields.bool('heldOutRepeats'),
    converted: !fields.has('converted')
      ? []
      : fields.list('converted', MAX_ENCODINGS, (item) => {
          const inner = new Fields(item, 'converted')
          return {
            encoding: inner.text('encoding', 32),
            files: inner.uint('files'),
            example: inner.text('example', 4096),
          }
        }),
  }
}

async function openSide(path: string): Promise<Side> {
  const handle = await mapDiskErrors(path, () => open(path, 'w', PRIVATE_FILE_MODE))
  return { handle, documents: 0, tokens: 0, bytes: 0, index: [] }
}

async function finish(side: Side, path: string): Promise<void> {
  await mapDiskErrors(path, async () => {
    await side.handle.sync()
    await side.handle.close()
    await rename(`${path}.tmp`, path)
  })
}

function statsOf({ documents, tokens, bytes }: Side): SideStats {
  return { documents, tokens, bytes }
}

/**
 * A corpus of one document gives a fifth of it to held-out: the tenths of the smallest hashes, from anywhere in it.
 * A text too short for that is held out whole.
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
