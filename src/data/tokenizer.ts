/**
 * Byte-level BPE from a Hugging Face `tokenizer.json`, with the results of Hugging Face's library. Tokens that control
 * the model are characters when they are spelled in text, unless the caller asks otherwise. Knows no files and no model.
 */
import { type Digest, digestOf, utf8 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { bytesOf, readTokenizerFile, type TokenizerFile } from './tokenizer-file.ts'

const END_OF_TEXT = '<|endoftext|>'

export interface DecodeStream {
  /** The text that this token completes; a character split over several tokens appears with the last one. */
  push(id: number): string
  /** The remaining incomplete bytes, as replacement characters. */
  flush(): string
}

export interface EncodeOptions {
  /**
   * Whether the names of special tokens in the text stand for these tokens. Default: they are characters, so text of
   * a user cannot end a document or begin a turn of a chat.
   */
  readonly controlTokens?: boolean
  /** A character that is removed from the text once special tokens are found; see `markSpecial`. */
  readonly mark?: string
}

export class Tokenizer {
  /** Id of the token that separates documents. */
  readonly endOfText: number
  /** Its text in `tokenizer.json`. */
  readonly endOfTextName: string
  /** Digest of the `tokenizer.json` bytes. */
  readonly digest: Digest
  /** The bytes of `tokenizer.json`, from which a thread loads its own tokenizer. */
  readonly json: Uint8Array
  /**
   * Maximum number of characters (UTF-16 code units) of a text that one token stands for; Infinity if the tokenizer
   * sets no bound.
   */
  readonly longestToken: number
  readonly #file: TokenizerFile
  readonly #bytes: readonly Uint8Array[]
  readonly #names: ReadonlyMap<number, string>

  private constructor(file: TokenizerFile, json: Uint8Array, ends: readonly number[]) {
    this.#file = file
    this.json = json
    this.digest = digestOf(json)
    const names = new Map<number, string>()
    for (const [text, id] of file.vocabulary) names.set(id, text)
    for (const { id, content } of file.addedTokens) names.set(id, content)
    this.#names = names
    this.#bytes = tokenBytes(file)
    this.longestToken = longestToken(file, this.#bytes)
    this.endOfText = this.#separator(ends)
    this.endOfTextName = names.get(this.endOfText) as string
  }

  /** One more than the largest id. */
  get vocabSize(): number {
    return this.#bytes.length
  }

  /**
   * @param ends ids that the model's config names as ends of text. `<|endoftext|>` separates documents if it is one of
   * them or if there are none; otherwise the first of them does.
   * @throws FormatError `bad-field` if the bytes are not a byte-level BPE `tokenizer.json`, or for an unsupported part.
   */
  static load(json: Uint8Array, ends: readonly number[] = []): Tokenizer {
    return new Tokenizer(readTokenizerFile(json), json, ends)
  }

  #separator(ends: readonly number[]): number {
    const { vocabulary, addedTokens } = this.#file
    const usual =
      addedTokens.find(({ content }) => content === END_OF_TEXT)?.id ?? vocabulary.get(END_OF_TEXT)
    const id = ends.length === 0 || (usual !== undefined && ends.includes(usual)) ? usual : ends[0]
    if (id === undefined || !this.#names.has(id)) {
      throw new FormatError(
        'bad-field',
        `tokenizer.json: expected the token that ends a text, ${id === undefined ? END_OF_TEXT : `id ${id}, which the model names as an end of text`}`,
      )
    }
    return id
  }

  /** The name of a token in `tokenizer.json`; undefined for an id that it does not have. */
  nameOf(id: number): string | undefined {
    return this.#names.get(id)
  }

  /** The bytes that a token adds to a text; none for special tokens. */
  bytesOf(id: number): Uint8Array {
    return this.#bytes[id] ?? new Uint8Array()
  }

  /** The text with `mark` within every name of a special token, so that `encode` with this mark finds none in it. */
  markSpecial(text: string, mark: string): string {
    return this.#file.added.markSpecial(text, mark)
  }

  /** Token ids of a text, in time proportional to n log n of its length n. */
  encode(text: string, { controlTokens = false, mark }: EncodeOptions = {}): Int32Array {
    const { added, preTokenize, encoding } = this.#file
    const ids: number[] = []
    // As in UTF-8, half of a surrogate pair becomes a replacement character.
    for (const part of added.split(text.toWellFormed(), controlTokens)) {
      if (typeof part !== 'string') ids.push(part.id)
      else {
        const plain = mark === undefined ? part : part.replaceAll(mark, '')
        for (const piece of preTokenize(plain)) encoding.encode(piece, ids)
      }
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
      push: (id) => decoder.decode(this.bytesOf(id), { stream: true }),
      flush: () => decoder.decode(),
    }
  }
}

function longestToken({ addedTokens, shrinkage }: TokenizerFile, bytes: readonly Uint8Array[]): number {
  // White space that an added token takes has no limit.
  if (addedTokens.some(({ special, lstrip, rstrip }) => !special && (lstrip || rstrip))) return Infinity
  // A token of n bytes stands for at most n characters of normalized text.
  return bytes.reduce((most, { length }) => Math.max(most, length), 1) * shrinkage
}

/** The bytes of every token by id; none for special tokens. */
function tokenBytes({ vocabulary, addedTokens }: TokenizerFile): Uint8Array[] {
  let size = 0
  for (const id of vocabulary.values()) size = Math.max(size, id + 1)
  for (const { id } of addedTokens) size = Math.max(size, id + 1)
  const table: Uint8Array[] = Array.from({ length: size }, () => new Uint8Array())
  for (const [text, id] of vocabulary) table[id] = bytesOf(text) ?? utf8(text)
  // Added tokens come last, as they override vocabulary entries with the same id.
  for (const { id, content, special } of addedTokens) table[id] = special ? new Uint8Array() : utf8(content)
  return table
}
