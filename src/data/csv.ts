/**
 * Reads CSV as RFC 4180 describes it, with other separators too, row by row. A file that breaks the rules is refused
 * with the row, because guessing could mix names and ids into the text. Knows nothing about encodings.
 */
import { InputError } from '../lib/errors.ts'
import { type Row, SOURCE_COLUMN, TEXT_COLUMN, textColumn } from './columns.ts'
import { mergedRows } from './csv-merged-rows.ts'
import { CsvParser, type CsvRow } from './csv-parser.ts'

/** Separators that are recognised by the header; others need a first line `sep=`. */
const SEPARATORS = [',', ';', '\t', '|'] as const
const SEPARATOR_NAMES: Readonly<Record<string, string>> = { '\t': 'tab' }
/** The line with which Excel states the separator; Excel itself may have added separators after it. */
const SEP_LINE = /^"?sep=([^"\p{L}\p{N}\r\n])"?[;,\t|]*(\r\n|\r|\n|$)/iu
const HEADER_ADVICE =
  '; if the file has no header, add a line with the names of its columns before the first row'
/** Maximum number of characters up to the end of the header. */
const MAX_HEADER_CHARACTERS = 2 ** 20

/**
 * Every row that is not blank; its text may be empty.
 * @param chunks the text of the file.
 * @param path of the file, for messages.
 * @param column name of the column with the text, if it is not `text`.
 * @param onColumn called once, with the name of the column.
 * @throws InputError `not-text` with the row for a separator that is ambiguous, a quote that is misplaced or not
 * closed, and a row with more or fewer cells than the header; `usage` if no column is called `column`.
 */
export async function* readCsv(
  chunks: AsyncIterable<string>,
  path: string,
  column: string | undefined,
  onColumn: (name: string) => void,
): AsyncGenerator<Row, void, void> {
  const input = chunks[Symbol.asyncIterator]()
  const start = await headerText(input, path)
  const { separator, skipped } = separatorOf(start, path, column)
  const hidden = new HiddenColumns()
  const parser = new CsvParser(separator, path)
  let header: readonly string[] | undefined
  let index = 0
  let sourceIndex = -1
  const valuesOf = (row: CsvRow): Row | undefined => {
    if (header === undefined) {
      header = namesOf(row)
      index = textColumn(path, header, column, HEADER_ADVICE)
      sourceIndex = header.indexOf(SOURCE_COLUMN)
      onColumn(header[index] as string)
      return undefined
    }
    checkRow(row, header, index, separator, path)
    const text = row.cells[index] as string
    if (header.length === 1 && skipped === 0) hidden.add(text)
    const source = row.cells[sourceIndex]?.trim()
    return { text, source: source === '' ? undefined : source }
  }
  const rowsOf = function* (rows: Iterable<CsvRow>): Generator<Row> {
    for (const row of rows) {
      const values = valuesOf(row)
      if (values !== undefined) yield values
    }
  }
  if (skipped > 0) parser.skipLine()
  yield* rowsOf(parser.push(start.slice(skipped)))
  for (;;) {
    const { done, value } = await input.next()
    if (done === true) break
    yield* rowsOf(parser.push(value))
  }
  yield* rowsOf(parser.end())
  const other = hidden.separator
  if (other !== undefined) {
    throw new InputError(
      'not-text',
      `${path}: the header has one column, but every row has the same number of ${named(other)}, as if it separated columns; complete the header, or state the separator in a line before it, as in sep=, for rows that are one text each`,
    )
  }
}

/** Looks for a separator in a table whose header has only one column: one that every row has equally often. */
class HiddenColumns {
  #rows = 0
  #counts = new Map<string, number>()

