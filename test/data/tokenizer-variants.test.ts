/**
 * Normalizers, pre-tokenizers and added tokens, compared with Hugging Face's library
 * (scripts/parity/tokenizer_variants.py).
 */
import { describe, expect, it } from 'vitest'
import { differences, readVariants, variantTokenizer } from '../../scripts/parity/variants.ts'

const variants = await readVariants(new URL('../fixtures/tokenizer/variants.json', import.meta.url))

describe('a variant of a tokenizer', () => {
  it.each(variants.map((variant) => [variant.name, variant] as const))(
    'encodes as the library: %s',
    async (_, variant) => {
      expect(differences(await variantTokenizer(variant), variant)).toEqual([])
    },
  )
})

/** Parts that would be encoded differently from the library, and words of the sentence that refuses them. */
const unsupported: [string, Record<string, unknown>, string][] = [
  [
    'a normalizer with tables of its own',
    { normalizer: { type: 'BertNormalizer' } },
    'normalizer "BertNormalizer" is not',
  ],
  ['accents that are removed', { normalizer: { type: 'StripAccents' } }, 'StripAccents'],
  ['a normalizer without a type', { normalizer: {} }, 'normalizer undefined'],
  ['words that drop white space', bytesAfter({ type: 'Whitespace' }), 'pre_tokenizer "Whitespace" is not'],
  ['a tokenizer of other units', { pre_tokenizer: { type: 'Metaspace' } }, 'only byte-level'],
  ['no pre-tokenizer', { pre_tokenizer: null }, 'only byte-level'],
  [
    'bytes before the split',
    { pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'ByteLevel' }, split('a')] } },
    'only byte-level',
  ],
  ['an unknown behavior', bytesAfter({ ...split('a'), behavior: 'Dropped' }), '"Dropped"'],
  ['a pattern of another kind', bytesAfter({ ...split('a'), pattern: { Glob: '*' } }), 'a String or a Regex'],
  [
    'an invalid expression',
    bytesAfter(split('(a')),
    'regular expression "(a" is not supported: a group without )',
  ],
  ['a back reference', bytesAfter(split('(a)\\1')), 'the escape \\1'],
  ['a word boundary', bytesAfter(split('\\b')), 'the escape \\b'],
  ['an intersection', bytesAfter(split('[a&&b]')), 'an intersection'],
  ['an unknown property', bytesAfter(split('\\p{Emojis}')), 'the property Emojis'],
  ['a named group', bytesAfter(split('(?<n>a)')), 'this kind of group'],
  ['case outside ASCII', bytesAfter(split('(?i:é)')), 'ASCII letters only'],
  ['a very long expression', bytesAfter(split('a'.repeat(20_000))), 'more than 10000 characters'],
  ['very deep groups', bytesAfter(split('('.repeat(60) + ')'.repeat(60))), 'nested deeper'],
  ['random merges', { model: { dropout: 0.1 } }, 'model.dropout 0.1'],
  ['marked word ends', { model: { end_of_word_suffix: '</w>' } }, 'end_of_word_suffix'],
  ['a merge of an unknown token', { model: { merges: ['a €'] } }, 'not in the vocabulary'],
  [
    'an id beyond the vocabulary',
    { added_tokens: [{ content: '<|endoftext|>', id: 600, special: true }] },
    'libraries number it 500',
  ],
  ['a byte without a token', { added_tokens: [{ content: 'e', id: 68, special: true }] }, 'byte 101'],
]

function split(expression: string): Record<string, unknown> {
  return { type: 'Split', pattern: { Regex: expression }, behavior: 'Isolated', invert: false }
}

function bytesAfter(step: Record<string, unknown>): Record<string, unknown> {
  return {
    pre_tokenizer: { type: 'Sequence', pretokenizers: [step, { type: 'ByteLevel', use_regex: false }] },
  }
}

describe('a tokenizer that would encode differently', () => {
  it.each(unsupported)('is refused in a sentence: %s', async (_, changes, words) => {
    await expect(variantTokenizer({ changes })).rejects.toThrow(words)
    await expect(variantTokenizer({ changes })).rejects.toMatchObject({ code: 'bad-field' })
  })
})
