/**
 * A lower bound on the epsilon of a training from one run (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846): m
 * canaries are each in the training text with probability a half, and an attacker who guesses which ones is right more
 * often than epsilon allows. Knows nothing about canaries or models.
 */
import { atLeast, binomial, bisect } from './binomial.ts'

/** Probability with which the bound may lie above the true epsilon. */
const SIGNIFICANCE = 0.05
/** No number of guesses certifies more. */
const MAX_EPSILON = 64

export interface Guesses {
  /** Number of canaries, each of which was in the text with probability a half. */
  readonly canaries: number
  /** Number of canaries about which the attacker has guessed. */
  readonly guesses: number
  /** Number of right guesses. */
  readonly right: number
  /** Delta of the guarantee. */
  readonly delta: number
}

/**
 * Number of guesses about `canaries` canaries: half of them, an even number, so that a quarter is guessed to be in the
 * text and a quarter to be left out of it. It depends on the number of canaries alone, because a number that is chosen
 * after the scores were seen would be one of many attempts and the bound would no longer hold. Guessing about fewer
 * canaries certifies less when all guesses are right (m = 500: 4.4, against 5.1 for all 500); guessing about more adds
 * those whose scores say least.
 */
export function guessesFor(canaries: number): number {
  return 2 * Math.floor(canaries / 4)
}

/**
 * The largest epsilon that the guesses refute: with probability 95 %, a training with (epsilon, delta)-differential
 * privacy has at least this epsilon. 0 if they refute none.
 */
export function epsilonLowerBound(guesses: Guesses): number {
  if (pValue(guesses, 0) >= SIGNIFICANCE) return 0
  return bisect(0, MAX_EPSILON, (epsilon) => pValue(guesses, epsilon) < SIGNIFICANCE)
}

/**
 * Probability of at least `right` right guesses about an (epsilon, delta)-private training, at most: the binomial tail,
 * and what delta adds to it (theorem 5.2 of the paper).
 */
function pValue({ canaries, guesses, right, delta }: Guesses, epsilon: number): number {
  const probabilities = binomial(guesses, 1 / (1 + Math.exp(-epsilon)))
  let below = 0
  let most = 0
  for (let i = 1; i <= right; i++) {
    below += probabilities[right - i] as number
    most = Math.max(most, below / i)
  }
  return Math.min(1, atLeast(probabilities, right) + 2 * canaries * delta * most)
}
