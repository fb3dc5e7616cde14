import { beforeEach, describe, expect, it } from 'vitest'
import { KvCache } from '../../src/inference/kv-cache.ts'
import { QuantizedParams } from '../../src/inference/quantized-params.ts'
import { TokenDecoder } from '../../src/inference/token-decoder.ts'
import { weightLayoutBytes } from '../../src/inference/weight-layout.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { mixtureShapes } from '../../src/model/params.ts'
import type { Params } from '../../src/model/weights.ts'
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

/** The parameters after quantization and back. */
function dequantized(params: Params, quantized: QuantizedParams): Params {
  return new Map(
    [...params].map(([name, param]) => {
      if (!/proj|lm_head/.test(name)) return [name, param]
      const { packed, scales, bits } = quantized.of(name)
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
  const shapes: readonly [string, ModelConfig, number, number, 8 | 4 | undefined][] = [
    [
      'heads of 12 channels that share keys, odd vocabulary',
      {
        ...BASE,
        ...{ vocabSize: 37, hiddenSize: 36, intermediateSize: 20, numAttentionHeads: 3, numKeyValueHeads: 1 },
      },
      5,
      2,
      undefined,
    ],
    [
      'heads of 4 channels, all experts chosen',
      {
        ...BASE,
        ...{ vocabSize: 33, hiddenSize: 12, intermediateSize: 4, numAttentionHeads: 3, numKeyValueHeads: 3 },
      },
      3,
      3,
      undefined,
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
      undefined,
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
      8,
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
      4,
    ],
  ]
  it.each(shapes)('equals the reference in double precision: %s', async (_, config, E, topK, bits) => {
    const params = mixture(config, E)
    const quantized = bits === undefined ? undefined : new QuantizedParams(params, bits)
    const exact = quantized === undefined ? params : dequantized(params, quantized)
    for (const streams of [1, 3, 7, 18]) {
      const init = { E, topK, contextLength: CONTEXT, streams, threads: 2 }
      const decoder = await TokenDecoder.create(config, params, quantized, init)
      const cache = new KvCache(config, E, streams, CONTEXT, decoder.memory)
      const references = Array.from({ length: streams }, () => new ReferenceDecoder(config, exact, topK))
      const lengths = references.map(() => 0)
      for (const B of [streams, Math.max(1, streams - 1), streams]) {
        const ids = Int32Array.from({ length: B }, () => Math.floor(random() * config.vocabSize))
        const routings = Array.from({ length: B }, () => ({ mask: new Float32Array(E) }))
        cache.ensure(B, Math.max(...lengths) + 1)
        const { logits } = await decoder.forward(cache, { ids, lengths: lengths.slice(0, B), routings })
        for (let b = 0; b < B; b++) {
          const expected = (references[b] as ReferenceDecoder).step(ids[b] as number)
          const scale = Math.max(...expected.map(Math.abs))
          const worst = Math.max(
            ...expected.map((z, i) => Math.abs(z - (logits[b * config.vocabSize + i] as number)) / scale),
          )
          expect(worst).toBeLessThan(bits === undefined ? 1e-5 : 2e-3)
          lengths[b] = (lengths[b] as number) + 1
        }
      }
      await decoder.dispose()
    }
  })
})

describe('weightLayoutBytes', () => {
  const small: ModelConfig = {
    ...BASE,
    ...{ vocabSize: 64, hiddenSize: 64, intermediateSize: 128, numAttentionHeads: 4, numKeyValueHeads: 4 },
  }
  const floats = 2 * 4 * 64 * 64 + 64 * 64 + 2 * 3 * 64
  const ffn = 2 * 3 * 64 * 128

  it('counts the trunk and every expert, in floats or quantized', () => {
    expect(weightLayoutBytes(small, 3, undefined, 4)).toBe(4 * (floats + 3 * ffn))
    const quantized = weightLayoutBytes(small, 3, 8, 4)
    expect(quantized).toBeGreaterThan(floats + 3 * ffn)
    expect(quantized).toBeLessThan(1.2 * (floats + 3 * ffn))
  })

  it('is infinite if the kernels do not support the widths of the model', () => {
    const heads = { numAttentionHeads: 32, numKeyValueHeads: 32 }
    expect(weightLayoutBytes({ ...small, ...heads }, 3, undefined, 4)).toBe(Number.POSITIVE_INFINITY)
    expect(weightLayoutBytes({ ...small, intermediateSize: 126 }, 3, undefined, 4)).toBe(
      Number.POSITIVE_INFINITY,
    )
    expect(weightLayoutBytes({ ...small, intermediateSize: 132 }, 3, undefined, 4)).toBeLessThan(2 ** 20)
    expect(weightLayoutBytes({ ...small, intermediateSize: 132 }, 3, 8, 4)).toBe(Number.POSITIVE_INFINITY)
  })

  it('is infinite if a block would need addresses of more than 32 bits', () => {
    const large = { ...small, vocabSize: 2 ** 24 - 2 ** 17 }
    expect(weightLayoutBytes(large, 3, undefined, 1)).toBe(Number.POSITIVE_INFINITY)
    const fits = { ...small, vocabSize: 2 ** 23 }
    expect(weightLayoutBytes(fits, 3, undefined, 1)).toBeLessThan(2 ** 32)
    expect(weightLayoutBytes(fits, 3, undefined, 64)).toBe(Number.POSITIVE_INFINITY)
  })
})
