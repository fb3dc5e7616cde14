/** Grouped-query attention against multi-head attention with repeated heads of keys and values, which is the same. */

import { type Tensor, zeros } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { createGenerator, type GeneratorInit } from '../../src/inference/generate.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { denseName } from '../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { mixtureWeights, publicShapes, zeroRows } from '../../src/model/params.ts'
import { forward, head } from '../../src/model/transformer.ts'
import type { Param } from '../../src/model/weights.ts'
import { type Engine, sizeOf } from '../../src/tensor/engine.ts'
import { compileDenseStep } from '../../src/training/dense.ts'
import { onnx, optional, oracle } from '../support/engines.ts'

const GROUPED: ModelConfig = {
  vocabSize: 37,
  hiddenSize: 48,
  intermediateSize: 20,
  numHiddenLayers: 2,
  numAttentionHeads: 6,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 64,
  ropeTheta: 10_000,
  rmsNormEps: 1e-6,
}
const REPEATED: ModelConfig = { ...GROUPED, numKeyValueHeads: GROUPED.numAttentionHeads }
const D = GROUPED.hiddenSize / GROUPED.numAttentionHeads
const G = GROUPED.numAttentionHeads / GROUPED.numKeyValueHeads
const random = mulberry32(17)
const ids = Int32Array.from({ length: 24 }, (_, i) => (i * 11 + 5) % GROUPED.vocabSize)

const grouped = new Map<string, Param>(
  [...publicShapes(GROUPED)].map(([name, shape]) => {
    const offset = name.includes('norm') ? 1 : 0
    return [
      name,
      { shape, data: Float32Array.from({ length: sizeOf(shape) }, () => random() - 0.5 + offset) },
    ]
  }),
)

/** Repeats the rows (or gains) of every head of keys or values G times. */
function repeated(name: string, { shape, data }: Param): Param {
  if (!/\.(k_proj|v_proj|k_norm)\./.test(name)) return { shape, data }
  const width = (data.length / GROUPED.numKeyValueHeads) | 0
  const out = new Float32Array(data.length * G)
  for (let copy = 0; copy < GROUPED.numAttentionHeads; copy++) {
    const from = Math.floor(copy / G) * width
    out.set(data.subarray(from, from + width), copy * width)
  }
  return { shape: [(shape[0] as number) * G, ...shape.slice(1)], data: out }
}
const multiHead = new Map([...grouped].map(([name, param]) => [name, repeated(name, param)]))

async function logitsOf(config: ModelConfig, params: ReadonlyMap<string, Param>): Promise<Float32Array> {
  const compiled = await onnx.compile(
    (tensors) => {
      const weights = (name: string): Tensor =>
        tensors[denseName(name)] ?? (zeros([1, GROUPED.hiddenSize]) as Tensor)
      const init = { B: 2, T: 12, E: 1, topK: 1, bias: false }
      return { logits: head(weights, forward(config, weights, weights('ids'), init).hidden) }
    },
    { inputs: { ids: { shape: [2, 12], dtype: 'int32' } }, frozen: Object.fromEntries(params) },
  )
  const { logits } = await compiled.run({ ids })
  await compiled.dispose()
  return logits as Float32Array
}

async function greedy(
  engine: Engine,
  config: ModelConfig,
  params: ReadonlyMap<string, Param>,
  init: Partial<GeneratorInit> = {},
): Promise<number[]> {
  const mixture = mixtureWeights(config, params, zeroRows(config), [])
  const generator = await createGenerator(engine, config, mixture, {
    E: 1,
    topK: 1,
    contextLength: 60,
    ...init,
  })
  const found: number[] = []
  const request = {
    prompt: ids.subarray(0, 9),
    maxTokens: 20,
    sampling: { temperature: 0, topP: 1, seed: 1 },
    endsOfText: [],
    mask: new Float32Array(1),
  }
  for await (const { id } of generator.generate(request)) found.push(id)
  await generator.dispose()
  return found
}

function expectClose(actual: Float32Array, expected: Float32Array): void {
  expect(actual.length).toBe(expected.length)
  const scale = Math.max(...expected.map(Math.abs))
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - (actual[i] as number))))
  expect(worst).toBeLessThan(1e-5 * scale)
}

describe('grouped-query attention', () => {
  it('gives the same logits as repeated heads', async () => {
    expectClose(await logitsOf(GROUPED, grouped), await logitsOf(REPEATED, multiHead))
  })

  it('gives the gradients of repeated heads, summed over the copies', async () => {
    const labels = ids.map((id) => (id * 3 + 1) % GROUPED.vocabSize)
    const gradients = async (config: ModelConfig, params: ReadonlyMap<string, Param>) => {
      const step = await compileDenseStep(onnx, config, 2, 12)
      const out = await step.run({
        ids,
        labels,
        labelWeights: new Float32Array(24).fill(1),
        tokenScale: Float32Array.of(1 / 24),
        ...Object.fromEntries([...params].map(([name, { data }]) => [name, data])),
      })
      await step.dispose()
      return out
    }
    const own = await gradients(GROUPED, grouped)
    const copies = await gradients(REPEATED, multiHead)
    for (const name of grouped.keys()) {
      const actual = own[`d.${name}`] as Float32Array
      const other = copies[`d.${name}`] as Float32Array
      const expected = new Float32Array(actual.length)
      const width = actual.length / GROUPED.numKeyValueHeads
      for (let i = 0; i < other.length; i++) {
        const at = other.length === actual.length ? i : Math.floor(i / width / G) * width + (i % width)
        expected[at] = (expected[at] as number) + (other[i] as number)
      }
      expectClose(actual, expected)
    }
    expect(own[`d.model.layers.0.self_attn.k_norm.weight`]?.length).toBe(GROUPED.numKeyValueHeads * D)
  })

  it('gives the same text as repeated heads', async () => {
    const expected = await greedy(onnx, REPEATED, multiHead)
    expect(new Set(expected).size).toBeGreaterThan(3)
    expect(await greedy(onnx, GROUPED, grouped)).toEqual(expected)
    for (const { engine } of [...optional, { engine: oracle }])
      expect(await greedy(engine, GROUPED, grouped, { vectorThreads: 0 })).toEqual(expected)
  })

  it.each(['int8', 'int4'] as const)(
    'gives the same text as repeated heads in %s, which quantizes row by row',
    async (weights) => {
      const expected = await greedy(onnx, REPEATED, multiHead, { weights })
      expect(await greedy(onnx, GROUPED, grouped, { weights })).toEqual(expected)
    },
  )
})
