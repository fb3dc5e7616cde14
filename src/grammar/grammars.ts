/**
 * The grammars of recent requests over the tokens of one model: equal requests share masks. Knows nothing about
 * requests and sampling.
 */
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Grammar } from './grammar.ts'
import type { Program } from './program.ts'
import { TokenVocabulary } from './token-trie.ts'

/** What an answer must follow. */
export interface Constraint {
  /** Equal for equal programs. */
  readonly key: string
  readonly program: Program
}

export interface GrammarsInit {
  /** One more than the largest token id. */
  readonly vocabularySize: number
  /** The bytes that a token adds to a text; none for special tokens. */
  readonly bytesOf: (id: number) => Uint8Array
  /** Ids of the tokens that end a text. */
  readonly ends: readonly number[]
}

export class Grammars {
  readonly #init: GrammarsInit
  #vocabulary: TokenVocabulary | undefined
  /** Least recently used first. */
  readonly #grammars = new Map<string, Grammar>()

  constructor(init: GrammarsInit) {
    this.#init = init
  }

  /** @throws FormatError `bad-field` if the tokens of the model cannot write every text */
  of({ key, program }: Constraint): Grammar {
    const grammar = this.#grammars.get(key) ?? new Grammar(program, this.#tokens())
    this.#grammars.delete(key)
    this.#grammars.set(key, grammar)
    const [oldest] = this.#grammars.keys()
    if (this.#grammars.size > limit('grammars') && oldest !== undefined) this.#grammars.delete(oldest)
    return grammar
  }

  /** Built at the first use, because most nodes never need it: takes a few hundred milliseconds for 100,000 tokens. */
  #tokens(): TokenVocabulary {
    const { vocabularySize, bytesOf, ends } = this.#init
    this.#vocabulary ??= new TokenVocabulary(
      Array.from({ length: vocabularySize }, (_, id) => bytesOf(id)),
      ends,
    )
    if (!this.#vocabulary.isComplete)
      throw new FormatError(
        'bad-field',
        'response_format: the tokenizer of the public model lacks tokens for single bytes, so its answers cannot follow a schema; leave out response_format and tools',
        { param: 'response_format' },
      )
    return this.#vocabulary
  }
}
