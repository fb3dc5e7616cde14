/** Tokenizers of the dolma2 kind, compared with the tokenizers library (scripts/parity/tokenizer_vectors.py). */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readDocuments } from '../../src/data/readers.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { utf8 } from '../../src/lib/bytes.ts'
import { EXAMPLES, SMALL_MODEL } from '../support/folders.ts'

interface TokenizerCase {
  readonly text?: string
  /** The text is these parts, repeated `times` times. */
  readonly repeat?: readonly string[]
  readonly times?: number
  readonly ids: readonly number[]
}

const read = (name: string): Promise<string> =>
  readFile(new URL(`../fixtures/tokenizer/${name}`, import.meta.url), 'utf8')
const json = await read('dolma2-kind.json')
const cases = JSON.parse(await read('cases.json')) as TokenizerCase[]
const tokenizer = Tokenizer.load(utf8(json))
const parts = cases.flatMap(({ text }) => text ?? [])

function textOf({ text, repeat = [], times = 1 }: TokenizerCase): string {
  return text ?? repeat.join('').repeat(times)
}

describe('a tokenizer of the dolma2 kind', () => {
  it.each(cases.map((task, i) => [i, task] as const))('encodes text %i as the library does', (_, task) => {
    expect(Array.from(tokenizer.encode(textOf(task), { controlTokens: true }))).toEqual(task.ids)
  })

  it('decodes added tokens to their text, and special tokens to nothing', () => {
    const text = parts.find((part) => part.includes('|||')) as string
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
  })

  it('encodes the names of special tokens as characters, unless the caller asks otherwise', () => {
    const text = `${'The separator is <|endoftext|>. '.repeat(80)}<|fim_prefix|>`
    const special = [tokenizer.endOfText, 501, 503]
    expect(Array.from(tokenizer.encode(text)).filter((id) => special.includes(id))).toEqual([])
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
    const control = Array.from(tokenizer.encode(text, { controlTokens: true }))
    expect(control.filter((id) => id === tokenizer.endOfText)).toHaveLength(80)
    expect(control.at(-1)).toBe(501)
  })

  it('takes no merge for a special token', () => {
    const file = JSON.parse(json) as { added_tokens: object[]; model: { vocab: Record<string, number> } }
    const [text, id] = Object.entries(file.model.vocab).find(([piece]) => /^[a-z]{2}$/.test(piece)) as [
      string,
      number,
    ]
    file.added_tokens.push({ content: text, id, special: true })
    const strict = Tokenizer.load(utf8(JSON.stringify(file)))
    expect(Array.from(strict.encode(`${text} ${text}`))).not.toContain(id)
  })

  it('encodes half of a surrogate pair as a replacement character', () => {
    expect(tokenizer.decode(tokenizer.encode('a\ud83d.\ude42'))).toBe('a\ufffd.\ufffd')
  })

  // Time that grows with the square of the length would be minutes or hours for these.
  it.each([
    ['spaces', ' '],
    ['one letter', 'a'],
    ['the names of special tokens', '<|endoftext|>'],
    ['emoji', '🙂'],
    ['combining marks', '\u0301\u0316'],
    ['line feeds', '\n'],
    ['digits', '1'],
  ])('encodes a long text: %s', (_, unit) => {
    const text = unit.repeat(300_000 / unit.length)
    const file = { ...(JSON.parse(json) as object), normalizer: { type: 'NFC' } }
    const ids = Tokenizer.load(utf8(JSON.stringify(file))).encode(text)
    expect(tokenizer.decode(ids)).toHaveLength(text.length)
  })

  it.each([
    ['no normalizer', null, 'a'],
    ['NFC', { type: 'NFC' }, 'e\u0301'],
    ['NFKC', { type: 'NFKC' }, '\u{1d400}'],
    ['Strip', { type: 'Strip', strip_left: true, strip_right: true }, ' '],
  ])('bounds the characters of a token from above: %s', (_, normalizer, unit) => {
    const bounded = Tokenizer.load(utf8(JSON.stringify({ ...(JSON.parse(json) as object), normalizer })))
    for (const text of [...parts, unit.repeat(5000)]) {
      expect(text.length / bounded.longestToken).toBeLessThanOrEqual(bounded.encode(text).length)
    }
  })

  it('takes the token that ends a text from the config, else <|endoftext|>', () => {
    const tokens = (JSON.parse(json) as { added_tokens: { id: number; content: string }[] }).added_tokens
    const idOf = (name: string): number => tokens.find(({ content }) => content === name)?.id as number
    expect(tokenizer.endOfText).toBe(idOf('<|endoftext|>'))
    expect(Tokenizer.load(utf8(json), [idOf('<|pad|>')])).toMatchObject({
      endOfText: idOf('<|pad|>'),
      endOfTextName: '<|pad|>',
    })
    expect(Tokenizer.load(utf8(json), [idOf('<|pad|>'), idOf('<|endoftext|>')]).endOfText).toBe(
      idOf('<|endoftext|>'),
    )
    expect(() => Tokenizer.load(utf8(json), [tokenizer.vocabSize])).toThrow(`id ${tokenizer.vocabSize}`)
    expect(() => Tokenizer.load(utf8(json.replaceAll('<|endoftext|>', '<|end|>')))).toThrow('<|endoftext|>')
  })
})

describe('the tokenizer of the small model', () => {
  it.each(['hospital', 'archive', 'university'])('decodes encoded %s text byte for byte', async (name) => {
    const small = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))
    for await (const { text } of readDocuments([join(EXAMPLES, name, 'text')])) {
      const part = text.slice(0, 20_000)
      const stream = small.decodeStream()
      expect(Array.from(small.encode(part), (id) => stream.push(id)).join('') + stream.flush()).toBe(part)
      break
    }
  })
})
