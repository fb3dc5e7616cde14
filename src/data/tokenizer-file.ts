/**
 * Reads a Hugging Face `tokenizer.json` of a byte-level BPE and refuses what this project would encode differently from
 * Hugging Face's library. Knows nothing about the model that uses it.
 */
import { fromUtf8 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { type AddedToken, AddedTokens } from './added-tokens.ts'
import { BytePairEncoding, type Merge } from './byte-pair-encoding.ts'
import { readNormalizer, shrinkage } from './normalizer.ts'
import { readPreTokenizer } from './pre-tokenizer.ts'

export interface TokenizerFile {
  /** Ids by text; pieces encode their bytes as printable characters. */
  readonly vocabulary: ReadonlyMap<string, number>
  readonly addedTokens: readonly AddedToken[]
  readonly added: AddedTokens
  /** Maximum number of characters of a text that become one byte of normalized text. */
  readonly shrinkage: number
  /** The pieces of a normalized text within which tokens are merged. */
  readonly preTokenize: (text: string) => Iterable<string>
  readonly encoding: BytePairEncoding
}

/** Largest id: the maximum number of embeddings of a model is 2^24. */
const MAX_ID = 2 ** 24 - 1
/** Bytes that do not occur in UTF-8. */
const NOT_UTF8 = new Set([0xc0, 0xc1, ...Array.from({ length: 11 }, (_, i) => 0xf5 + i)])

interface Json {
  readonly [name: string]: unknown
}

/** @throws FormatError `bad-field` for a file that is not a byte-level BPE or has a part that is not supported. */
export function readTokenizerFile(json: Uint8Array): TokenizerFile {
  let parsed: unknown
  try {
    parsed = JSON.parse(fromUtf8(json))
  } catch (cause) {
    throw new FormatError('bad-field', 'tokenizer.json: expected JSON', {}, cause)
  }
  const file = record(parsed)
  const model = record(file['model'])
  if (model['type'] !== 'BPE' || typeof model['vocab'] !== 'object' || model['vocab'] === null) {
    throw bad('expected model.type BPE with a vocab')
  }
  checkModel(model)
  const vocabulary = new Map<string, number>()
  for (const [text, id] of Object.entries(model['vocab'])) vocabulary.set(text, checkedId(id))
  const addedTokens = readAddedTokens(file['added_tokens'], vocabulary)
  const normalizer = readNormalizer(file['normalizer'])
  return {
    vocabulary,
    addedTokens,
    added: new AddedTokens(addedTokens, normalizer),
    shrinkage: shrinkage(file['normalizer']),
    preTokenize: readPreTokenizer(file['pre_tokenizer']),
    encoding: readEncoding(model, vocabulary, addedTokens),
  }
}

function bad(what: string): FormatError {
  return new FormatError('bad-field', `tokenizer.json: ${what}`)
}

function record(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {}
}

function checkedId(id: unknown): number {
  if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0)
    throw bad('expected vocabulary ids to be non-negative integers')
  if (id > MAX_ID) throw bad(`expected ids up to ${MAX_ID}, got ${id}`)
  return id
}

/** Refuses options of the model that change how text is encoded. */
function checkModel(model: Json): void {
  for (const name of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    const value = model[name] ?? ''
    if (value !== '' && value !== 0) throw bad(`model.${name} ${JSON.stringify(value)} is not supported`)
  }
}

/**
 * The added tokens. Hugging Face's library ignores their ids in the file and numbers them itself, so another id is
 * refused: the library would read other embeddings.
 */
function readAddedTokens(list: unknown, vocabulary: ReadonlyMap<string, number>): AddedToken[] {
  const ids = new Map<string, number>()
  let last = -1
  return (Array.isArray(list) ? (list as unknown[]) : []).map((value) => {
    const json = record(value)
    const { content } = json
    const id = checkedId(json['id'])
    if (typeof content !== 'string' || content === '') throw bad('expected every added token to have content')
    const next = last >= vocabulary.size ? last + 1 : vocabulary.size
    const expected = vocabulary.get(content) ?? ids.get(content) ?? next
    if (id !== expected) {
      throw bad(
        `the added token ${JSON.stringify(content)} has id ${id}, but libraries number it ${expected}; save the tokenizer again with Hugging Face's library`,
      )
    }
    ids.set(content, id)
    last = Math.max(last, id)
    return {
      id,
      content,
      special: json['special'] === true,
      singleWord: json['single_word'] === true,
      lstrip: json['lstrip'] === true,
      rstrip: json['rstrip'] === true,
      normalized: json['normalized'] === true,
    }
  })
}

function readEncoding(
  model: Json,
  vocabulary: ReadonlyMap<string, number>,
  addedTokens: readonly AddedToken[],
): BytePairEncoding {
  // A special token is no part of text, so no merge of characters may produce one.
  const special = new Set(addedTokens.flatMap((token) => (token.special ? [token.id] : [])))
  const byteIds = Int32Array.from(BYTE_CHARACTERS, (character, byte) => {
    const id = vocabulary.get(character)
    if ((id === undefined || special.has(id)) && !NOT_UTF8.has(byte))
      throw bad(
        `expected a token for the byte ${byte} that is not special; text with this byte would be lost`,
      )
    return id ?? -1
  })
  const merges = Array.isArray(model['merges']) ? (model['merges'] as unknown[]) : []
  const idOf = (text: string, merge: unknown): number => {
    const id = vocabulary.get(text)
    if (id === undefined)
      throw bad(`merge ${JSON.stringify(merge)}: ${JSON.stringify(text)} is not in the vocabulary`)
    return id
  }
  const read = merges.map((merge): Merge => {
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge
    const [left, right] = Array.isArray(pair) && pair.length === 2 ? (pair as unknown[]) : []
    if (typeof left !== 'string' || typeof right !== 'string')
      throw bad(`expected a merge to be two texts, got ${JSON.stringify(merge)}`)
    return { left: idOf(left, merge), right: idOf(right, merge), id: idOf(left + right, merge) }
  })
  const whole = new Map<string, number>()
  if (model['ignore_merges'] === true) {
    for (const [text, id] of vocabulary) {
      const bytes = bytesOf(text)
      if (bytes !== undefined && !special.has(id)) whole.set(Buffer.from(bytes).toString(), id)
    }
  }
  return new BytePairEncoding(
    byteIds,
    read.filter(({ id }) => !special.has(id)),
    whole,
  )
}

/** The printable character that stands for each byte in a vocabulary. Source: GPT-2, `bytes_to_unicode`. */
const BYTE_CHARACTERS = byteCharacters()

function byteCharacters(): string[] {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    return String.fromCodePoint(isPrintable ? byte : next++)
  })
}

const BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]))

/** The bytes of a piece of the vocabulary; undefined if one of its characters stands for no byte. */
export function bytesOf(piece: string): Uint8Array | undefined {
  const bytes = Array.from(piece, (character) => BYTES.get(character))
  return bytes.includes(undefined) ? undefined : Uint8Array.from(bytes as number[])
}
