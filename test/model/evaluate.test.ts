import { describe, expect, it } from 'vitest'
import { wholeGraphScores } from '../../scripts/parity/whole-graph.ts'
import { biasName } from '../../src/lib/tensor-names.ts'
import { createEvaluator, type Evaluation, type EvaluatorInit } from '../../src/model/evaluate.ts'
import { LEFT_OUT, type SequenceRouting } from '../../src/model/routing-plan.ts'
import type { Params, WeightMap } from '../../src/model/weights.ts'
import { onnx, oracle } from '../support/engines.ts'
import { golden, goldenConfig, goldenMixture } from '../support/golden.ts'
import { ALL, E, GATED, params, prompt, WITHOUT_1 } from '../support/golden-generator.ts'
import { E as FACTORED_E, factored } from '../support/low-rank.ts'

describe('shares of the routing weight by layer', () => {
  const [, chosen] = Object.entries(golden.cases).find(
    ([, { experts, top_k }]) => top_k < experts.length,
  ) as [string, (typeof golden.cases)[string]]
  const E = chosen.experts.length
  const ids = golden.input_ids
  // The window of an evaluator begins with end-of-text, which is the first token of the golden vectors here.
  const document = { tokens: Int32Array.from([...ids.slice(1), 0]), bytes: 100 }
  const init = { E, topK: chosen.top_k, T: ids.length, endOfText: ids[0] as number }

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
      const evaluator = createEvaluator(engine, goldenConfig, mixture(), init)
      const { layerShares } = await evaluator.evaluate([document], { mask: new Float32Array(E) })
      await evaluator.dispose()
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
      const evaluator = createEvaluator(engine, goldenConfig, mixture(), init)
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

/** Texts of one window each, so that the oracle scores them as one sequence; the second is shorter than a window. */
const T = 24
const texts = [T, 9, T].map((length, i) => Int32Array.from(prompt(length, 3 + i)))
const documents = texts.map((tokens) => ({ tokens, bytes: tokens.length }))

/** Bits per byte, load shares and layer shares of the document, as one list. */
const numbers = ({
  bitsPerByte,
  loadShares,
  layerShares,
}: Omit<Evaluation, 'documents' | 'tokens' | 'bytes'>) => [bitsPerByte, ...loadShares, ...layerShares.flat()]

/** A mixture whose weights are read like those of files, and how often each was read. */
function readFrom(params: Params): { weights: WeightMap; reads: Map<string, number> } {
  const reads = new Map<string, number>()
  const weights = new Map(
    [...params].map(([name, { shape, data }]) => [
      name,
      {
        shape,
        dtype: 'F32' as const,
        read: async (into: Float32Array, from: number): Promise<void> => {
          reads.set(name, (reads.get(name) ?? 0) + 1)
          into.set(data.subarray(from, from + into.length))
        },
        readBytes: () => Promise.reject(new Error('values are read, not bytes')),
      },
    ]),
  )
  return { weights, reads }
}

describe('scores layer by layer', () => {
  const unequal: SequenceRouting = { mask: Float32Array.of(0, -1.5, 0) }
  const routings = [{ mask: ALL }, GATED, { mask: WITHOUT_1 }, unequal, { mask: ALL }]
  const init: EvaluatorInit = { E, topK: 2, T, endOfText: 0 }

  it.each([onnx, oracle])(
    'equal those of the whole graph, for every routing of one pass: $name',
    async (engine) => {
      const evaluator = createEvaluator(engine, goldenConfig, params, init)
      const scores = await evaluator.evaluateAll(
        documents.map((document) => ({ documents: [document], routings })),
      )
      await evaluator.dispose()
      for (const [text, tokens] of texts.entries()) {
        for (const [i, routing] of routings.entries()) {
          const whole = await wholeGraphScores(engine, goldenConfig, params, init, tokens, routing)
          const expected = numbers({ ...whole, bitsPerByte: whole.nats / Math.LN2 / tokens.length })
          const found = numbers(scores[text]?.[i] as Evaluation)
          const errors = found.map((x, n) => Math.abs(x - (expected[n] as number)) / Math.max(1, Math.abs(x)))
          expect(Math.max(...errors)).toBeLessThan(1e-6)
        }
      }
    },
  )

  it('equal those of the whole graph with whole and low-rank experts', async () => {
    const all = { E: FACTORED_E, topK: 2, T, endOfText: 0 }
    const routing = { mask: new Float32Array(FACTORED_E) }
    const evaluator = createEvaluator(onnx, goldenConfig, factored, all)
    const found = numbers(await evaluator.evaluate(documents.slice(0, 1), routing))
    await evaluator.dispose()
    const whole = await wholeGraphScores(onnx, goldenConfig, factored, all, texts[0] as Int32Array, routing)
    const expected = numbers({ ...whole, bitsPerByte: whole.nats / Math.LN2 / T })
    const errors = found.map((x, n) => Math.abs(x - (expected[n] as number)) / Math.max(1, Math.abs(x)))
    expect(Math.max(...errors)).toBeLessThan(1e-6)
  })

  it('do not depend on the memory for streams', async () => {
    const scoresWith = async (streamBytes: number): Promise<number[]> => {
      const evaluator = createEvaluator(onnx, goldenConfig, params, { ...init, streamBytes })
      // More windows than one batch.
      const many = Array.from({ length: 7 }, () => documents).flat()
      const [scores] = await evaluator.evaluateAll([{ documents: many, routings }])
      await evaluator.dispose()
      return (scores as Evaluation[]).flatMap(numbers)
    }
    expect(await scoresWith(1)).toEqual(await scoresWith(2 ** 20))
  })

  it('read every weight once for all texts and routings', async () => {
    const { weights, reads } = readFrom(params)
    const evaluator = createEvaluator(onnx, goldenConfig, weights, init)
    await evaluator.evaluateAll(documents.map((document) => ({ documents: [document], routings })))
    await evaluator.dispose()
    const twice = [...reads].filter(([name, count]) => count > 1 && !name.includes('layernorm')) // Two steps use a norm each.
    expect(twice).toEqual([])
    expect([...weights.keys()].filter((name) => !reads.has(name))).toEqual([])
  })

  it('read no weights of experts to which no token is routed', async () => {
    const { weights, reads } = readFrom(params)
    const evaluator = createEvaluator(onnx, goldenConfig, weights, init)
    await evaluator.evaluate(documents, { mask: WITHOUT_1 })
    await evaluator.dispose()
    expect([...reads.keys()].filter((name) => name.includes('experts.1.'))).toEqual([])
  })

  it('report the share that is done up to 1, and stop between two steps', async () => {
    const abort = new AbortController()
    const shares: number[] = []
    const evaluator = createEvaluator(onnx, goldenConfig, params, init)
    await evaluator.evaluate(documents, GATED, { onProgress: (share) => shares.push(share) })
    const stopped = evaluator.evaluate(documents, GATED, {
      signal: abort.signal,
      onProgress: () => abort.abort(new Error('stopped')),
    })
    await expect(stopped).rejects.toThrow('stopped')
    await evaluator.dispose()
    expect(shares).toEqual([...shares].sort((a, b) => a - b))
    expect(shares.length).toBeGreaterThan(2 * goldenConfig.numHiddenLayers)
    expect(shares.at(-1)).toBeCloseTo(1, 9)
  })
})
