/**
 * A program over the tokens of a model: which of them an answer may have next. Masks are kept by state, so equal
 * positions of an answer, and of other answers, share them. Knows nothing about JSON and sampling.
 */
import { limit } from '../lib/limits.ts'
import { Automaton, type Path, type State } from './automaton.ts'
import type { Program } from './program.ts'
import type { TokenTrie, TokenVocabulary } from './token-trie.ts'

/** One bit for each token that is allowed, 32 in each word, the lowest first. */
export type TokenMask = Uint32Array

export class Grammar {
  readonly vocabulary: TokenVocabulary
  readonly #automaton: Automaton
  readonly #masks = new Map<State, TokenMask>()
  /** By the number of characters for which a string has room, up to that of the longest token. */
  readonly #insideMasks: TokenMask[] = []

  constructor(program: Program, vocabulary: TokenVocabulary) {
    this.#automaton = new Automaton(program)
    this.vocabulary = vocabulary
  }

  start(): State {
    return this.#automaton.start()
  }

  /** The state after a token that is not an end; null if it is not allowed. */
  after(state: State, token: number): State | null {
    const bytes = this.vocabulary.bytes[token] ?? new Uint8Array()
    if (bytes.length === 0) return null
    let current: State | null = state
    for (const byte of bytes) {
      current = this.#automaton.next(current, byte)
      if (current === null) return null
    }
    return current
  }

  /** The tokens that may follow, with the ends of text if the text may end. The caller must not change it. */
  mask(state: State): TokenMask {
    const known = this.#masks.get(state)
    if (known !== undefined) return known
    const mask = new Uint32Array(this.vocabulary.words)
    this.#fill(mask, state)
    if (this.#masks.size >= limit('grammarMasks')) this.#masks.clear()
    this.#masks.set(state, mask)
    return mask
  }

  #fill(mask: TokenMask, state: State): void {
    const { nodes } = this.#automaton.program
    const { ends, all, leaving } = this.vocabulary
    if (state.isEnd) for (const end of ends) setBit(mask, end)
    const strings = state.paths.filter(({ node }) => nodes[node]?.kind === 'string')
    if (strings.length === 0) {
      this.#walk(mask, all, state)
      return
    }
    // Nearly all tokens stay within a string, whatever follows it: only the others are walked.
    for (const path of strings) this.#addInside(mask, path)
    this.#walk(mask, leaving, this.#automaton.part(strings))
    const others = state.paths.filter((path) => !strings.includes(path))
    if (others.length > 0) this.#walk(mask, all, this.#automaton.part(others))
  }

  #addInside(mask: TokenMask, { node: id, count }: Path): void {
    const node = this.#automaton.program.nodes[id]
    const { mostCharacters } = this.vocabulary
    const room = Math.min(node?.kind === 'string' ? node.max - count : 0, mostCharacters)
    const inside = this.#insideMasks[room] ?? this.#insideMask(room)
    this.#insideMasks[room] = inside
    for (let w = 0; w < mask.length; w++) mask[w] = (mask[w] as number) | (inside[w] as number)
  }

  /** Tokens that may stand within a string that has room for this many characters. */
  #insideMask(room: number): TokenMask {
    const { inside, characters, words } = this.vocabulary
    const mask = new Uint32Array(words)
    for (let i = 0; i < inside.length; i++)
      if ((characters[i] as number) <= room) setBit(mask, inside[i] as number)
    return mask
  }

  /** Follows the trie as far as the automaton reads it. */
  #walk(mask: TokenMask, trie: TokenTrie, start: State): void {
    const { bytes, depths, ends, tokens, twins, longest } = trie
    const automaton = this.#automaton
    const states = new Array<State>(longest + 1)
    states[0] = start
    for (let i = 0; i < bytes.length; ) {
      const depth = depths[i] as number
      const byte = bytes[i] as number
      const from = states[depth - 1] as State
      const known = from.next[byte]
      const next = known === undefined ? automaton.next(from, byte) : known
      if (next === null) {
        i = ends[i] as number
        continue
      }
      states[depth] = next
      for (let token = tokens[i] as number; token >= 0; token = twins[token] as number) setBit(mask, token)
      i++
    }
  }
}

function setBit(mask: TokenMask, token: number): void {
  mask[token >>> 5] = (mask[token >>> 5] as number) | (1 << (token & 31))
}
