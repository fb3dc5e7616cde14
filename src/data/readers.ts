/**
 * Reads documents from files and folders as a stream: plain text, JSON Lines, CSV and Parquet. Long texts are yielded
 * in pieces; no file is held in memory. Does not know tokens.
 */
import { dirname } from 'node:path'
import { InputError } from '../lib/errors.ts'
import type { Row } from './columns.ts'
import { readCsv } from './csv.ts'
import type { Encoding } from './encodings.ts'
import { TEXT_KINDS } from './file-kinds.ts'
import { type FoundFile, findFiles } from './find-files.ts'
import { readJsonLines } from './json-lines.ts'
import { readParquet } from './parquet.ts'
import { cutText, documentPieces } from './pieces.ts'
import { counted, ReadingLog, skippedParts } from './reading-report.ts'
import { textOf } from './text-stream.ts'

export interface Document {
  /** Path of the file. */
  readonly path: string
  /** Number of the document in the order of reading: pieces of one document have the same number. */
  readonly document: number
  /**
   * Whom the text is from or about: the value of the column `source` of its row, otherwise the folder of its file. Two
   * texts with the same value are from the same source.
   */
  readonly source: string
  /** The path from the parent folder of the --data path on, for people. */
  readonly name: string
  readonly text: string
}

export interface ReadOptions {
  readonly signal?: AbortSignal
  /** Column of tables, or member of JSON objects, that holds the text; default `text`. */
  readonly column?: string | undefined
  /** Collects what was read and what was left out. */
  readonly log?: ReadingLog
  /** Called for every file that is not in UTF-8. */
  readonly onEncoding?: (path: string, encoding: Encoding) => void
  /** Called with the number of bytes that were read from disk. */
  readonly onBytes?: (bytes: number) => void
}

/** Maximum number of characters of a plain text in memory. */
const BLOCK_CHARACTERS = 2 ** 20

/**
 * Every document below `paths`, in the order of `findFiles`; a document of more than 32,768 characters in pieces. Rows
 * and files without text are left out and recorded.
 * @throws InputError `not-found`, `permissions`, `empty`, `not-text`, `usage`, naming the file and what to do.
 */
export async function* readDocuments(
  paths: readonly string[],
  options: ReadOptions = {},
): AsyncGenerator<Document, void, void> {
  const { signal, log = new ReadingLog() } = options
  let hasText = false
  let document = -1
  for await (const file of findFiles(paths, log, signal)) {
    const isPlain = file.kind.format === 'plain'
    let hasRows = false
    if (isPlain) document++
    for await (const { text: whole, source } of rowsOf(file, options, log)) {
      if (!isPlain) document++
      for (const text of documentPieces(whole ?? '')) {
        signal?.throwIfAborted()
        if (text.trim() === '') continue
        hasText = true
        hasRows = true
        yield { path: file.path, name: file.name, document, source: sourceKey(file, source), text }
      }
      if (!isPlain && (whole ?? '').trim() === '') log.add('withoutText', 'rows', file.name)
    }
    if (isPlain && !hasRows) log.add('withoutText', 'files', file.name)
  }
  if (!hasText) throw noText(paths, log)
}

/** The two kinds of values begin differently, so that a folder never equals a value of a column. */
function sourceKey({ path }: FoundFile, source: string | undefined): string {
  return source === undefined ? `folder ${dirname(path)}` : `source ${source}`
}

function noText(paths: readonly string[], log: ReadingLog): InputError {
  const report = log.report()
  const skipped = skippedParts(report)
  const empty = report.withoutText.map(({ what, count }) => `${counted(count, what)} without text`)
  const found = [...skipped, ...empty]
  return new InputError(
    'empty',
    `no text found in ${paths.join(', ')}${found.length > 0 ? ` (not read: ${found.join('; ')})` : ''}; --data takes files and folders of ${TEXT_KINDS}`,
  )
}

/** The rows of one file; plain text has rows without a source. */
function rowsOf(file: FoundFile, options: ReadOptions, log: ReadingLog): AsyncGenerator<Row, void, void> {
  const { path, name, kind } = file
  const { column, signal, onBytes } = options
  const onColumn = (found: string): void => log.add('columns', found, name)
  switch (kind.format) {
    case 'plain':
      return blocks(textOf(file, options))
    case 'json-lines':
      return readJsonLines(textOf(file, options), path, column, onColumn)
    case 'csv':
      return readCsv(textOf(file, options), path, column, onColumn)
    case 'parquet':
      return readParquet(path, { column, signal, onBytes, onColumn })
  }
}

/** A text in blocks of bounded size, so that a giant file does not fill the memory. */
async function* blocks(chunks: AsyncIterable<string>): AsyncGenerator<Row, void, void> {
  let rest = ''
  for await (const text of chunks) {
    rest += text
    while (rest.length > BLOCK_CHARACTERS) {
      const block = cutText(rest, BLOCK_CHARACTERS).next().value as string
      yield { text: block, source: undefined }
      rest = rest.slice(block.length)
    }
  }
  if (rest !== '') yield { text: rest, source: undefined }
}
