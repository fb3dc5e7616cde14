/**
 * Byte-level BPE from a Hugging Face `tokenizer.json`. Knows no files and no model.
 */
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { type Digest, digestOf, fromUtf8, utf8 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'

const END_OF_TEXT = '<|endoftext|>'
/** Text is encoded in pieces of about this number of characters, cut where a pre-token ends. */
const PIECE_CHARACTERS = 4_096
/** Largest id: the maximum number of embeddings of a model is 2^24. */
const MAX_ID = 2 ** 24 - 1

export interface DecodeStream {
  /** The text that this token completes; a character split over several tokens appears with the last one. */
  push(id: number): string
  /** The remaining incomplete bytes, as replacement characters. */
  flush(): string
}

export class Tokenizer {
  /** Id of the token that separates documents. */
  readonly endOfText: number
  /** Its text in `tokenizer.json`. */
  readonly endOfTextName: string
  /** Digest of the `tokenizer.json` bytes. */
  readonly digest: Digest
  /** Number of bytes of the longest token. */
  readonly longestToken: number
  readonly #inner: HuggingFaceTokenizer
  readonly #bytes: readonly Uint8Array[]

  private constructor(
    inner: HuggingFaceTokenizer,
    bytes: readonly Uint8Array[],
    end: Pick<Token, 'id' | 'text'>,
    digest: Digest,
    longestToken: number,
  ) {
    this.#inner = inner
    this.longestToken = longestToken
    this.#bytes = bytes
    this.endOfText = end.id
    this.endOfTextName = end.text
    this.digest = digest
  }

  /** One more than the largest id. */
  get vocabSize(): number {
    return this.#bytes.length
  }

  /**
   * @param endOfText id according to the model's config; the id of `<|endoftext|>` if absent.
   * @throws FormatError `bad-field` if the bytes are not a byte-level BPE `tokenizer.json`.
   */
  static load(json: Uint8Array, endOfText?: number): Tokenizer {
    let parsed: unknown
    try {
      parsed = JSON.parse(fromUtf8(json))
    } catch (cause) {
      throw new FormatError('bad-field', 'tokenizer.json: expected JSON', {}, cause)
    }
    const tokens = readTokens(parsed)
    const end = tokens.findLast(({ id, text }) =>
      endOfText === undefined ? text === END_OF_TEXT : id === endOfText,
    )
    if (end === undefined) {
      throw new FormatError(
        'bad-field',
        `tokenizer.json: expected the token that ends a text, ${endOfText === undefined ? END_OF_TEXT : `id ${endOfText} as config.json says`}`,
      )
    }
    return new Tokenizer(
      new HuggingFaceTokenizer(parsed as object, {}),
      tokenBytes(tokens),
      end,
      digestOf(json),
      // The text of a piece has one character for each byte; a special token can be spelled in a text.
      tokens.reduce(
        (most, { text, kind }) => Math.max(most, kind === 'piece' ? text.length : utf8(text).length),
        0,
      ),
    )
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

interface Token {
  readonly id: number
  readonly text: string
  /**
   * The text of a `piece` encodes its bytes as printable characters, that of `added` is literal; `special` has no
   * text.
   */
  readonly kind: 'piece' | 'added' | 'special'
}

function readTokens(parsed: unknown): Token[] {
  const file = parsed as { model?: { type?: unknown; vocab?: unknown }; added_tokens?: unknown } | null
  const vocab = file?.model?.vocab
  if (file?.model?.type !== 'BPE' || typeof vocab !== 'object' || vocab === null) {
    throw new FormatError('bad-field', 'tokenizer.json: expected model.type BPE with a vocab')
  }
  const tokens: Token[] = []
  const add = (text: unknown, id: unknown, kind: Token['kind']): void => {
    if (typeof text !== 'string' || typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0) {
      throw new FormatError(
        'bad-field',
        'tokenizer.json: expected vocabulary ids to be non-negative integers',
      )
    }
    if (id > MAX_ID) {
      throw new FormatError('bad-field', `tokenizer.json: expected ids up to ${MAX_ID}, got ${id}`)
    }
    tokens.push({ id, text, kind })
  }
  for (const [text, id] of Object.entries(vocab)) add(text, id, 'piece')
  const added = Array.isArray(file.added_tokens)
    ? (file.added_tokens as { content?: unknown; id?: unknown; special?: unknown }[])
    : []
  for (const token of added) add(token.content, token.id, token.special === true ? 'special' : 'added')
  return tokens
}

/** The bytes of every token by id. */
function tokenBytes(tokens: readonly Token[]): Uint8Array[] {
  const byteOf = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    byteOf.set(String.fromCodePoint(printable ? byte : next++), byte)
  }
  const size = tokens.reduce((most, { id }) => Math.max(most, id + 1), 0)
  const table: Uint8Array[] = Array.from({ length: size }, () => new Uint8Array())
  // Added tokens come last, as they override vocabulary entries with the same id.
  for (const { id, text, kind } of tokens) {
    if (kind === 'special') table[id] = new Uint8Array()
    else if (kind === 'added') table[id] = utf8(text)
    else {
      const bytes = Array.from(text, (symbol) => byteOf.get(symbol))
      if (!bytes.includes(undefined)) table[id] = Uint8Array.from(bytes as number[])
    }
  }
  return table
}

/**
 * Pieces that end after a newline between two characters that are not white space. The pre-tokenizers of GPT-2 and of
 * GPT-4 (which attaches newlines to punctuation) both end a pre-token there.
 */
function* pieces(text: string): Generator<string> {
  let start = 0
  while (text.length - start > PIECE_CHARACTERS) {
    const boundary = /\S\n(?=\S)/g
    boundary.lastIndex = start + PIECE_CHARACTERS
    const found = boundary.exec(text)
    if (found === null) break
    const end = found.index + found[0].length
    yield text.slice(start, end)
    start = end
  }
  if (start < text.length) yield text.slice(start)
}
