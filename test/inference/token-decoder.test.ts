import { beforeEach, describe, expect, it } from 'vitest'
import { KvCache } from '../../src/inference/kv-cache.ts'
import type { WeightFormat } from '../../src/inference/weight-format.ts'
import { vocabularyFormat } from '../../src/inference/weight-plan.ts'
import { quantize } from '../../src/kernels/quantized.ts'
import { bf16FromFloat32, float32FromBf16 } from '../../src/lib/float-formats.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { mixtureShapes } from '../../src/model/params.ts'
import type { Params } from '../../src/model/weights.ts'
import { heldDecoder } from '../support/held-decoder.ts'
import { ReferenceDecoder } from '../support/reference-decoder.ts'

let random = mulberry32(7)
beforeEach(() => {
  random = mulberry32(7)
})
const BASE = { maxPositionEmbeddings: 64, ropeTheta: 10_000, rmsNormEps: 1e-6, numHiddenLayers: 2 }
const CONTEXT = 40

/** A random mixture whose weights vary enough that routing and tokens differ. */
function mixture(config: ModelConfig, E: number): Params {
  return new Map(
    [...mixtureShapes(config, E)].map(([name, shape]) => {
      const size = shape.reduce((a, b) => a * b, 1)
      const width = /norm|embed|mlp\.gate/.test(name) ? 1 : 1.5 / Math.sqrt(shape.at(-1) as number)
      const middle = name.includes('norm') ? 1 : 0
      const data = Float32Array.from({ length: size }, () => middle + (random() - 0.5) * width)
      return [name, { shape, data }]
    }),
  )
}

/** The parameters as numbers that the format can hold. */
function rounded(params: Params, format: WeightFormat): Params {
  return new Map(
    [...params].map(([name, param]) => {
      if (!/proj|lm_head/.test(name)) return [name, param]
      const [rows, width] = param.shape as [number, number]
      const held = name === 'lm_head.weight' ? vocabularyFormat(format) : format
      if (held === 'fp32') return [name, param]
      if (held === 'bf16') return [name, { ...param, data: float32FromBf16(bf16FromFloat32(param.data)) }]
      const bits = held === 'int8' ? 8 : 4
      const { packed, scales } = quantize(param.data, rows, width, bits)
      const zero = 2 ** (bits - 1)
      const data = Float32Array.from({ length: param.data.length }, (_, i) => {
        const byte = packed[(i * bits) >> 3] as number
        const integer = bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15
        return (integer - zero) * (scales[i >> 5] as number)
      })
      return [name, { shape: param.shape, data }]
    }),
  )
}

describe('TokenDecoder', () => {
  const shapes: readonly [string, ModelConfig, number, number, WeightFormat][] = [
    [
      'heads of 12 channels that share keys, odd vocabulary',
      {
        ...BASE,
        ...{ vocabSize: 37, hiddenSize: 36, intermediateSize: 20, numAttentionHeads: 3, numKeyValueHeads: 1 },
      },
      5,
      2,
      'fp32',
    ],
    [
      'heads of 4 channels, all experts chosen',
      {
        ...BASE,
        ...{ vocabSize: 33, hiddenSize: 12, intermediateSize: 4, numAttentionHeads: 3, numKeyValueHeads: 3 },
      },
      3,
      3,
      'fp32',
    ],
    [
      'matrices of several tiles',
      {
        ...BASE,
        ...{
          vocabSize: 130,
          hiddenSize: 80,
          intermediateSize: 1412,
          numAttentionHeads: 4,
          numKeyValueHeads: 2,
        },
      },
      3,
      2,
      'fp32',
    ],
    [
      'weights of 8 bits',
      {
        ...BASE,
        ...{
          vocabSize: 39,
          hiddenSize: 96,
          intermediateSize: 160,
          numAttentionHeads: 8,
          numKeyValueHeads: 2,
        },
      },
      5,
      2,
      'int8',
    ],
    [
      'weights of 4 bits',
      {
        ...BASE,
        ...{
          vocabSize: 39,
          hiddenSize: 96,
          intermediateSize: 160,
          numAttentionHeads: 8,
          numKeyValueHeads: 1,
        },
      },
      5,
      3,
      'int4',
    ],
    [
      'weights in bf16',
      {
        ...BASE,
        ...{ vocabSize: 39, hiddenSize: 40, intermediateSize: 88, numAttentionHeads: 5, numKeyValueHeads: 1 },
      },
      5,
      2,
      'bf16',
    ],
  ]
  it.each(shapes)('equals the reference in double precision: %s', async (_, config, E, topK, format) => {
    const params = mixture(config, E)
    const exact = rounded(params, format)
    for (const streams of [1, 3, 7, 18]) {
      const init = { E, topK, contextLength: CONTEXT, streams, threads: 2 }
      const { decoder, dispose } = await heldDecoder(config, params, format, init)
      const cache = new KvCache(config, E, streams, CONTEXT, decoder.memory)
      const references = Array.from({ length: streams }, () => new ReferenceDecoder(config, exact, topK))
      const lengths = references.map(() => 0)
      for (const B of [streams, Math.max(1, streams - 1), streams]) {
        const ids = Int32Array.from({ length: B }, () => Math.floor(random() * config.vocabSize))
        const routings = Array.from({ length: B }, () => ({ mask: new Float32Array(E) }))
        await cache.ensure(B, Math.max(...lengths) + 1)
        const { logits } = await decoder.forward(cache, { ids, lengths: lengths.slice(0, B), routings })
        for (let b = 0; b < B; b++) {
          const expected = (references[b] as ReferenceDecoder).step(ids[b] as number)
          const scale = Math.max(...expected.map(Math.abs))
          const worst = Math.max(
            ...expected.map((z, i) => Math.abs(z - (logits[b * config.vocabSize + i] as number)) / scale),
          )
          expect(worst).toBeLessThan(format === 'fp32' || format === 'bf16' ? 1e-5 : 4e-3)
          lengths[b] = (lengths[b] as number) + 1
        }
      }
      await dispose()
    }
  })
})
