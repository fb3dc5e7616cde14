import type { Tensor } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { lowRankOf } from '../../src/model/low-rank.ts'
import { MergedWeight, materialised } from '../../src/model/merged-weight.ts'
import { expertRank, lowRankExperts, mixtureWeights, zeroRows } from '../../src/model/params.ts'
import { forward, head } from '../../src/model/transformer.ts'
import { type Param, type Params, wholeValues } from '../../src/model/weights.ts'
import { onnx as engine } from '../support/engines.ts'
import { goldenConfig as config } from '../support/golden.ts'
import { E, factored, fullExpert, maxDifference, merged, publicModel, text } from '../support/low-rank.ts'

const { hiddenSize: C, intermediateSize: F } = config

describe('lowRankOf', () => {
  const whole = fullExpert(1)

  it('keeps the expert and all its energy at full rank', async () => {
    const { expert, energyKept } = await lowRankOf(engine, whole, publicModel, Math.min(C, F))
    expect(energyKept).toBeCloseTo(1, 6)
    expect(expertRank(expert)).toBe(Math.min(C, F))
    for (const [key, weight] of materialised(expert, publicModel).ffn) {
      expect(maxDifference(await wholeValues(weight), (whole.ffn.get(key) as Param).data)).toBeLessThan(1e-6)
    }
  })

  it('keeps more energy at a higher rank, and all of it when repeated', async () => {
    const truncated = [1, 4, 12].map((rank) => lowRankOf(engine, whole, publicModel, rank))
    const kept = (await Promise.all(truncated)).map(({ energyKept }) => energyKept)
    expect(kept).toEqual([...kept].sort((a, b) => a - b))
    expect(kept[0]).toBeGreaterThan(0)
    expect(kept[2]).toBeLessThan(1)
    const { expert: four } = await lowRankOf(engine, whole, publicModel, 4)
    expect((await lowRankOf(engine, four, publicModel, 4)).energyKept).toBeCloseTo(1, 6)
  })
})

describe('a merged weight', () => {
  it.each([1, 3, 4, 9])('has the sums of a plain loop in every part that is read (rank %i)', async (rank) => {
    const [m, n] = [7, 12]
    const random = mulberry32(rank)
    const values = (count: number) => Float32Array.from({ length: count }, () => random() - 0.5)
    const [W, A, B] = [values(m * n), values(rank * n), values(m * rank)]
    const expected = W.map((w, at) => {
      let sum = w
      for (let k = 0; k < rank; k++)
        sum += (B[Math.floor(at / n) * rank + k] as number) * (A[k * n + (at % n)] as number)
      return sum
    })
    const param = (data: Float32Array, ...shape: number[]): Param => ({ shape, data })
    const merged = new MergedWeight(param(W, m, n), param(A, rank, n), param(B, m, rank))
    expect(await wholeValues(merged)).toEqual(expected)
    for (const [from, to] of [
      [0, 1],
      [5, 12],
      [5, 50],
      [12, 60],
      [30, m * n],
    ] as const) {
      const part = new Float32Array(to - from)
      await merged.read(part, from)
      expect(part).toEqual(expected.slice(from, to))
      const bytes = new Uint8Array(2 * (to - from))
      await merged.readBytes(bytes, 4 * from + 1)
      expect(bytes).toEqual(new Uint8Array(expected.buffer).slice(4 * from + 1, 4 * from + 1 + bytes.length))
    }
  })
})

describe('a mixture with low-rank experts', () => {
  it('gives the same logits as merged weights', async () => {
    const logitsOf = async (params: Params): Promise<Float32Array> => {
      const T = 16
      const compiled = await engine.compile(
        (tensors) => {
          const weights = (name: string): Tensor => tensors[name] as Tensor
          const init = { B: 1, T, E, topK: 2, bias: true, lowRank: lowRankExperts(params, E) }
          return { logits: head(weights, forward(config, weights, weights('ids'), init).hidden) }
        },
        { inputs: { ids: { shape: [1, T], dtype: 'int32' } }, frozen: Object.fromEntries(params) },
      )
      const out = await compiled.run({ ids: text.slice(0, T) })
      await compiled.dispose()
      return out['logits'] as Float32Array
    }
    const expected = await logitsOf(merged)
    expect(maxDifference(await logitsOf(factored), expected)).toBeLessThan(1e-4)
    const alone = mixtureWeights(config, publicModel, zeroRows(config), [
      fullExpert(8),
      fullExpert(6),
      fullExpert(8),
    ])
    expect(maxDifference(await logitsOf(alone), expected)).toBeGreaterThan(1e-2)
  })

  it('scores text as merged weights do', async () => {
    const scoreOf = async (params: Params) => {
      const init = { E, topK: 2, T: 16, endOfText: 0 }
      const evaluator = createEvaluator(engine, config, params, init)
      const result = await evaluator.evaluate([{ tokens: text, bytes: 40 }], { mask: new Float32Array(E) })
      await evaluator.dispose()
      return result
    }
    const [a, b] = [await scoreOf(factored), await scoreOf(merged)]
    expect(a.bitsPerByte).toBeCloseTo(b.bitsPerByte, 4)
    expect(maxDifference(a.loadShares, b.loadShares)).toBeLessThan(1e-4)
  })
})
