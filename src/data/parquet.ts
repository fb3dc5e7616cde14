/**
 * Reads one column of text from a Parquet file, page by page, so that neither the file nor a row group has to fit into
 * memory. Bytes that are not UTF-8 are refused, never replaced. The decoding of pages is that of hyparquet.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { type ColumnMetaData, type FileMetaData, parquetMetadataAsync, type SchemaTree } from 'hyparquet'
import { parquetHeader, readPage } from 'hyparquet/src/column.js'
import { DEFAULT_PARSERS } from 'hyparquet/src/convert.js'
import { getSchemaPath } from 'hyparquet/src/schema.js'
import { compressors } from 'hyparquet-compressors'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import { mapDiskErrors } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { type Row, SOURCE_COLUMN, textColumn } from './columns.ts'
import { refuseOtherFormat, SIGNATURE_BYTES } from './file-signatures.ts'

export interface ParquetOptions {
  /** Name of the column with the text, if it is not `text`. */
  readonly column?: string | undefined
  readonly signal?: AbortSignal | undefined
  /** Called once, with the name of the column. */
  readonly onColumn: (name: string) => void
  /** Called with the number of bytes of each page. */
  readonly onBytes?: ((bytes: number) => void) | undefined
}

/** A column while it is read. */
interface Column {
  readonly path: string
  readonly name: string
  readonly handle: FileHandle
  readonly schemaPath: SchemaTree[]
  readonly options: ParquetOptions
}

/** First guess of the size of a page header, which holds the least and the greatest value of its page. */
const HEADER_BYTES = 4096
const MAX_HEADER_BYTES = 64 * 2 ** 20
const MAX_READ_BYTES = 2 ** 31 - 1

/**
 * Every row; its text is undefined for null.
 * @throws InputError `not-text` for a file that is damaged or encrypted, and with the row for bytes that are not
 * UTF-8; `usage` for a column that is missing or does not hold text, and for a page that is too large.
 */
export async function* readParquet(path: string, options: ParquetOptions): AsyncGenerator<Row, void, void> {
  const handle = await mapDiskErrors(path, () => open(path, 'r'))
  try {
    const metadata = await metadataOf(path, handle)
    const name = columnOf(path, metadata, options.column)
    options.onColumn(name)
    const columnOfName = (columnName: string): Column => ({
      path,
      name: columnName,
      handle,
      schemaPath: decoding(path, () => getSchemaPath(metadata.schema, [columnName])),
      options,
    })
    const column = columnOfName(name)
    const sources = hasTextColumn(path, metadata, SOURCE_COLUMN) ? columnOfName(SOURCE_COLUMN) : undefined
    let row = 0
    for (const group of metadata.row_groups) {
      const sourceValues = sources && columnValues(sources, chunkOf(path, group, SOURCE_COLUMN))
      let rows = 0
      for await (const value of columnValues(column, chunkOf(path, group, name))) {
        rows++
        row++
        const title = `${path} row ${row}, column`
        const source = (await sourceValues?.next())?.value ?? undefined
        yield {
          text: value === undefined ? undefined : decoded(value, `${title} "${name}"`),
          source: source === undefined ? undefined : decoded(source, `${title} "${SOURCE_COLUMN}"`),
        }
      }
      if (rows !== Number(group.num_rows)) {
        throw damaged(path, `a row group has ${rows} values of ${group.num_rows} rows`)
      }
    }
  } finally {
    await handle.close()
  }
}

/** Where a row group holds the values of a column. */
function chunkOf(path: string, group: FileMetaData['row_groups'][number], name: string): ColumnMetaData {
  const chunk = group.columns.find(({ meta_data }) => {
    const parts = meta_data?.path_in_schema ?? []
    return parts.length === 1 && parts[0] === name
  })
  if (chunk?.meta_data === undefined || chunk.file_path !== undefined) {
    throw damaged(path, `column "${name}" is encrypted or in another file`)
  }
  return chunk.meta_data
}

async function metadataOf(path: string, handle: FileHandle): Promise<FileMetaData> {
  const { size } = await handle.stat()
  refuseOtherFormatButParquet(path, await bytesAt(handle, path, 0, Math.min(size, SIGNATURE_BYTES)))
  const slice = async (start: number, end: number = size): Promise<ArrayBuffer> =>
    (await bytesAt(handle, path, start, end - start)).buffer
  try {
    return await parquetMetadataAsync({ byteLength: size, slice })
  } catch (cause) {
    throw damaged(path, 'its end is not that of a Parquet file', cause)
  }
}

function refuseOtherFormatButParquet(path: string, start: Uint8Array): void {
  const magic = Buffer.from(start.subarray(0, 4)).toString('latin1')
  if (magic === 'PARE') throw damaged(path, 'it is encrypted')
  if (magic !== 'PAR1') refuseOtherFormat(path, start)
}

/** @throws InputError `usage` if the column is missing or is not one of text. */
function columnOf(path: string, metadata: FileMetaData, wanted: string | undefined): string {
  const columns = columnsOf(path, metadata)
  const index = textColumn(
    path,
    columns.map(({ element }) => element.name),
    wanted,
  )
  const column = columns[index] as SchemaTree
  if (isText(column)) return column.element.name
  const { element, children } = column
  const kind = element.logical_type?.type ?? element.converted_type
  const found =
    element.repetition_type === 'REPEATED'
      ? 'lists'
      : children.length > 0
        ? (kind ?? 'structs')
        : (kind ?? element.type)
  throw new InputError(
    'usage',
    `${path}: column "${element.name}" holds values of type ${found}, not text; write the text as a column of strings, or choose another column with --column NAME`,
  )
}

