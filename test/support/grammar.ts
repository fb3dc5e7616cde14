/** A vocabulary for grammars, and a writer that chooses among the tokens that a grammar allows. */
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { Grammar } from '../../src/grammar/grammar.ts'
import type { Program } from '../../src/grammar/program.ts'
import { TokenVocabulary } from '../../src/grammar/token-trie.ts'

/** The tokens of a `tokenizer.json`, of which the end of text is the only end. */
export function smallVocabulary(json: Uint8Array): TokenVocabulary {
  const tokenizer = Tokenizer.load(json)
  return new TokenVocabulary(
    Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.bytesOf(id)),
    [tokenizer.endOfText],
  )
}

interface Writing {
  readonly program: Program
  readonly vocabulary: TokenVocabulary
  readonly random: () => number
  readonly mostTokens: number
}

/** A text of random allowed tokens, which ends as soon as it may; undefined if it does not end in time. */
export function write({ program, vocabulary, random, mostTokens }: Writing): string | undefined {
  const grammar = new Grammar(program, vocabulary)
  const bytes: Uint8Array[] = []
  let state = grammar.start()
  for (let i = 0; i < mostTokens; i++) {
    const allowed = tokensOf(grammar.mask(state))
    if (allowed.some((id) => vocabulary.ends.includes(id)))
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(bytes))
    // Half of the tokens are short ones, which end texts and lists.
    const short = allowed.filter((id) => vocabulary.bytes[id]?.length === 1)
    const from = short.length > 0 && random() < 0.5 ? short : allowed
    const id = from[Math.floor(random() * from.length)]
    const next = id === undefined ? null : grammar.after(state, id)
    if (id === undefined || next === null)
      throw new Error('no token is allowed, or one that the grammar refuses')
    bytes.push(vocabulary.bytes[id] ?? new Uint8Array())
    state = next
  }
  return undefined
}

/** Ids of the tokens of a mask. */
export function tokensOf(mask: Uint32Array): number[] {
  const ids: number[] = []
  mask.forEach((word, w) => {
    for (let bit = 0; bit < 32; bit++) if (((word >>> bit) & 1) === 1) ids.push(32 * w + bit)
  })
  return ids
}
