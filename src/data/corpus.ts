/**
 * A prepared corpus: token files and an index in one folder. `prepare-corpus.ts` writes it. Knows neither text nor
 * models.
 */
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { ReadingLog, type ReadingReport, readReport } from './reading-report.ts'
import { TokenFile } from './token-file.ts'
import type { Tokenizer } from './tokenizer.ts'

/** Size of the training text or of the held-out text. */
export interface SideStats {
  readonly documents: number
  readonly tokens: number
  readonly bytes: number
}

export interface CorpusStats {
  readonly train: SideStats
  readonly heldOut: SideStats
  /** Number of documents left out because they equal an earlier one except for case and white space. */
  readonly duplicates: number
  /** Number of training documents of which more than 80 % repeat earlier ones; they are kept. */
  readonly nearDuplicates: number
  /** Training documents that were not turned into tokens because a sample of the text was enough. */
  readonly unsampled: { readonly documents: number; readonly bytes: number }
  /** Number of held-out documents left out because they repeat training text. */
  readonly repeated: number
  /** True if every held-out document repeats training text; they are then kept. */
  readonly heldOutRepeats: boolean
  /** Files that are not in UTF-8, grouped by encoding. */
  readonly converted: readonly Converted[]
  /** Files, rows and documents that were read and left out. */
  readonly reading: ReadingReport
}

export interface Converted {
  readonly encoding: string
  /** Number of files. */
  readonly files: number
  /** Path of the first one. */
  readonly example: string
}

export interface HeldOut {
  readonly tokens: Int32Array
  /** Length of the document in UTF-8. */
  readonly bytes: number
}

/** Number of tokens and of UTF-8 bytes of each held-out document, in file order. */
export type HeldOutIndex = readonly [tokens: number, bytes: number][]

export interface Corpus {
  readonly stats: CorpusStats
  /** Files and folders that the corpus was prepared from. */
  readonly paths: readonly string[]
  /** The column of tables that the owner chose; undefined if none was chosen. */
  readonly column: string | undefined
  readonly train: TokenFile
  /** The first held-out documents, together at most `maxBytes` long but at least one document. */
  heldOut(maxBytes: number): Promise<HeldOut[]>
  close(): Promise<void>
}

export interface CorpusDescription {
  readonly tokenizer: Tokenizer
  readonly paths: readonly string[]
  readonly column: string | undefined
  /** Bytes per token. */
  readonly width: 2 | 4
  readonly stats: CorpusStats
  readonly heldOut: HeldOutIndex
}

export const TRAIN_FILE = 'train.tokens'
export const HELD_OUT_FILE = 'held-out.tokens'
const INDEX_FILE = 'corpus.json'
const MAX_PATHS = 1024
const MAX_ENCODINGS = 8
const MAX_COLUMN = 1024
const MAX_INDEX_BYTES = 256 * 2 ** 20

/** Write the index, which marks the corpus as complete; must be the last file written. */
export async function saveCorpusIndex(dir: string, description: CorpusDescription): Promise<void> {
  const { tokenizer, paths, column, width, stats, heldOut } = description
  const index = { version: 1, tokenizer: tokenizer.digest, paths, column, width, stats, heldOut }
  await writeFileAtomic(join(dir, INDEX_FILE), JSON.stringify(index))
}

/** @throws InputError `not-found` if nothing was prepared, `mismatch` if it was prepared with another tokenizer. */
export async function openCorpus(dir: string, tokenizer: Tokenizer): Promise<Corpus> {
  const json: unknown = JSON.parse(fromUtf8(await readFileBounded(join(dir, INDEX_FILE), MAX_INDEX_BYTES)))
  const fields = new Fields(json, INDEX_FILE)
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
  const paths = fields.list('paths', MAX_PATHS, (item) => String(item))
  const column = fields.has('column') ? fields.text('column', MAX_COLUMN) : undefined
  const train = await TokenFile.open(join(dir, TRAIN_FILE), width)
  return {
    stats,
    paths,
    column,
    train,
    heldOut: (maxBytes) => readHeldOut(join(dir, HELD_OUT_FILE), width, index, maxBytes),
    close: () => train.close(),
  }
}

async function readHeldOut(
  path: string,
  width: 2 | 4,
  index: HeldOutIndex,
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

function readUnsampled(fields: Fields): CorpusStats['unsampled'] {
  return { documents: fields.uint('documents'), bytes: fields.uint('bytes') }
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
    // The fields below are absent from folders that an earlier version prepared.
    nearDuplicates: fields.has('nearDuplicates') ? fields.uint('nearDuplicates') : 0,
    unsampled: fields.has('unsampled')
      ? readUnsampled(fields.object('unsampled'))
      : { documents: 0, bytes: 0 },
    reading: fields.has('reading') ? readReport(fields.object('reading')) : new ReadingLog().report(),
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
