import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { readCsv } from '../../src/data/csv.ts'
import { CsvParser } from '../../src/data/csv-parser.ts'
import { limit } from '../../src/lib/limits.ts'
import { readFileOf } from '../support/documents.ts'
import { cleanUp } from '../support/folders.ts'

afterAll(cleanUp)

const ROWS = [
  ['1', 'Stable values, noted; family of | the ward.'],
  ['2', 'Discharge\ttaken home, letter follows; review.'],
]

/** A table with columns id and text whose cells are quoted if they contain the separator. */
const table = (separator: string, lineEnd = '\n'): string =>
  [['id', 'text'], ...ROWS]
    .map((row) => row.map((cell) => (cell.includes(separator) ? `"${cell}"` : cell)).join(separator))
    .join(lineEnd)
const TEXTS = ROWS.map(([, text]) => text)

const csv = async (content: string | Uint8Array, column?: string): Promise<string[]> =>
  (await readFileOf('notes.csv', content, column)).texts

describe('CSV', () => {
  it.each([
    ['a comma', table(',')],
    ['a semicolon', table(';')],
    ['a tab', table('\t')],
    ['a vertical bar', table('|')],
    ["Excel's line sep=;", `sep=;\r\n${table(';', '\r\n')}\r\n`],
    ['a line sep= in quotes, in capitals and with separators after it', `"SEP=;";\r\n${table(';')}`],
    ['a line sep= with a tab', `sep=\t\n${table('\t')}`],
    ['a line sep= with a separator that is not usual', `sep=^\n${table('^')}`],
    ['a byte order mark and a line sep=', `\ufeffsep=;\r\n${table(';', '\r\n')}`],
    ['UTF-16, as Excel writes Unicode text', Buffer.from(`\ufeff${table('\t', '\r\n')}`, 'utf16le')],
    ['lines that end with \\r', table(',', '\r')],
    ['lines that end with \\r\\n, and blank ones', `\r\n${table(',', '\r\n\r\n')}\r\n \r\n`],
    ['quotes around the header', table(';').replace('id;text', '"id";"text"')],
    ['another separator in a quoted name', table(',').replace('id,', '"id;no|name",')],
    ['a comma in another name', table(';').replace('id;text', 'no, id;text')],
    ['empty cells after the last column', table(',').replaceAll('\n', ',,\n')],
  ])('is read with %s', async (_, content) => {
    expect(await csv(content)).toEqual(TEXTS)
  })

  it('is read as .tsv, and compressed', async () => {
    expect((await readFileOf('notes.TSV', table('\t'))).texts).toEqual(TEXTS)
  })

  it('keeps quotes in text that does not begin with one, and line ends in quoted text', async () => {
    const note = 'Diagnosis:\n1. fever, 38.5\r\n2. "flu", said Dr. Meier\n3, then 4, then 5'
    expect(await csv(`id,text\n1,the "so-called" 5" pipe\n2,"${note.replaceAll('"', '""')}"\n`)).toEqual([
      'the "so-called" 5" pipe',
      note,
    ])
  })

  it('leaves out rows whose text is empty, and counts them', async () => {
    const { texts, report } = await readFileOf('notes.csv', 'id,text\n1,\n2,words\n3,""\n4,"  "\n')
    expect(texts).toEqual(['words'])
    expect(report.withoutText).toEqual([{ what: 'rows', count: 3, first: ['data/notes.csv'] }])
  })

  it('reads the column that is asked for, and says which one it read', async () => {
    const content = 'name,Befund Text\nA. Meier,Fever since Monday.\n'
    const { texts, report } = await readFileOf('notes.csv', content, 'Befund Text')
    expect(texts).toEqual(['Fever since Monday.'])
    expect(report.columns).toEqual([{ what: 'Befund Text', count: 1, first: ['data/notes.csv'] }])
    expect((await readFileOf('notes.csv', 'note\nwords\n')).report.columns).toMatchObject([{ what: 'note' }])
  })

  it.each([
    [
      'no column called text',
      'id,content\n1,x\n',
      /notes\.csv has no column "text"; its columns are "id", "content"; .*--column NAME/,
    ],
    ['another letter case', 'ID,TEXT\n1,x\n', /its columns are "ID", "TEXT"/],
    [
      'no header',
      'Patient stable, discharged.\nFever, again.\n',
      /no column "text"; its columns are "Patient stable"/,
    ],
    [
      'no header and one column',
      'Patient is stable.\nFever again.\n',
      /its only column is "Patient is stable\."/,
    ],
    ['a separator that is not usual', 'id^text\n1^x\n', /its only column is "id\^text"/],
    ['white space between its columns', 'id   text\n1    x\n', /its only column is "id {3}text"/],
    ['two columns called text', 'text,text\na,b\n', /two columns are called "text"/],
  ])('is refused for %s', async (_, content, message) => {
    await expect(csv(content)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(message),
    })
  })

  it('names the columns when the one asked for is missing, but not hundreds', async () => {
    const header = Array.from({ length: 300 }, (_, i) => `c${i}`).join(',')
    await expect(csv(`${header}\n`, 'note')).rejects.toThrow(/has no column "note"; .*"c11" and 288 more;/)
  })

  it.each([
    [
      'commas in text without quotes',
      'id,text\n1,x\n2,a, b, c\n',
      /row 3 \(line 3\): expected 2 cells .* got 4; put quotes around text that contains ","/,
    ],
    [
      'commas in a single column',
      'text\nfever, again\n',
      /row 2 \(line 2\): expected 1 cell .* got 2; .*sep=;/,
    ],
    [
      'a row that ends before its text',
      'id,text,author\n1,x,dr\n2\n',
      /row 3 \(line 3\): expected 3 cells .* got 1/,
    ],
    ['a row that ends after its text', 'id,text,author\n1,x,dr\n2,x\n', /row 3 .* got 2/],
    [
      'a line end in text without quotes',
      'id,text,by\n1,x\ny,dr\n',
      /row 2 .* got 2; .*quotes around text that contains line ends/,
    ],
    ['a footer', 'id,text\n1,x\n\n(1 rows affected)\n', /row 3 \(line 4\): expected 2 cells .* got 1/],
    [
      'a quote that is not closed',
      'id,text\n1,x\n2,"a\n3,b\n',
      /row 3 \(line 3\), cell 2: a quote was opened in line 3, and it is not closed/,
    ],
    [
      'a quote that is closed by the next quoted cell',
      'id,text\n1,"a\n2,"b, c"\n',
      /row 2 .*a quote was opened in line 2, and the quote before "b" does not end/,
    ],
    ['text after a quoted cell', 'id,text\n1,"a"b\n', /the quote before "b" does not end the cell/],
    [
      'a quote that is closed by inches rows later',
      'id,by,text\n1,dr_1,"a\n2,dr_2,b\n3,dr_3,5\' 11"\n4,dr_1,c\n',
      /row 2 .*column "text" contains lines that look like rows \(line 3\)/,
    ],
    [
      'the same with the text in front',
      'text,id\n"a,1\nb,2\n5\' 11",3\nc,4\n',
      /contains lines that look like rows/,
    ],
    [
      'the same with text between other columns',
      'id,text,by\n7,"a,dr_1\n8,b,dr_2\n9,5\' 11",dr_3\n',
      /contains lines that look like rows/,
    ],
    [
      'a header with two separators',
      'id;text,name\n1;x,y\n',
      /row 1: the header could be separated by "," or ";"; .*sep=,/,
    ],
    [
      'a header that lacks columns',
      'Export\n\nid;text\n1;x\n2;y\n',
      /header has one column, but every row has the same number of ";"/,
    ],
    [
      'quotes that are escaped by a backslash',
      'id,text\n1,"say \\"no\\" then"\n',
      /row 2 .*inside a cell as ""/,
    ],
    ['quotes of one stroke', "id,text\n1,'a, b'\n", /row 2 .* got 3/],
    ['a space before a quote', 'id,text\n1, "a, b"\n', /row 2 .* got 3/],
  ])('is refused with the row for %s', async (_, content, message) => {
    await expect(csv(content)).rejects.toMatchObject({
      code: 'not-text',
      message: expect.stringMatching(message),
    })
  })

  it('without rows has no text', async () => {
    await expect(csv('id,text\n')).rejects.toMatchObject({ code: 'empty' })
  })

  it('bounds the memory that a quote without its end takes', async () => {
    async function* endless(): AsyncGenerator<string> {
      yield 'id,text\n1,"'
      const megabyte = 'words\n'.repeat(2 ** 18)
      for (let i = 0; i * megabyte.length <= 2 * limit('documentBytes'); i++) yield megabyte
    }
    const reading = readCsv(endless(), 'a.csv', undefined, () => undefined).next()
    await expect(reading).rejects.toThrow(
      /row 2: longer than \d+ characters \(a quote was opened in line 2\)/,
    )
  })

  it('gives the same cells however the text is divided into pieces', () => {
    const cell = fc.oneof(
      fc.string({ maxLength: 8 }),
      fc.constantFrom('a,b', 'a\r\nb', '\r', '\n', '"', '""', 'x"y', '', ' ', 'ä😀'),
    )
    const rows = fc.array(fc.array(cell, { minLength: 2, maxLength: 2 }), { minLength: 1, maxLength: 6 })
    const lineEnds = fc.constantFrom('\n', '\r\n', '\r')
    fc.assert(
      fc.property(rows, lineEnds, fc.integer({ min: 1, max: 7 }), (given, lineEnd, size) => {
        const text = given
          .map((cells) => cells.map((value) => `"${value.replaceAll('"', '""')}"`).join(','))
          .join(lineEnd)
        const parser = new CsvParser(',', 'a.csv')
        const found: string[][] = []
        for (let at = 0; at < text.length; at += size) {
          for (const { cells } of parser.push(text.slice(at, at + size))) found.push(cells)
        }
        for (const { cells } of parser.end()) found.push(cells)
        expect(found).toEqual(given)
      }),
      { seed: 1, numRuns: 300 },
    )
  })
})
