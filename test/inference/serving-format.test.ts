import { describe, expect, it } from 'vitest'
import { chooseFormat, type ServedMixture } from '../../src/inference/serving-format.ts'
import { heldWeightBytes, planBlocks } from '../../src/inference/weight-plan.ts'
import { matrixBytes } from '../../src/kernels/matrix-format.ts'
import type { FloatDtype } from '../../src/lib/float-formats.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { mixtureShapes } from '../../src/model/params.ts'
import type { WeightSource } from '../../src/model/weights.ts'

/** Shapes of OLMo-2 1B and 7B. */
const BASE = { maxPositionEmbeddings: 4096, ropeTheta: 500_000, rmsNormEps: 1e-6, vocabSize: 100_352 }
const ONE: ModelConfig = {
  ...BASE,
  ...{ hiddenSize: 2048, intermediateSize: 8192, numHiddenLayers: 16 },
  ...{ numAttentionHeads: 16, numKeyValueHeads: 16 },
}
const SEVEN: ModelConfig = {
  ...BASE,
  ...{ hiddenSize: 4096, intermediateSize: 11_008, numHiddenLayers: 32 },
  ...{ numAttentionHeads: 32, numKeyValueHeads: 32 },
}
const SMALL: ModelConfig = {
  ...BASE,
  ...{ vocabSize: 4096, hiddenSize: 256, intermediateSize: 768, numHiddenLayers: 4 },
  ...{ numAttentionHeads: 4, numKeyValueHeads: 4 },
}

const unread = (): Promise<void> => Promise.reject(new Error('a weight was read'))

/** A mixture in files that cannot be read. */
function mixture(config: ModelConfig, E: number, dtype: FloatDtype = 'BF16', threads = 2): ServedMixture {
  const weights = new Map(
    [...mixtureShapes(config, E)].map(([name, shape]): [string, WeightSource] => [
      name,
      { shape, dtype, read: unread, readBytes: unread },
    ]),
  )
  return { config, weights, E, threads }
}

const formatOf = (served: ServedMixture, budget: number): string =>
  chooseFormat(served, 'auto', budget).format

describe('chooseFormat', () => {
  it('chooses the most precise format that fits', () => {
    const served = mixture(ONE, 4)
    expect([60e9, 12e9, 8e9, 6e9, 4e9].map((budget) => formatOf(served, budget))).toEqual([
      'bf16',
      'bf16',
      'int8',
      'int8',
      'int4',
    ])
  })

  it('chooses fp32 for a large model only if it was published in more than bf16', () => {
    expect(formatOf(mixture(ONE, 4, 'F32'), 60e9)).toBe('fp32')
    expect(formatOf(mixture(ONE, 4, 'F32'), 12e9)).toBe('bf16')
  })

  it('serves a small model in fp32 with two copies, whatever its weights were published in', () => {
    expect(chooseFormat(mixture(SMALL, 4), 'auto', 100e6)).toMatchObject({ format: 'fp32', way: 'copy' })
  })

  it('leaves the memory of a GPU to its engine', () => {
    expect(chooseFormat(mixture(ONE, 4, 'BF16', 0), 'auto', 1e9)).toMatchObject({
      format: 'fp32',
      way: 'engine',
    })
  })

  it('says which format, how large, and why', () => {
    const { reason } = chooseFormat(mixture(ONE, 4), 'auto', 6e9)
    expect(reason).toMatch(
      /^weights in int8, 4\.\d GB: bf16 would take [89]\.\d GB, and the memory budget is 6\.0 GB$/,
    )
  })

  it('refuses a named format that does not fit, with the sizes of all formats', () => {
    const refused = (): unknown => chooseFormat(mixture(ONE, 4), 'fp32', 12e9)
    expect(refused).toThrow(expect.objectContaining({ code: 'out-of-memory' }))
    expect(refused).toThrow(
      /--weights fp32: .*fp32 17\.\d GB, bf16 \d\.\d GB, int8 \d\.\d GB, int4 \d\.\d GB/,
    )
    expect(chooseFormat(mixture(ONE, 4), 'int8', 12e9)).toMatchObject({ format: 'int8', way: 'held' })
  })

  it('refuses a composition that fits in no format', () => {
    expect(() => chooseFormat(mixture(SEVEN, 3), 'auto', 4e9)).toThrow(
      expect.objectContaining({ code: 'out-of-memory' }),
    )
  })

  it('refuses formats that the engine of a GPU does not have', () => {
    expect(() => chooseFormat(mixture(ONE, 4, 'BF16', 0), 'bf16', 60e9)).toThrow(
      expect.objectContaining({ code: 'usage' }),
    )
  })
})

describe('planBlocks', () => {
  const all = { config: SEVEN, ranks: [0, 0, 64] }

  it.each(['fp32', 'bf16', 'int8', 'int4'] as const)(
    'holds every row of every matrix of a 7B mixture once, in blocks below 4 GiB, in %s',
    (format) => {
      const blocks = planBlocks(all, format, 2 ** 32 - 2 ** 28, true)
      const rows = new Map<string, number>()
      let bytes = 0
      for (const { parts } of blocks) {
        let size = 0
        for (const { parameter, from, rows: count, width, format: held } of parts.flatMap(
          (part) => part.matrices,
        )) {
          expect(rows.get(parameter) ?? 0).toBe(from)
          rows.set(parameter, from + count)
          size += matrixBytes(held, count, width)
        }
        expect(size).toBeLessThanOrEqual(2 ** 32 - 2 ** 28)
        bytes += size
      }
      expect(rows.get('lm_head.weight')).toBe(SEVEN.vocabSize)
      // Seven matrices of the public model in each layer, three of the whole expert, six factors; head and embedding.
      expect(rows.size).toBe(32 * (7 + 3 + 6) + 2)
      expect(bytes).toBe(heldWeightBytes(all, format))
    },
  )

  it('adds a few percent for an expert of rank 64', () => {
    const without = heldWeightBytes({ ...all, ranks: [0, 0] }, 'int4')
    expect(heldWeightBytes(all, 'int4') / without).toBeLessThan(1.05)
  })
})
