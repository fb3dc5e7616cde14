/** Tokenizers of the dolma2 kind, against the tokenizers library (scripts/parity/tokenizer_vectors.py). */
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { utf8 } from '../../src/lib/bytes.ts'

interface TokenizerCase {
  readonly text?: string
  /** These texts one after the other, so many times. */
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
  it.each(cases.map((task, i) => [i, task] as const))('cuts text %i as the library does', (_, task) => {
    expect(Array.from(tokenizer.encode(textOf(task)))).toEqual(task.ids)
  })

  it('gives back added tokens as they are, and nothing for special ones', () => {
    const text = parts.find((part) => part.includes('|||')) as string
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text.replace('<|fim_prefix|>', ''))
  })

  it('ends a text with the id that the config names, else with <|endoftext|>', () => {
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
