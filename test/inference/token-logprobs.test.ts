/** Log-probabilities of tokens from logits. */
import { describe, expect, it } from 'vitest'
import { negativeLogLikelihood, scoreToken } from '../../src/inference/token-logprobs.ts'
import { mulberry32 } from '../../src/lib/random.ts'

describe('a score', () => {
  it('has the logarithms of the probabilities, and the most likely tokens in their order', () => {
    const random = mulberry32(1)
    const logits = Float32Array.from({ length: 500 }, () => Math.round(20 * random()))
    const total = logits.reduce((sum, z) => sum + Math.exp(z), 0)
    const byLikelihood = [...logits.keys()].sort(
      (a, b) => (logits[b] as number) - (logits[a] as number) || a - b,
    )
    const { id, logprob, top } = scoreToken(logits, 7, 20)
    expect([id, top.map((token) => token.id)]).toEqual([7, byLikelihood.slice(0, 20)])
    for (const token of [{ id, logprob }, ...top])
      expect(Math.exp(token.logprob)).toBeCloseTo(Math.exp(logits[token.id] as number) / total, 10)
    expect(negativeLogLikelihood(logits, 7)).toBe(-logprob)
  })

  it.each([
    ['logits too large for an exponential', Float32Array.of(1000, 999), 1, -Math.log(1 + Math.E)],
    ['a token that is impossible', Float32Array.of(1, -Infinity), 1, -Infinity],
    ['the only token', Float32Array.of(-5000), 0, 0],
  ])('exists for %s', (_, logits, id, expected) => {
    expect(scoreToken(logits, id, 1).logprob).toBeCloseTo(expected, 6)
    expect(scoreToken(logits, id, 0).top).toEqual([])
    expect(scoreToken(logits, id, 9).top).toHaveLength(logits.length)
  })
})
