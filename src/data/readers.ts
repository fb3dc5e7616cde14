/**
 * Documents from files and folders, streamed: .txt, .md, .jsonl (field `text`), .csv (column `text`)
 * and .parquet (column `text`). Never holds a file in memory. Knows no tokens.
 */
import { createReadStream } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { createGunzip } from 'node:zlib'
import { parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import Papa from 'papaparse'
import { InputError } from '../lib/errors.ts'
import { mapDiskErrors } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'

export interface Document {
  readonly source: string
  readonly text: string
}

export interface ReadOptions {
  readonly signal?: AbortSignal
  /** Told of every file in a folder whose kind is not read. */
  readonly onSkip?: (path: string) => void
}

type Reader = (path: string, signal?: AbortSignal) => AsyncGenerator<string, void, void>

/** A long plain text is handed out in pieces of about this many characters, cut at line ends. */
const PIECE_CHARACTERS = 2 ** 20
const SNIFF_BYTES = 8192

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
 * Every document below `paths`, in order of name.
 * @throws InputError `not-found`, `empty`, `not-text`, `usage`, naming the file and what to do.
 */
export async function* readDocuments(
  paths: readonly string[],
  options: ReadOptions = {},
): AsyncGenerator<Document, void, void> {
  let found = 0
  for (const path of paths) {
    for await (const file of filesBelow(path, options)) {
      for await (const text of (readerOf(file) as Reader)(file, options.signal)) {
        options.signal?.throwIfAborted()
        if (text.trim() === '') continue
        found++
        yield { source: file, text }
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
      throw new InputError('usage', `${path}: this kind of file is not read; --data takes ${KINDS}`)
    }
    yield path
    return
  }
  const entries = await mapDiskErrors(path, () => readdir(path, { withFileTypes: true }))
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const child = join(path, entry.name)
    if (entry.isDirectory()) yield* filesBelow(child, options)
    else if (entry.isFile() && readerOf(child) !== undefined) yield child
    else if (entry.isFile()) options.onSkip?.(child)
  }
}

/** @throws InputError `not-text` when the first bytes hold a NUL: binary whatever its name says. */
async function refuseBinary(path: string): Promise<void> {
  await mapDiskErrors(path, async () => {
    const handle = await open(path, 'r')
    try {
      const buffer = new Uint8Array(SNIFF_BYTES)
      const { bytesRead } = await handle.read(buffer, 0, SNIFF_BYTES, 0)
      if (buffer.subarray(0, bytesRead).includes(0)) throw notText(path)
    } finally {
      await handle.close()
    }
  })
}

function notText(path: string): InputError {
  return new InputError('not-text', `${path} is not UTF-8 text; convert it or leave it out of --data`)
}

/** Strictly decoded text, piece by piece. */
async function* decoded(path: string, signal?: AbortSignal): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const file = createReadStream(path, signal === undefined ? {} : { signal })
  const bytes = path.endsWith('.gz') ? file.pipe(createGunzip()) : file
  try {
    for await (const chunk of bytes) yield decoder.decode(chunk as Uint8Array, { stream: true })
    yield decoder.decode()
  } catch (error) {
    if (error instanceof TypeError) throw notText(path)
    throw error
  }
}

async function* readPlain(path: string, signal?: AbortSignal): AsyncGenerator<string, void, void> {
  await refuseBinary(path)
  let rest = ''
  for await (const text of decoded(path, signal)) {
    rest += text
    while (rest.length > PIECE_CHARACTERS) {
      const line = rest.lastIndexOf('\n', PIECE_CHARACTERS)
      const cut = line > 0 ? line + 1 : PIECE_CHARACTERS
      yield rest.slice(0, cut)
      rest = rest.slice(cut)
    }
  }
  if (rest !== '') yield rest
}

async function* readJsonLines(path: string, signal?: AbortSignal): AsyncGenerator<string, void, void> {
  if (!path.endsWith('.gz')) await refuseBinary(path)
  const file = createReadStream(path, signal === undefined ? {} : { signal })
  const lines = createInterface({
    input: path.endsWith('.gz') ? file.pipe(createGunzip()) : file,
    crlfDelay: Infinity,
  })
  let number = 0
  for await (const line of lines) {
    number++
    if (line.trim() === '') continue
    if (line.length > limit('documentBytes')) {
      throw new InputError(
        'usage',
        `${path} line ${number}: longer than ${limit('documentBytes')} bytes; split the document`,
      )
    }
    let value: unknown
    try {
      value = JSON.parse(line)
    } catch (cause) {
      throw new InputError('not-text', `${path} line ${number}: expected a JSON object`, {}, cause)
    }
    yield textField(value, `${path} line ${number}`)
  }
}

function textField(value: unknown, title: string): string {
  const text = (value as { text?: unknown } | null)?.text
  if (typeof text !== 'string')
    throw new InputError('usage', `${title}: expected a field "text" that holds a string`)
  return text
}

async function* readCsv(path: string, signal?: AbortSignal): AsyncGenerator<string, void, void> {
  await refuseBinary(path)
  const parser = Papa.parse(Papa.NODE_STREAM_INPUT, { header: true, skipEmptyLines: true })
  const file = createReadStream(path, { encoding: 'utf8', ...(signal === undefined ? {} : { signal }) })
  file.on('error', (error) => parser.destroy(error))
  file.pipe(parser)
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

async function* readParquet(path: string, signal?: AbortSignal): AsyncGenerator<string, void, void> {
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
