import { afterAll, describe, expect, it } from 'vitest'
import { readFileOf } from '../support/documents.ts'
import { cleanUp } from '../support/folders.ts'
import { type ParquetElement, parquetFile, stringElement } from '../support/parquet.ts'

afterAll(cleanUp)

const notes = (values: readonly (string | Uint8Array | null)[]) => [
  { name: 'id', values: values.map((_, i) => `MRN-${i}`) },
  { name: 'text', values },
]

describe('Parquet', () => {
  it('is read over pages and row groups, and rows with null or empty text are left out and counted', async () => {
    const values = ['first', null, 'third', 'Übelkeit 😀', '', 'sixth', null, 'eighth', 'ninth']
    const { texts, report } = await readFileOf('notes.parquet', parquetFile(notes(values)))
    expect(texts).toEqual(['first', 'third', 'Übelkeit 😀', 'sixth', 'eighth', 'ninth'])
    expect(report.withoutText).toEqual([{ what: 'rows', count: 3, first: ['data/notes.parquet'] }])
    expect(report.columns).toEqual([{ what: 'text', count: 1, first: ['data/notes.parquet'] }])
  })

  it('is read from a column of bytes that are UTF-8, and from the column that is asked for', async () => {
    const schema = [stringElement('id'), { name: 'text', type: 6, repetition: 1 }]
    const bytes = parquetFile(notes([Buffer.from('Größe'), Buffer.from('später')]), { schema })
    expect((await readFileOf('a.parquet', bytes)).texts).toEqual(['Größe', 'später'])
    expect((await readFileOf('a.parquet', bytes, 'id')).texts).toEqual(['MRN-0', 'MRN-1'])
  })

  it('without rows has no text', async () => {
    await expect(readFileOf('a.parquet', parquetFile(notes([])))).rejects.toMatchObject({ code: 'empty' })
  })

  it.each<[string, ParquetElement[], RegExp]>([
    [
      'another name',
      [stringElement('id'), stringElement('content')],
      /a\.parquet has no column "text"; its columns are "id", "content"/,
    ],
    ['another letter case', [stringElement('ID'), stringElement('TEXT')], /its columns are "ID", "TEXT"/],
    [
      'a name with a dot',
      [stringElement('id'), stringElement('text.en')],
      /its columns are "id", "text\.en"/,
    ],
    [
      'two columns of the name',
      [stringElement('text'), stringElement('text')],
      /two columns are called "text"/,
    ],
    [
      'numbers',
      [{ name: 'text', type: 2, repetition: 1 }],
      /column "text" holds values of type INT64, not text/,
    ],
    [
      'bytes of fixed length',
      [{ name: 'text', type: 7, repetition: 1, typeLength: 16 }],
      /type FIXED_LEN_BYTE_ARRAY/,
    ],
    ['decimals', [{ name: 'text', type: 6, repetition: 1, converted: 5 }], /type DECIMAL/],
    ['JSON', [{ name: 'text', type: 6, repetition: 1, converted: 19 }], /type JSON/],
    ['repeated strings', [{ ...stringElement('text'), repetition: 2 }], /type lists/],
    [
      'lists',
      [
        { name: 'text', repetition: 1, children: 1, converted: 3 },
        { name: 'list', repetition: 2, children: 1 },
        stringElement('element'),
      ],
      /type LIST, not text; write the text as a column of strings, or choose another column with --column/,
    ],
    ['structs', [{ name: 'text', repetition: 1, children: 1 }, stringElement('value')], /type structs/],
  ])('is refused for a column with %s, naming file, columns and what to do', async (_, schema, message) => {
    const bytes = parquetFile([], { schema })
    await expect(readFileOf('a.parquet', bytes)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(message),
    })
  })

  it('is refused with the row for bytes that are not UTF-8', async () => {
    const bytes = parquetFile(notes(['a', 'b', null, 'd', Buffer.from('Größe', 'latin1')]))
    await expect(readFileOf('a.parquet', bytes)).rejects.toMatchObject({
      code: 'not-text',
      message: expect.stringMatching(/a\.parquet row 5, column "text": expected text in UTF-8/),
    })
  })

  const whole = parquetFile([{ name: 'text', values: ['one', 'two', 'three', 'four'] }])
  const damaged = (at: number, byte: number): Buffer => {
    const bytes = Buffer.from(whole)
    bytes[at] = byte
    return bytes
  }
  it.each([
    ['cut off at its end', whole.subarray(0, -20), /cannot be read as Parquet/],
    ['cut off at its beginning', whole.subarray(40), /cannot be read as Parquet/],
    ['empty', Buffer.alloc(0), /cannot be read as Parquet/],
    [
      'encrypted',
      Buffer.concat([Buffer.from('PARE'), whole.subarray(4, -4), Buffer.from('PARE')]),
      /it is encrypted/,
    ],
    ['a ZIP archive', Buffer.from('PK\x03\x04'.padEnd(99)), /is a ZIP archive/],
    [
      'a pointer of Git LFS',
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'),
      /git lfs pull/,
    ],
    ['fewer rows than it says', parquetFile(notes(['a', 'b', 'c']), { rows: 4 }), /has 3 values of 4 rows/],
    ['a page header that makes no sense', damaged(4, 0xff), /cannot be read as Parquet/],
  ])('is refused for a file that is %s', async (_, bytes, message) => {
    await expect(readFileOf('a.parquet', bytes)).rejects.toMatchObject({
      code: 'not-text',
      message: expect.stringMatching(message),
    })
  })

  it('is refused in a sentence, or read as it was, whatever byte is damaged', async () => {
    const places = Array.from({ length: 3 * whole.length }, (_, i) => [Math.floor(i / 3), i % 3] as const)
    for (const [at, kind] of places) {
      const bytes = damaged(at, (whole[at] as number) ^ ([0x15, 0x80, 0xff][kind] as number))
      const outcome = await readFileOf('a.parquet', bytes).then(
        ({ texts }) => texts.length,
        (error: { code?: string }) => error.code,
      )
      expect([1, 2, 3, 4, 'not-text', 'usage', 'empty'], `byte ${at}`).toContain(outcome)
    }
  })
})
