import { afterAll, describe, expect, it } from 'vitest'
import { readJsonLines } from '../../src/data/json-lines.ts'
import { limit } from '../../src/lib/limits.ts'
import { readFileOf } from '../support/documents.ts'
import { cleanUp } from '../support/folders.ts'

afterAll(cleanUp)

describe('JSON Lines', () => {
  it('leaves out and counts lines whose text is null, missing or empty', async () => {
    const lines = [
      '{"text":"a"}',
      '{"text":null}',
      '{"id":3}',
      '{"text":""}',
      '{"text":" "}',
      '',
      '{"text":"b"}',
    ]
    const { texts, report } = await readFileOf('notes.jsonl', lines.join('\n'))
    expect(texts).toEqual(['a', 'b'])
    expect(report.withoutText).toEqual([{ what: 'rows', count: 4, first: ['data/notes.jsonl'] }])
  })

  it.each([
    ['\\r\\n', '{"text":"a"}\r\n{"text":"b"}\r\n'],
    ['\\r', '{"text":"a"}\r{"text":"b"}'],
    ['a byte order mark', '\ufeff{"text":"a"}\n{"text":"b"}\n'],
  ])('is read with %s', async (_, content) => {
    expect((await readFileOf('notes.jsonl', content)).texts).toEqual(['a', 'b'])
  })

  it('is read as .ndjson and from the member that is asked for', async () => {
    const { texts, report } = await readFileOf('notes.NDJSON', '{"text":1,"body":"a"}\n', 'body')
    expect(texts).toEqual(['a'])
    expect(report.columns).toMatchObject([{ what: 'body' }])
  })

  it.each([
    [
      'no line with the member',
      '{"id":1,"body":"x"}\n{"id":2}\n',
      'usage',
      /notes\.jsonl has no column "text"; its columns are "id", "body"; .*--column NAME/,
    ],
    [
      'a member that every object inherits',
      '{"toString":1}\n{}\n',
      'usage',
      /line 1, member "toString": expected a string or null, got a number/,
    ],
    [
      'a number',
      '{"text":"a"}\n{"text":7}\n',
      'usage',
      /line 2, member "text": expected a string or null, got a number/,
    ],
    ['a list', '{"text":["a","b"]}\n', 'usage', /got an array; choose another member with --column/],
    ['an object', '{"text":{"en":"a"}}\n', 'usage', /got an object/],
    ['false', '{"text":false}\n', 'usage', /got a boolean/],
    ['a string in place of an object', '"a"\n', 'not-text', /line 1: expected a JSON object, got a string/],
    [
      'null in place of an object',
      '{"text":"a"}\nnull\n',
      'not-text',
      /line 2: expected a JSON object, got null/,
    ],
    [
      'a JSON array',
      '[{"text":"a"},{"text":"b"}]\n',
      'not-text',
      /line 1: expected a JSON object, got an array; convert it with "jq -c/,
    ],
    [
      'a JSON array over several lines',
      '[\n{"text":"a"}\n]\n',
      'not-text',
      /line 1: .*not valid JSON.*jq -c/,
    ],
    ['an object over several lines', '{\n"text":"a"\n}\n', 'not-text', /line 1: .*not valid JSON.*jq -c/],
    [
      'two objects on one line',
      '{"text":"a"}{"text":"b"}\n',
      'not-text',
      /line 1: expected a JSON object on one line/,
    ],
    ['NaN, which Python writes', '{"text":"a","score":NaN}\n', 'not-text', /line 1: .*not valid JSON/],
    ['a last line that is cut off', '{"text":"a"}\r\n{"text":"b', 'not-text', /line 2: .*not valid JSON/],
    [
      'half of a surrogate pair',
      '{"text":"a"}\n{"text":"\\ud83d face"}\n',
      'not-text',
      /line 2, member "text": .*half of a surrogate pair/,
    ],
  ])('is refused for %s', async (title, content, code, message) => {
    const column = title.includes('inherits') ? 'toString' : undefined
    await expect(readFileOf('notes.jsonl', content, column)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it('is refused for two members of the name, but not for one within others', async () => {
    await expect(readFileOf('a.jsonl', '{"text":"a", "text" :"b"}\n')).rejects.toThrow(
      /line 1: expected one member "text", got several/,
    )
    const nested = '{"meta":{"text":"x","quote":"\\"text\\":"},"text":"a \\"text\\": b","list":["text"]}\n'
    expect((await readFileOf('a.jsonl', nested)).texts).toEqual(['a "text": b'])
  })

  it('does not take inherited members for text', async () => {
    await expect(readFileOf('notes.jsonl', '{"id":1}\n', 'toString')).rejects.toThrow(
      /has no column "toString"/,
    )
  })

  it('bounds the memory that a line without end takes', async () => {
    async function* endless(): AsyncGenerator<string> {
      yield '{"text":"a"}\r'
      yield '\n{"text":"'
      const megabyte = 'words '.repeat(2 ** 18)
      for (let i = 0; i * megabyte.length <= 2 * limit('documentBytes'); i++) yield megabyte
    }
    const reading = readJsonLines(endless(), 'a.jsonl', undefined, () => undefined)
    expect((await reading.next()).value).toMatchObject({ text: 'a' })
    await expect(reading.next()).rejects.toThrow(/a\.jsonl line 2: longer than \d+ characters/)
  })
})
