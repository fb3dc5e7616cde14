/**
 * Reads documents from files and folders as a stream: .txt, .md, .jsonl (field `text`), .csv and .parquet (column
 * `text`). Long texts are yielded in pieces; no file is held in memory. Knows no tokens.
 */
import { createReadStream } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import Papa from 'papaparse'
import { hasErrno, InputError } from '../lib/errors.ts'
import { mapDiskErrors } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { type Encoding, encodingOf } from './encodings.ts'
import { cutText, documentPieces } from './pieces.ts'

export interface Document {
  readonly source: string
  readonly text: string
}

export interface ReadOptions {
  readonly signal?: AbortSignal
  /** Called for every file that is not in UTF-8. */
  readonly onEncoding?: (path: string, encoding: Encoding) => void
}

type Reader = (path: string, options: ReadOptions) => AsyncGenerator<string, void, void>

/** Maximum number of characters of a plain text in memory. */
const BLOCK_CHARACTERS = 2 ** 20

const READERS: Readonly<Record<string, Reader>> = {
  '.txt': readPlain,
  '.md': readPlain,
  '.jsonl': readJsonLines,
  '.csv': readCsv,
  '.parquet': readParquet,
}
const KINDS = `${Object.keys(READERS).join(', ')} or .jsonl.gz`

function readerOf(path: string): Reader | undefined {
  return path.endsWith('.jsonl.gz') ? readJsonLines : READERS[extname(path).toLowerCase()]
}

/**
 * Every document below `paths`, sorted by file name; a document of more than 32,768 characters in pieces.
 * @throws InputError `not-found`, `empty`, `not-text`, `usage`, naming the file and what to do.
 */
export async function* readDocuments(
  paths: readonly string[],
  options: ReadOptions = {},
): AsyncGenerator<Document, void, void> {
  let found = 0
  for (const path of paths) {
    for await (const file of filesBelow(path, options)) {
      for await (const whole of (readerOf(file) as Reader)(file, options)) {
        for (const text of documentPieces(whole)) {
          options.signal?.throwIfAborted()
          if (text.trim() === '') continue
          found++
          yield { source: file, text }
        }
      }
    }
  }
  if (found === 0) {
    throw new InputError(
      'empty',
      `no text found in ${paths.join(', ')}; --data takes files and folders of ${KINDS}`,
    )
  }
}

async function* filesBelow(path: string, options: ReadOptions): AsyncGenerator<string> {
  const info = await mapDiskErrors(path, () => stat(path))
  if (!info.isDirectory()) {
    if (readerOf(path) === undefined) {
      throw new InputError('usage', `${path}: files of this kind cannot be read; --data takes ${KINDS}`)
    }
    yield path
    return
  }
  const entries = await mapDiskErrors(path, () => readdir(path, { withFileTypes: true }))
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const child = join(path, entry.name)
    if (entry.isDirectory()) yield* filesBelow(child, options)
    else if (entry.isFile() && readerOf(child) !== undefined) yield child
  }
}

/** The bytes of a file, decompressed if its name ends in .gz. */
async function* bytesOf(path: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path, signal === undefined ? {} : { signal })
  const gunzip = createGunzip()
  const bytes = path.endsWith('.gz') ? file.on('error', (error) => gunzip.destroy(error)).pipe(gunzip) : file
  try {
    for await (const chunk of bytes) yield chunk as Uint8Array
  } catch (cause) {
    if (hasErrno(cause, 'Z_DATA_ERROR', 'Z_BUF_ERROR'))
      throw new InputError(
        'not-text',
        `${path} is a truncated or damaged gzip archive; copy it again`,
        {},
        cause,
      )
    throw cause
  } finally {
    file.destroy()
  }
}

/** The text of a file piece by piece, without a byte order mark. */
async function* decoded(path: string, options: ReadOptions): AsyncGenerator<string> {
  const { signal, onEncoding } = options
  const encoding = await mapDiskErrors(path, () => encodingOf(path, () => bytesOf(path, signal)))
  if (encoding !== 'utf-8') onEncoding?.(path, encoding)
  const decoder = new TextDecoder(encoding, { fatal: true })
  for await (const chunk of bytesOf(path, signal)) yield decoder.decode(chunk, { stream: true })
  yield decoder.decode()
}

async function* readPlain(path: string, options: ReadOptions): AsyncGenerator<string, void, void> {
  let rest = ''
  for await (const text of decoded(path, options)) {
    rest += text
    while (rest.length > BLOCK_CHARACTERS) {
      const block = cutText(rest, BLOCK_CHARACTERS).next().value as string
      yield block
      rest = rest.slice(block.length)
    }
  }
  if (rest !== '') yield rest
}

async function* readJsonLines(path: string, options: ReadOptions): AsyncGenerator<string, void, void> {
  let number = 0
  for await (const line of linesOf(path, options)) {
    number++
    if (line.trim() === '') continue
    let value: unknown
    try {
      value = JSON.parse(line)
    } catch (cause) {
      throw new InputError('not-text', `${path} line ${number}: expected a JSON object`, {}, cause)
    }
    yield textField(value, `${path} line ${number}`)
  }
}

/** Lines that end with \n only, since JSON strings may contain other line separators. */
async function* linesOf(path: string, options: ReadOptions): AsyncGenerator<string> {
  let number = 1
  let rest = ''
  for await (const text of decoded(path, options)) {
    const lines = (rest + text).split('\n')
    rest = lines.pop() as string
    yield* lines
    number += lines.length
    if (rest.length > limit('documentBytes')) {
      throw new InputError(
        'usage',
        `${path} line ${number}: longer than ${limit('documentBytes')} bytes; split the document`,
      )
    }
  }
  yield rest
}

function textField(value: unknown, title: string): string {
  const text = (value as { text?: unknown } | null)?.text
  if (typeof text !== 'string')
    throw new InputError('usage', `${title}: expected a field "text" that holds a string`)
  return text
}

async function* readCsv(path: string, options: ReadOptions): AsyncGenerator<string, void, void> {
  const parser = Papa.parse(Papa.NODE_STREAM_INPUT, { header: true, skipEmptyLines: true })
  const text = Readable.from(decoded(path, options))
  text.on('error', (error) => parser.destroy(error))
  text.pipe(parser)
  let row = 1
  for await (const record of parser) {
    row++
    const fields = record as Record<string, string>
    const columns = Object.keys(fields)
    const only = columns.length === 1 ? columns[0] : undefined
    yield textField(
      { text: fields['text'] ?? (only === undefined ? undefined : fields[only]) },
      `${path} row ${row}`,
    )
  }
}

async function* readParquet(path: string, { signal }: ReadOptions): AsyncGenerator<string, void, void> {
  const handle = await mapDiskErrors(path, () => open(path, 'r'))
  try {
    const { size } = await handle.stat()
    const file = {
      byteLength: size,
      slice: async (start: number, end: number = size): Promise<ArrayBuffer> => {
        signal?.throwIfAborted()
        const buffer = new Uint8Array(end - start)
        await handle.read(buffer, 0, buffer.length, start)
        return buffer.buffer
      },
    }
    const metadata = await parquetMetadataAsync(file).catch((cause: unknown) => {
      throw new InputError('not-text', `${path} is not a Parquet file`, {}, cause)
    })
    let rowStart = 0
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows)
      const rows = await parquetReadObjects({
        file,
        metadata,
        rowStart,
        rowEnd,
        columns: ['text'],
        compressors,
      })
      for (const [index, record] of rows.entries())
        yield textField(record, `${path} row ${rowStart + index + 1}`)
      rowStart = rowEnd
    }
  } finally {
    await handle.close()
  }
}
