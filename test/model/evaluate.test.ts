import { describe, expect, it } from 'vitest'
import { biasName } from '../../src/lib/tensor-names.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import { onnx, oracle } from '../support/engines.ts'
import { golden, goldenConfig, goldenMixture } from '../support/golden.ts'
import { E, GATED, params, prompt } from '../support/golden-generator.ts'

it('an evaluator without gates refuses a gate', async () => {
  const tokens = Int32Array.from(prompt(50, 1))
  const plain = await createEvaluator(onnx, goldenConfig, params, { E, topK: 2, endOfText: 0 })
  await expect(plain.evaluate([{ tokens, bytes: 50 }], GATED)).rejects.toThrow('without a gate')
  await plain.dispose()
})

describe('shares of the routing weight by layer', () => {
  const [, chosen] = Object.entries(golden.cases).find(
    ([, { experts, top_k }]) => top_k < experts.length,
  ) as [string, (typeof golden.cases)[string]]
  const E = chosen.experts.length
  const ids = golden.input_ids
  // The window of an evaluator begins with end-of-text, which is the first token of the golden vectors here.
  const document = { tokens: Int32Array.from([...ids.slice(1), 0]), bytes: 100 }
  const init = { E, topK: chosen.top_k, B: 2, T: ids.length, endOfText: ids[0] as number }

  function mixture() {
    const params = goldenMixture(chosen.experts)
    for (let layer = 0; layer < goldenConfig.numHiddenLayers; layer++) {
      const bias = chosen.bias?.[layer] ?? new Array<number>(E - 1).fill(0)
      params.set(biasName(layer), { shape: [E], data: Float32Array.from([0, ...bias]) })
    }
    return params
  }

  it.each([onnx, oracle])(
    'are those of the golden vectors, relative to the chosen experts: $name',
    async (engine) => {
      const evaluator = await createEvaluator(engine, goldenConfig, mixture(), init)
      const scored: number[] = []
      const { layerShares } = await evaluator.evaluate(
        [document],
        { mask: new Float32Array(E) },
        undefined,
        (windows) => scored.push(windows),
      )
      await evaluator.dispose()
      expect(scored).toEqual([1])
      const expected = chosen.layers.map(({ topk_index, topk_weight }) => {
        const shares = new Array<number>(E).fill(0)
        topk_index.forEach((indexes, token) => {
          const weights = topk_weight[token] as number[]
          const total = weights.reduce((a, b) => a + b, 0)
          indexes.forEach((e, i) => {
            shares[e] = (shares[e] as number) + (weights[i] as number) / total / ids.length
          })
        })
        return shares
      })
      expect(layerShares).toHaveLength(expected.length)
      const errors = layerShares.flatMap((shares, l) =>
        shares.map((x, e) => Math.abs(x - (expected[l]?.[e] as number))),
      )
      expect(Math.max(...errors)).toBeLessThan(1e-5)
    },
  )

  it.each([onnx, oracle])(
    'are 0 for an expert that is left out, and still sum to 1: $name',
    async (engine) => {
      const evaluator = await createEvaluator(engine, goldenConfig, mixture(), init)
      const mask = new Float32Array(E)
      mask[E - 1] = LEFT_OUT
      const { layerShares } = await evaluator.evaluate([document], { mask })
      await evaluator.dispose()
      for (const shares of layerShares) {
        expect(shares[E - 1]).toBe(0)
        expect(shares.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5)
      }
    },
  )
})
