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
    expect(Array.from(tokenizer.encode(textOf(task)))).toEqual(task.ids)
  })

  it('decodes added tokens to their text, and special tokens to nothing', () => {
    const text = parts.find((part) => part.includes('|||')) as string
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text.replace('<|fim_prefix|>', ''))
  })

  it('takes the token that ends a text from the config, else <|endoftext|>', () => {
    const tokens = (JSON.parse(json) as { added_tokens: { id: number; content: string }[] }).added_tokens
    const idOf = (name: string): number => tokens.find(({ content }) => content === name)?.id as number
    expect(tokenizer.endOfText).toBe(idOf('<|endoftext|>'))
    expect(Tokenizer.load(utf8(json), idOf('<|pad|>'))).toMatchObject({
      endOfText: idOf('<|pad|>'),
      endOfTextName: '<|pad|>',
    })
    expect(() => Tokenizer.load(utf8(json), tokenizer.vocabSize)).toThrow(`id ${tokenizer.vocabSize}`)
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
