/**
 * Writes small Parquet files as other programs would, broken ones too: uncompressed, with plain values. Covers only what
 * tests of the reader need. Format: github.com/apache/parquet-format.
 */

/** A schema element; numbers are those of the enumerations in parquet.thrift. */
export interface ParquetElement {
  readonly name: string
  /** Physical type: 1 INT32, 2 INT64, 6 BYTE_ARRAY, 7 FIXED_LEN_BYTE_ARRAY; absent for a group. */
  readonly type?: number
  /** 0 required, 1 optional, 2 repeated. */
  readonly repetition?: number
  readonly children?: number
  /** Converted type: 0 UTF8, 1 MAP, 3 LIST, 5 DECIMAL, 19 JSON. */
  readonly converted?: number
  readonly typeLength?: number
}

export interface ParquetColumn {
  readonly name: string
  /** Values of one row each; null needs an optional column. */
  readonly values: readonly (string | Uint8Array | null)[]
}

/** An optional column of strings. */
export const stringElement = (name: string): ParquetElement => ({
  name,
  type: 6,
  repetition: 1,
  converted: 0,
})

/**
 * A file of optional BYTE_ARRAY columns.
 * @param schema default: one element of strings for each column; other schemas are for files whose values nobody reads.
 * @param rowsPerPage rows of a page; every row group has two pages.
 * @param rows number of rows that the first row group claims to have; default: what it has.
 */
export function parquetFile(
  columns: readonly ParquetColumn[],
  { schema, rowsPerPage = 2, rows }: { schema?: ParquetElement[]; rowsPerPage?: number; rows?: number } = {},
): Buffer {
  const parts: Buffer[] = [Buffer.from('PAR1')]
  let offset = 4
  const count = columns[0]?.values.length ?? 0
  const groups: Buffer[] = []
  for (let start = 0; start < count; start += 2 * rowsPerPage) {
    const chunks = columns.map(({ name, values }) => {
      const pages = [0, 1].map((i) =>
        values.slice(
          start + i * rowsPerPage,
          Math.min(start + (i + 1) * rowsPerPage, start + 2 * rowsPerPage),
        ),
      )
      const bytes = Buffer.concat(pages.filter(({ length }) => length > 0).map(dataPage))
      const meta = struct([
        [1, int(6)],
        [2, list(5, [varint(zigzag(0))])],
        [3, list(8, [text(name)])],
        [4, int(0)],
        [5, long(pages.flat().length)],
        [6, long(bytes.length)],
        [7, long(bytes.length)],
        [9, long(offset)],
      ])
      const chunk = struct([
        [2, long(offset)],
        [3, { type: 12, bytes: meta }],
      ])
      parts.push(bytes)
      offset += bytes.length
      return chunk
    })
    const groupRows = Math.min(2 * rowsPerPage, count - start)
    const claimed = start === 0 ? (rows ?? groupRows) : groupRows
    groups.push(
      struct([
        [1, list(12, chunks)],
        [2, long(offset)],
        [3, long(claimed)],
      ]),
    )
  }
  const elements = schema ?? columns.map(({ name }) => stringElement(name))
  const roots = schema === undefined ? columns.length : rootsOf(elements)
  const metadata = struct([
    [1, int(1)],
    [2, list(12, [{ name: 'schema', children: roots }, ...elements].map(elementBytes))],
    [3, long(count)],
    [4, list(12, groups)],
  ])
  const length = Buffer.alloc(4)
  length.writeUInt32LE(metadata.length)
  return Buffer.concat([...parts, metadata, length, Buffer.from('PAR1')])
}

/** Number of elements that are not children of others; groups are not nested in more than two levels. */
function rootsOf(elements: readonly ParquetElement[]): number {
  let roots = 0
  let inside = 0
  for (const { children = 0 } of elements) {
    if (inside === 0) roots++
    else inside--
    inside += children
  }
  return roots
}

function elementBytes({ name, type, repetition, children, converted, typeLength }: ParquetElement): Buffer {
  const field = (id: number, value: number | undefined): [number, Field][] =>
    value === undefined ? [] : [[id, int(value)]]
  return struct([
    ...field(1, type),
    ...field(2, typeLength),
    ...field(3, repetition),
    [4, binary(name)],
    ...field(5, children),
    ...field(6, converted),
  ])
}

/** A data page of version 1: definition levels, one run each, and plain values. */
function dataPage(values: readonly (string | Uint8Array | null)[]): Buffer {
  const levels = Buffer.from(values.flatMap((value) => [2, value === null ? 0 : 1]))
  const parts = [uint32(levels.length), levels]
  for (const value of values) {
    if (value === null) continue
    const bytes = Buffer.from(value)
    parts.push(uint32(bytes.length), bytes)
  }
  const content = Buffer.concat(parts)
  const header = struct([
    [1, int(0)],
    [2, int(content.length)],
    [3, int(content.length)],
    [
      5,
      {
        type: 12,
        bytes: struct([
          [1, int(values.length)],
          [2, int(0)],
          [3, int(3)],
          [4, int(3)],
        ]),
      },
    ],
  ])
  return Buffer.concat([header, content])
}

/** A value of Thrift's compact protocol with its type. */
interface Field {
  readonly type: number
  readonly bytes: Buffer
}

const zigzag = (value: number): number => 2 * value
const int = (value: number): Field => ({ type: 5, bytes: varint(zigzag(value)) })
const long = (value: number): Field => ({ type: 6, bytes: varint(zigzag(value)) })
const text = (value: string): Buffer => Buffer.concat([varint(Buffer.byteLength(value)), Buffer.from(value)])
const binary = (value: string): Field => ({ type: 8, bytes: text(value) })

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Buffer.from([...bytes, rest])
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function list(type: number, items: readonly Buffer[]): Field {
  const header =
    items.length < 15
      ? Buffer.from([(items.length << 4) | type])
      : Buffer.concat([Buffer.from([0xf0 | type]), varint(items.length)])
  return { type: 9, bytes: Buffer.concat([header, ...items]) }
}

function struct(fields: readonly (readonly [id: number, field: Field])[]): Buffer {
  const parts: Buffer[] = []
  let last = 0
  for (const [id, { type, bytes }] of fields) {
    parts.push(Buffer.from([((id - last) << 4) | type]), bytes)
    last = id
  }
  return Buffer.concat([...parts, Buffer.from([0])])
}
