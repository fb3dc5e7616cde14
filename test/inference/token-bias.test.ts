/** Logits with the biases and penalties of a request. */
import { describe, expect, it } from 'vitest'
import { biasTokens, penalizeRepetition } from '../../src/inference/token-bias.ts'

describe('a bias', () => {
  it('is added to the logits of its tokens alone, however often a token was chosen', () => {
    const processor = biasTokens(
      new Map([
        [1, 2.5],
        [3, -100],
      ]),
    )
    processor.observe(1)
    const logits = Float32Array.of(0, 1, 2, 3)
    processor.apply(logits)
    expect([...logits]).toEqual([0, 3.5, 2, -97])
  })
})

describe('penalties', () => {
  it('are subtracted once for a token of the answer, and once for each time that the answer has it', () => {
    const processor = penalizeRepetition({ presence: 0.5, frequency: 0.25 })
    const apply = (): number[] => {
      const logits = new Float32Array(4).fill(1)
      processor.apply(logits)
      return [...logits]
    }
    expect(apply()).toEqual([1, 1, 1, 1])
    processor.observe(2)
    expect(apply()).toEqual([1, 1, 0.25, 1])
    processor.observe(2)
    processor.observe(0)
    expect(apply()).toEqual([0.25, 1, 0, 1])
  })
})
