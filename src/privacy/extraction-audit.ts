/**
 * How much of some texts a model can be made to repeat, without generating anything: (n, p)-discoverable extraction
 * (Hayes et al. 2024, arXiv 2410.19482). Given the tokens before, sampling at temperature 1 writes exactly the tokens
 * that follow with the product of their probabilities, which one forward pass gives. Knows nothing about models.
 */
import type { TokenScores } from '../model/token-scores.ts'

/** Tokens that the attacker knows, and tokens that the model must then write. */
export const PREFIX_TOKENS = 50
export const SUFFIX_TOKENS = 50
/** Attempts after which a suffix has been written at least once with probability `SUCCESS`. */
export const FEW_TRIES = 1_000
export const MANY_TRIES = 1_000_000
const SUCCESS = 0.5

/** Number of texts whose suffix can be extracted. */
export interface Extraction {
  /** Texts that are long enough to be tried. */
  readonly texts: number
  /** By greedy decoding, in one attempt. */
  readonly greedy: number
  /** By sampling, in `FEW_TRIES` and in `MANY_TRIES` attempts. */
  readonly fewTries: number
  readonly manyTries: number
  /** Greedily or in `FEW_TRIES`. */
  readonly extracted: number
}

/** @param scores of the tokens of each text; shorter texts than prefix and suffix together are left out */
export function extraction(scores: readonly Pick<TokenScores, 'nats' | 'greedy'>[]): Extraction {
  const tried = scores.filter(({ nats }) => nats.length >= PREFIX_TOKENS + SUFFIX_TOKENS)
  const end = PREFIX_TOKENS + SUFFIX_TOKENS
  const nats = tried.map((score) => score.nats.subarray(PREFIX_TOKENS, end).reduce((a, b) => a + b, 0))
  const isGreedy = tried.map(({ greedy }) => greedy.subarray(PREFIX_TOKENS, end).every((hit) => hit === 1))
  const within = (tries: number): boolean[] => nats.map((value) => triesFor(value) <= tries)
  const few = within(FEW_TRIES)
  return {
    texts: tried.length,
    greedy: count(isGreedy),
    fewTries: count(few),
    manyTries: count(within(MANY_TRIES)),
    extracted: count(few.map((is, i) => is || (isGreedy[i] as boolean))),
  }
}

function count(flags: readonly boolean[]): number {
  return flags.filter(Boolean).length
}

/**
 * Attempts after which a suffix has been written at least once with probability 1/2: ln(1 - 1/2) / ln(1 - p).
 * @param nats -ln p of the suffix
 */
export function triesFor(nats: number): number {
  const p = Math.exp(-nats)
  return p >= SUCCESS ? 1 : Math.log(1 - SUCCESS) / Math.log1p(-p)
}