/** Whether the file has exactly one column of this name, and it holds text. */
function hasTextColumn(path: string, metadata: FileMetaData, name: string): boolean {
  const columns = columnsOf(path, metadata).filter(({ element }) => element.name === name)
  return columns.length === 1 && isText(columns[0] as SchemaTree)
}

function columnsOf(path: string, metadata: FileMetaData): SchemaTree[] {
  return decoding(path, () => {
    const [root] = getSchemaPath(metadata.schema, [])
    return (root as SchemaTree).children.filter(({ element }) => typeof element.name === 'string')
  })
}

function isText({ element, children }: SchemaTree): boolean {
  const { type, converted_type, logical_type, repetition_type } = element
  const kind = logical_type?.type ?? converted_type
  const holdsText = type === 'BYTE_ARRAY' && (kind === undefined || kind === 'STRING' || kind === 'UTF8')
  return holdsText && children.length === 0 && repetition_type !== 'REPEATED'
}

/** The values of a column chunk as bytes; undefined for null. */
async function* columnValues(
  column: Column,
  metadata: ColumnMetaData,
): AsyncGenerator<Uint8Array | undefined> {
  const { path, schemaPath, options } = column
  const decoder = {
    pathInSchema: metadata.path_in_schema,
    type: metadata.type,
    codec: metadata.codec,
    element: (schemaPath.at(-1) as SchemaTree).element,
    schemaPath,
    parsers: { ...DEFAULT_PARSERS, stringFromBytes: (bytes: Uint8Array) => bytes },
    compressors,
    utf8: false,
  }
  let at = Number(metadata.dictionary_page_offset || metadata.data_page_offset)
  const end = at + Number(metadata.total_compressed_size)
  const { size } = await column.handle.stat()
  if (!(at >= 0 && end >= at && end <= size)) throw damaged(path, 'a column ends behind the file')
  let dictionary: ReturnType<typeof readPage>['data']
  while (at < end) {
    options.signal?.throwIfAborted()
    const page = await pageAt(column, at, end)
    at += page.bytes
    options.onBytes?.(page.bytes)
    const reader = { view: new DataView(page.content.buffer), offset: 0 }
    const { data } = decoding(path, () => readPage(reader, page.header, decoder, dictionary, undefined, 0))
    if (page.header.type === 'DICTIONARY_PAGE') dictionary = data
    else for (const value of data ?? []) yield value ?? undefined
  }
}

interface Page {
  readonly header: ReturnType<typeof parquetHeader>
  readonly content: Uint8Array<ArrayBuffer>
  /** Header and content together. */
  readonly bytes: number
}

/** @throws InputError `usage` for a page that is too large, `not-text` if it does not end before `end`. */
async function pageAt({ path, handle }: Column, at: number, end: number): Promise<Page> {
  for (let size = HEADER_BYTES; ; size *= 8) {
    const window = await bytesAt(handle, path, at, Math.min(size, end - at))
    const reader = { view: new DataView(window.buffer), offset: 0 }
    let header: Page['header']
    try {
      header = parquetHeader(reader)
    } catch (cause) {
      if (size < Math.min(end - at, MAX_HEADER_BYTES)) continue
      throw damaged(path, 'a page header cannot be read', cause)
    }
    const contentBytes = header.compressed_page_size
    if (!(contentBytes >= 0) || at + reader.offset + contentBytes > end) {
      throw damaged(path, 'a page is longer than its column')
    }
    const largest = Math.max(contentBytes, Number(header.uncompressed_page_size))
    if (largest > limit('parquetPageBytes')) {
      throw new InputError(
        'usage',
        `${path}: expected pages of at most ${limit('parquetPageBytes')} bytes, got ${largest}; write the file again with smaller row groups or pages`,
      )
    }
    const content = await bytesAt(handle, path, at + reader.offset, contentBytes)
    return { header, content, bytes: reader.offset + contentBytes }
  }
}

function decoding<T>(path: string, decode: () => T): T {
  try {
    return decode()
  } catch (cause) {
    if (cause instanceof FlexMeshError) throw cause
    throw damaged(path, cause instanceof Error ? cause.message : 'a page cannot be decoded', cause)
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true })

function decoded(value: unknown, title: string): string {
  if (!(value instanceof Uint8Array)) {
    throw new InputError('not-text', `${title}: expected bytes of text, got ${typeof value}`)
  }
  try {
    return UTF8.decode(value)
  } catch (cause) {
    throw new InputError(
      'not-text',
      `${title}: expected text in UTF-8, got other bytes; write the file again with the column as strings in UTF-8`,
      {},
      cause,
    )
  }
}

async function bytesAt(
  handle: FileHandle,
  path: string,
  at: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  // Damaged metadata can hold any numbers, and Node ends the process for lengths that are not whole 32-bit numbers.
  const isRange = Number.isSafeInteger(at) && at >= 0 && Number.isSafeInteger(length) && length >= 0
  if (!isRange || length > MAX_READ_BYTES) throw damaged(path, 'it names places outside of itself')
  const buffer = new Uint8Array(length)
  const { bytesRead } = await mapDiskErrors(path, () => handle.read(buffer, 0, length, at))
  if (bytesRead < length) throw damaged(path, 'it is cut off')
  return buffer
}

function damaged(path: string, what: string, cause?: unknown): InputError {
  return new InputError(
    'not-text',
    `${path} cannot be read as Parquet: ${what}; write or copy the file again, or leave it out of --data`,
    {},
    cause,
  )
}
