/**
 * What an attacker finds out about canaries: guesses, from scores alone, which of them were in the training text, and
 * the bound on epsilon that the right guesses give. Knows nothing about models.
 */
import { epsilonLowerBound, guessesFor } from './epsilon-bound.ts'

export interface CanaryAudit {
  readonly canaries: number
  readonly guesses: number
  readonly right: number
  /** Delta with which the bound was computed: that of the training's guarantee, 0 without one. */
  readonly delta: number
  /** Lower bound on epsilon, with 95 % confidence. */
  readonly epsilonLow: number
}

/**
 * Guesses that the canaries with the highest scores were in the text and those with the lowest were not.
 * @param scores by canary: how much better the expert predicts it than the public model
 * @param included whether each canary was in the text
 */
export function canaryAudit(
  scores: readonly number[],
  included: readonly boolean[],
  delta: number,
): CanaryAudit {
  const canaries = scores.length
  const guesses = guessesFor(canaries)
  const order = scores.map((_, i) => i).sort((a, b) => (scores[b] as number) - (scores[a] as number))
  const half = guesses / 2
  const isIn = order.slice(0, half).filter((i) => included[i] === true).length
  const isOut = order.slice(canaries - half).filter((i) => included[i] === false).length
  const right = isIn + isOut
  return {
    canaries,
    guesses,
    right,
    delta,
    epsilonLow: epsilonLowerBound({ canaries, guesses, right, delta }),
  }
}
