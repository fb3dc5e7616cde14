/**
 * Finds the added tokens of a `tokenizer.json` in text, with their options `single_word`, `lstrip`, `rstrip`, `normalized`
 * and `special`, as Hugging Face's library does. Knows nothing about the merges of other text.
 */
import type { Normalizer } from './normalizer.ts'

export interface AddedToken {
  readonly id: number
  readonly content: string
  /** Not part of text: it controls the model. */
  readonly special: boolean
  /** Found only where no word character stands beside it. */
  readonly singleWord: boolean
  /** Takes the white space before it. */
  readonly lstrip: boolean
  /** Takes the white space after it. */
  readonly rstrip: boolean
  /** Found in the normalized text, in its normalized spelling. */
  readonly normalized: boolean
}

/** A stretch of text, or an added token. */
export type Part = string | AddedToken

export class AddedTokens {
  readonly #exact: Finder
  readonly #normalized: Finder
  readonly #normalize: Normalizer
  /** Names of special tokens that are found before the text is normalized. */
  readonly #specialNames: readonly string[]
  /** First characters of the normalized names of the other special tokens. */
  readonly #specialStarts: ReadonlySet<string>

  constructor(tokens: readonly AddedToken[], normalizer: Normalizer | undefined) {
    this.#normalize = normalizer ?? ((text) => text)
    const special = tokens.filter((token) => token.special)
    this.#specialNames = special.flatMap(({ normalized, content }) => (normalized ? [] : [content]))
    this.#specialStarts = new Set(
      special.flatMap(({ normalized, content }) => (normalized ? firstOf(this.#normalize(content)) : [])),
    )
    this.#exact = new Finder(
      tokens.filter(({ normalized }) => !normalized).map((token) => [token.content, token]),
    )
    this.#normalized = new Finder(
      tokens.filter(({ normalized }) => normalized).map((token) => [this.#normalize(token.content), token]),
    )
  }

  /**
   * The text with `mark` after the first character of every name of a special token. Where names are found in normalized
   * text, it follows every character that could begin one.
   */
  markSpecial(text: string, mark: string): string {
    let marked = text
    for (const name of this.#specialNames) {
      const [first = ''] = name
      marked = marked.replaceAll(name, `${first}${mark}${name.slice(first.length)}`)
    }
    if (this.#specialStarts.size === 0) return marked
    return Array.from(marked, (character) =>
      firstOf(this.#normalize(character)).some((first) => this.#specialStarts.has(first))
        ? `${character}${mark}`
        : character,
    ).join('')
  }

  /**
   * Normalized text and added tokens, in order.
   * @param control whether special tokens that are spelled in the text count; otherwise they are characters
   */
  *split(text: string, control: boolean): Generator<Part, void, void> {
    for (const part of this.#exact.split(text, control)) {
      if (typeof part !== 'string') yield part
      else yield* this.#normalized.split(this.#normalize(part), control)
    }
  }
}

/** The first character, a whole code point, if there is one. */
function firstOf(text: string): string[] {
  return Array.from(text).slice(0, 1)
}

const SPACE = /\p{White_Space}/u
const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u

/** Finds a set of texts, at each place the longest. */
class Finder {
  readonly #tokens: ReadonlyMap<string, AddedToken>
  readonly #pattern: RegExp | undefined

  constructor(tokens: readonly (readonly [spelling: string, token: AddedToken])[]) {
    this.#tokens = new Map(tokens.filter(([spelling]) => spelling !== ''))
    const spellings = [...this.#tokens.keys()].sort((a, b) => b.length - a.length)
    if (spellings.length > 0) {
      const escaped = spellings.map((spelling) => spelling.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
      this.#pattern = new RegExp(escaped.join('|'), 'gu')
    }
  }

  *split(text: string, control: boolean): Generator<Part, void, void> {
    let end = 0
    for (const { 0: spelling, index } of this.#pattern === undefined ? [] : text.matchAll(this.#pattern)) {
      const token = this.#tokens.get(spelling) as AddedToken
      let start = index
      let stop = index + spelling.length
      if (token.special && !control) continue
      if (token.singleWord && touchesWord(text, start, stop)) continue
      if (token.lstrip) {
        while (start > end && SPACE.test(text.charAt(start - 1))) start--
        start = Math.max(start, end)
      }
      if (token.rstrip) while (stop < text.length && SPACE.test(text.charAt(stop))) stop++
      // All of it is white space that the token before took. The library fails if even less is left.
      if (stop <= start) continue
      if (start > end) yield text.slice(end, start)
      yield token
      // A token within the white space that the one before took gives the rest of it back, as in the library.
      end = stop
    }
    if (end < text.length) yield text.slice(end)
  }
}

/** Whether a word character stands directly before `start` or after `stop`. */
function touchesWord(text: string, start: number, stop: number): boolean {
  const before = /[\udc00-\udfff]/.test(text.charAt(start - 1)) ? 2 : 1
  const left = start === 0 ? '' : text.slice(start - before, start)
  const right = String.fromCodePoint(text.codePointAt(stop) ?? 0x20)
  return (left !== '' && WORD.test(left)) || WORD.test(right)
}