  add(text: string): void {
    const count = (separator: string): number => text.split(separator).length - 1
    this.#rows++
    if (this.#rows === 1) this.#counts = new Map(SEPARATORS.map((separator) => [separator, count(separator)]))
    for (const [separator, expected] of this.#counts) {
      if (expected === 0 || count(separator) !== expected) this.#counts.delete(separator)
    }
  }

  get separator(): string | undefined {
    return this.#rows >= MIN_ROWS ? this.#counts.keys().next().value : undefined
  }
}
const MIN_ROWS = 3

/** The beginning of the file up to a line end after the header, or the whole file if it is shorter. */
async function headerText(input: AsyncIterator<string>, path: string): Promise<string> {
  let text = ''
  while (headerEnd(text) === undefined) {
    if (text.length > MAX_HEADER_CHARACTERS) {
      throw new InputError(
        'not-text',
        `${path} row 1: no line end in the first ${MAX_HEADER_CHARACTERS} characters; expected a header, one line with the names of the columns`,
      )
    }
    const { done, value } = await input.next()
    if (done === true) break
    text += value
  }
  return text
}

/** Index after the line end of the header: the first line that is neither blank nor a `sep=` line. */
function headerEnd(text: string): number | undefined {
  const from = SEP_LINE.exec(text)?.[0].length ?? 0
  let isQuoted = false
  let isBlank = true
  for (let i = from; i < text.length; i++) {
    const character = text[i] as string
    if (character === '"') isQuoted = !isQuoted
    if (!isQuoted && !isBlank && (character === '\n' || character === '\r')) return i + 1
    if (character.trim() !== '') isBlank = false
  }
  return undefined
}

/**
 * The separator, and the length of the `sep=` line that stated it. Without such a line, the separator is the only one
 * in the header, or the only one with which the header has the wanted column; a header without any has one column,
 * and then the comma separates, as in RFC 4180.
 * @throws InputError `not-text` if the header allows several.
 */
function separatorOf(
  start: string,
  path: string,
  column: string | undefined,
): { separator: string; skipped: number } {
  const stated = SEP_LINE.exec(start)
  if (stated !== null) return { separator: stated[1] as string, skipped: stated[0].length }
  const header = start.slice(0, headerEnd(start))
  const names = (separator: string): string[] => {
    const parser = new CsvParser(separator, path)
    try {
      const [row] = [...parser.push(header), ...parser.end()]
      return row === undefined ? [] : namesOf(row)
    } catch {
      // Quotes in the header do not fit this separator. If they fit none, reading the file explains them.
      return []
    }
  }
  const present = SEPARATORS.filter((separator) => names(separator).length > 1)
  if (present.length <= 1) return { separator: present[0] ?? ',', skipped: 0 }
  const fitting = present.filter((separator) => names(separator).includes(column ?? TEXT_COLUMN))
  if (fitting.length === 1) return { separator: fitting[0] as string, skipped: 0 }
  throw new InputError(
    'not-text',
    `${path} row 1: the header could be separated by ${present.map(named).join(' or ')}; state the separator in a line before it, as in sep=${present[0]}`,
  )
}

/** The names of the columns, without empty ones at the end. */
function namesOf({ cells }: CsvRow): string[] {
  const names = cells.map((cell) => cell.trim())
  while (names.length > 1 && names.at(-1) === '') names.pop()
  return names
}

/** @throws InputError `not-text` if the row has other cells than the header. */
function checkRow(
  row: CsvRow,
  header: readonly string[],
  index: number,
  separator: string,
  path: string,
): void {
  const { cells } = row
  while (cells.length > header.length && (cells.at(-1) as string).trim() === '') cells.pop()
  const title = `${path} row ${row.row} (line ${row.line})`
  const counts = `expected ${header.length} ${header.length === 1 ? 'cell' : 'cells'} as in the header, got ${cells.length}`
  if (cells.length > header.length) {
    const single =
      header.length === 1
        ? ', or, if every line is one text, state a separator that does not occur in it before the header, as in sep=;'
        : ''
    throw new InputError(
      'not-text',
      `${title}: ${counts}; put quotes around text that contains ${named(separator)}${single}`,
    )
  }
  if (cells.length < header.length) {
    throw new InputError(
      'not-text',
      `${title}: ${counts}; complete or remove the row, and put quotes around text that contains line ends`,
    )
  }
  const line = mergedRows(row, index, separator)
  if (line !== undefined) {
    throw new InputError(
      'not-text',
      `${title}: the quoted text in column "${header[index]}" contains lines that look like rows (line ${line}); close its quote, or write a quote inside a text as ""`,
    )
  }
}

function named(separator: string): string {
  return SEPARATOR_NAMES[separator] ?? `"${separator}"`
}
