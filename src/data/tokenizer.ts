/**
 * Byte-level BPE from a Hugging Face `tokenizer.json`. Knows no files and no model.
 */
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { type Digest, digestOf, fromUtf8 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'

const END_OF_TEXT = '<|endoftext|>'
/** Text is encoded in pieces of about this many characters, cut where a pre-token ends anyway. */
const PIECE_CHARACTERS = 4_096

export interface DecodeStream {
  /** Text completed by this token; a character split over tokens appears with its last one. */
  push(id: number): string
  /** Whatever incomplete bytes are left, as replacement characters. */
  flush(): string
}

export class Tokenizer {
  readonly vocabSize: number
  /** Id of the token that separates documents. */
  readonly endOfText: number
  /** Digest of the `tokenizer.json` bytes. */
  readonly digest: Digest
  readonly #inner: HuggingFaceTokenizer
  readonly #bytes: readonly Uint8Array[]

  private constructor(inner: HuggingFaceTokenizer, vocab: ReadonlyMap<string, number>, digest: Digest) {
    this.#inner = inner
    this.digest = digest
    this.vocabSize = Math.max(...vocab.values()) + 1
    this.endOfText = vocab.get(END_OF_TEXT) as number
    this.#bytes = tokenBytes(vocab, this.vocabSize)
  }

  /** @throws FormatError `bad-field` when the bytes are not a byte-level BPE `tokenizer.json`. */
  static load(json: Uint8Array): Tokenizer {
    let parsed: unknown
    try {
      parsed = JSON.parse(fromUtf8(json))
    } catch (cause) {
      throw new FormatError('bad-field', 'tokenizer.json: expected JSON', {}, cause)
    }
    const vocab = readVocab(parsed)
    return new Tokenizer(new HuggingFaceTokenizer(parsed as object, {}), vocab, digestOf(json))
  }

  encode(text: string): Int32Array {
    const ids: number[] = []
    for (const piece of pieces(text)) {
      for (const id of this.#inner.encode(piece, { add_special_tokens: false }).ids) ids.push(id)
    }
    return Int32Array.from(ids)
  }

  decode(ids: Iterable<number>): string {
    const stream = this.decodeStream()
    let text = ''
    for (const id of ids) text += stream.push(id)
    return text + stream.flush()
  }

  decodeStream(): DecodeStream {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    return {
      push: (id) => decoder.decode(this.#bytes[id] ?? new Uint8Array(), { stream: true }),
      flush: () => decoder.decode(),
    }
  }
}

function readVocab(parsed: unknown): Map<string, number> {
  const file = parsed as { model?: { type?: unknown; vocab?: unknown }; added_tokens?: unknown } | null
  const vocab = file?.model?.vocab
  if (file?.model?.type !== 'BPE' || typeof vocab !== 'object' || vocab === null) {
    throw new FormatError('bad-field', 'tokenizer.json: expected model.type BPE with a vocab')
  }
  const entries = new Map<string, number>()
  const add = (name: unknown, id: unknown): void => {
    if (typeof name !== 'string' || typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0) {
      throw new FormatError(
        'bad-field',
        'tokenizer.json: expected vocabulary ids to be non-negative integers',
      )
    }
    entries.set(name, id)
  }
  for (const [name, id] of Object.entries(vocab)) add(name, id)
  const added = Array.isArray(file.added_tokens)
    ? (file.added_tokens as { content?: unknown; id?: unknown }[])
    : []
  for (const token of added) add(token.content, token.id)
  if (!entries.has(END_OF_TEXT)) {
    throw new FormatError('bad-field', `tokenizer.json: expected a token ${END_OF_TEXT}`)
  }
  return entries
}

/** The bytes of every token, undoing GPT-2's printable stand-ins; special tokens decode to nothing. */
function tokenBytes(vocab: ReadonlyMap<string, number>, size: number): Uint8Array[] {
  const byteOf = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    byteOf.set(String.fromCodePoint(printable ? byte : next++), byte)
  }
  const table: Uint8Array[] = Array.from({ length: size }, () => new Uint8Array())
  for (const [name, id] of vocab) {
    if (name.startsWith('<|') && name.endsWith('|>')) continue
    const bytes = Array.from(name, (symbol) => byteOf.get(symbol))
    if (!bytes.includes(undefined)) table[id] = Uint8Array.from(bytes as number[])
  }
  return table
}

/** Pieces that end right before a newline followed by a non-space: no pre-token spans such a place. */
function* pieces(text: string): Generator<string> {
  let start = 0
  while (text.length - start > PIECE_CHARACTERS) {
    const boundary = /\S(?=\n\S)/g
    boundary.lastIndex = start + PIECE_CHARACTERS
    const found = boundary.exec(text)
    if (found === null) break
    yield text.slice(start, found.index + 1)
    start = found.index + 1
  }
  if (start < text.length) yield text.slice(start)
}
