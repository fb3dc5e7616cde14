/**
 * Splits CSV text into rows of cells, as a state machine that takes the text in pieces of any size. Knows nothing about columns.
 */
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

export interface CsvRow {
  readonly cells: string[]
  /** Number of the row; the header is row 1, blank lines do not count. */
  readonly row: number
  /** Number of the line where the row begins, from 1. */
  readonly line: number
}

type State =
  /** Before the first character of a cell. */
  | 'start'
  /** In a cell without quotes around it, in which quotes are ordinary characters. */
  | 'plain'
  /** In a cell with quotes around it. */
  | 'quoted'
  /** After a quote in such a cell: its end, or the first of two quotes, which stand for one. */
  | 'after-quote'

export class CsvParser {
  readonly #separator: string
  readonly #path: string
  readonly #cellEnd: RegExp
  #state: State = 'start'
  #cell = ''
  #cells: string[] = []
  #characters = 0
  #isBlank = true
  #row = 1
  /** Number of the current line, of the line where the row began, and of the line where the quote was opened. */
  #line = 1
  #rowLine = 1
  #quoteLine = 1
  /** Whether the last character was \r, so that a \n belongs to the same line end. */
  #afterCr = false

  /** @param separator one character. @param path of the file, for messages. */
  constructor(separator: string, path: string) {
    this.#separator = separator
    this.#path = path
    this.#cellEnd = new RegExp(`[\\r\\n\\u{${separator.codePointAt(0)?.toString(16)}}]`, 'gu')
  }

  /** Count a line that the caller has consumed. */
  skipLine(): void {
    this.#line++
    this.#rowLine = this.#line
  }

  /** The rows that end in `text`, which continues the previous piece. @throws InputError `not-text`, `usage`. */
  *push(text: string): Generator<CsvRow, void, void> {
    let at = 0
    while (at < text.length) {
      if (this.#afterCr && text[at] === '\n') {
        if (this.#state === 'quoted') this.#append('\n')
        this.#afterCr = false
        at++
        continue
      }
      this.#afterCr = false
      switch (this.#state) {
        case 'start':
          if (text[at] === '"') {
            this.#state = 'quoted'
            this.#quoteLine = this.#line
            this.#isBlank = false
            at++
          } else this.#state = 'plain'
          break
        case 'plain': {
          this.#cellEnd.lastIndex = at
          const end = this.#cellEnd.exec(text)?.index ?? text.length
          this.#append(text.slice(at, end))
          if (end < text.length) yield* this.#endCell(text[end] as string)
          at = end + 1
          break
        }
        case 'quoted': {
          const quote = text.indexOf('"', at)
          const end = quote < 0 ? text.length : quote
          this.#appendQuoted(text.slice(at, end))
          if (quote >= 0) {
            this.#state = 'after-quote'
            this.#afterCr = false
          }
          at = end + 1
          break
        }
        case 'after-quote': {
          const character = text[at] as string
          if (character === '"') {
            this.#append('"')
            this.#state = 'quoted'
          } else if (character === this.#separator || character === '\n' || character === '\r') {
            yield* this.#endCell(character)
          } else
            throw this.#misplacedQuote(`the quote before ${JSON.stringify(character)} does not end the cell`)
          at++
        }
      }
    }
  }

  /** The last row, if the file does not end with a line end. @throws InputError `not-text` in an open quote. */
  *end(): Generator<CsvRow, void, void> {
    if (this.#state === 'quoted') throw this.#misplacedQuote('it is not closed before the end of the file')
    if (this.#cells.length > 0 || this.#cell !== '' || !this.#isBlank) yield* this.#endCell('\n')
  }

  *#endCell(character: string): Generator<CsvRow, void, void> {
    this.#cells.push(this.#cell)
    this.#cell = ''
    this.#state = 'start'
    if (character === this.#separator) {
      this.#isBlank = false
      return
    }
    const row = { cells: this.#cells, row: this.#row, line: this.#rowLine }
    const isBlank = this.#isBlank
    this.#cells = []
    this.#characters = 0
    this.#isBlank = true
    this.#line++
    this.#rowLine = this.#line
    this.#afterCr = character === '\r'
    if (isBlank) return
    this.#row++
    yield row
  }

  #append(text: string): void {
    this.#cell += text
    this.#characters += text.length
    if (this.#isBlank && text.trim() !== '') this.#isBlank = false
    if (this.#characters > limit('documentBytes')) {
      const open = this.#state === 'quoted' ? ` (a quote was opened in line ${this.#quoteLine})` : ''
      throw new InputError(
        'usage',
        `${this.#path} row ${this.#row}: longer than ${limit('documentBytes')} characters${open}; close the quote or split the document`,
      )
    }
  }

  #appendQuoted(text: string): void {
    this.#append(text)
    this.#line += text.match(/\r\n|[\r\n]/g)?.length ?? 0
    this.#afterCr = text.endsWith('\r')
  }

  #misplacedQuote(what: string): InputError {
    return new InputError(
      'not-text',
      `${this.#path} row ${this.#row} (line ${this.#rowLine}), cell ${this.#cells.length + 1}: a quote was opened in line ${this.#quoteLine}, and ${what}; put quotes around whole cells, and write a quote inside a cell as ""`,
    )
  }
}
