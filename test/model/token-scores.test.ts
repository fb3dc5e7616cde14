import { describe, expect, it } from 'vitest'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { scoreTokens, type TokenScores } from '../../src/model/token-scores.ts'
import { onnx, oracle } from '../support/engines.ts'
import { goldenConfig } from '../support/golden.ts'
import { ALL, E, params, prompt, WITHOUT_1 } from '../support/golden-generator.ts'

const END_OF_TEXT = 0
const TOP_K = 2
const mixture = (engine: typeof onnx) => ({
  engine,
  config: goldenConfig,
  weights: params,
  E,
  topK: TOP_K,
  endOfText: END_OF_TEXT,
})
const SEQUENCES = [24, 9, 17].map((length, i) => Int32Array.from(prompt(length, 3 + i)))
const ROUTINGS = [{ mask: ALL }, { mask: WITHOUT_1 }]

describe.each([onnx, oracle])('the scores of tokens: $name', (engine) => {
  it('sum to the loss that an evaluation finds, by routing and sequence', async () => {
    const scores = await scoreTokens(mixture(engine), SEQUENCES, ROUTINGS)
    const evaluator = createEvaluator(engine, goldenConfig, params, {
      E,
      topK: TOP_K,
      endOfText: END_OF_TEXT,
    })
    for (const [r, routing] of ROUTINGS.entries()) {
      for (const [i, tokens] of SEQUENCES.entries()) {
        const { bitsPerByte } = await evaluator.evaluate([{ tokens, bytes: 1 }], routing)
        const { nats } = (scores[r] as TokenScores[])[i] as TokenScores
        expect(nats).toHaveLength(tokens.length)
        const bits = nats.reduce((a, b) => a + b, 0) / Math.LN2
        expect(Math.abs(bits - bitsPerByte)).toBeLessThan(1e-4 * bitsPerByte)
      }
    }
    await evaluator.dispose()
  })

  it('compare the token with the whole vocabulary, and find the greedy one', async () => {
    const { vocabSize: V } = goldenConfig
    const start = prompt(7, 5)
    // One sequence for each token that could come last gives its log-probability.
    const each = Array.from({ length: V }, (_, v) => Int32Array.of(...start, v))
    const [all = []] = await scoreTokens(mixture(engine), each, [{ mask: ALL }])
    const logs = all.map(({ nats }) => -(nats.at(-1) as number))
    const weighted = (value: (log: number) => number): number =>
      logs.reduce((sum, log) => sum + Math.exp(log) * value(log), 0)
    expect(weighted(() => 1)).toBeCloseTo(1, 4)
    const mean = weighted((log) => log)
    const deviation = Math.sqrt(weighted((log) => (log - mean) ** 2))
    all.forEach(({ standard }, v) => {
      const expected = ((logs[v] as number) - mean) / deviation
      expect(Math.abs((standard.at(-1) as number) - expected)).toBeLessThan(1e-2)
    })
    const best = logs.indexOf(Math.max(...logs))
    expect(all[best]?.greedy.at(-1)).toBe(1)
    expect(all.filter(({ greedy }) => greedy.at(-1) === 1)).toHaveLength(1)
  })
})

describe('a sequence', () => {
  it.each([0, 129])('of %i tokens is refused', async (length) => {
    await expect(scoreTokens(mixture(onnx), [new Int32Array(length)], ROUTINGS)).rejects.toThrow(
      `expected sequences of 1 to 128 tokens, got ${length}`,
    )
  })
})
