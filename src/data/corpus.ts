/**
 * An owner's text as token files: streamed once, exact duplicates dropped, split into train and
 * held-out by document hash. The text never leaves this folder's output. Knows no model.
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
import { type Document, readDocuments } from './readers.ts'
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
  readonly duplicates: number
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
  readonly signal?: AbortSignal
  readonly onProgress?: (stats: { documents: number; bytes: number }) => void
  readonly onSkip?: (path: string) => void
}

const DEFAULT_HELD_OUT_SHARE = 0.05
/** A lone document this long is cut, so that a part can be held out. */
const MIN_SPLIT_CHARACTERS = 400
const MAX_PATHS = 1024
const MAX_INDEX_BYTES = 256 * 2 ** 20

interface Side {
  readonly handle: FileHandle
  documents: number
  tokens: number
  bytes: number
  /** Tokens and bytes of each document. */
  readonly index: [tokens: number, bytes: number][]
}

/** @throws InputError `empty`, `not-text`, `not-found`, `usage`, `disk-full`. */
export async function prepareCorpus(init: PrepareInit): Promise<Corpus> {
  const { outDir, tokenizer } = init
  await ensurePrivateDir(outDir)
  const width = tokenBytes(tokenizer.vocabSize)
  const share = init.heldOutShare ?? DEFAULT_HELD_OUT_SHARE
  const seen = new Set<string>()
  let duplicates = 0
  const train = await openSide(join(outDir, 'train.tokens.tmp'))
  const heldOut = await openSide(join(outDir, 'held-out.tokens.tmp'))
  let waiting: Document | undefined
  try {
    const write = async (side: Side, { text }: Document): Promise<void> => {
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
    for await (const document of readDocuments(init.paths, init)) {
      const hash = createHash('sha256').update(document.text).digest()
      const key = hash.toString('base64', 0, 16)
      if (seen.has(key)) {
        duplicates++
        continue
      }
      seen.add(key)
      if (hash.readUInt32BE(16) < share * 2 ** 32) await write(heldOut, document)
      else {
        // The newest training document waits, in case none is held out by its hash.
        if (waiting !== undefined) await write(train, waiting)
        waiting = document
      }
    }
    if (waiting !== undefined) {
      const [first, last] =
        heldOut.documents > 0 || train.documents > 0 ? [undefined, waiting] : cutLone(waiting)
      if (first !== undefined) await write(train, first)
      await write(heldOut.documents > 0 ? train : heldOut, last)
    }
    if (train.documents === 0) {
      throw new InputError(
        'empty',
        `too little text in ${init.paths.join(', ')}: one short document cannot be split into train and held-out; add documents`,
      )
    }
  } catch (error) {
    await Promise.all([train.handle.close(), heldOut.handle.close()])
    await Promise.all(
      ['train', 'held-out'].map((name) => rm(join(outDir, `${name}.tokens.tmp`), { force: true })),
    )
    throw error
  }
  await finish(train, join(outDir, 'train.tokens'))
  await finish(heldOut, join(outDir, 'held-out.tokens'))
  const stats: CorpusStats = { train: statsOf(train), heldOut: statsOf(heldOut), duplicates }
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
  return { train: side('train'), heldOut: side('heldOut'), duplicates: fields.uint('duplicates') }
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

/** A corpus of one document gives its last fifth to held-out, cut at a line end. */
function cutLone(document: Document): [Document | undefined, Document] {
  const { source, text } = document
  if (text.length < MIN_SPLIT_CHARACTERS) return [undefined, document]
  const target = Math.floor(text.length * 0.8)
  const line = text.lastIndexOf('\n', target)
  const cut = line > text.length / 2 ? line + 1 : target
  return [
    { source, text: text.slice(0, cut) },
    { source, text: text.slice(cut) },
  ]
}
