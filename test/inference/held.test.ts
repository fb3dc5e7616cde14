/** Serving from weights that are held once, as for models that are too large for a second copy. */
import { describe, expect, it } from 'vitest'
import { referenceMixture } from '../../scripts/bench/inference/reference-models.ts'
import { createGenerator, type GeneratorInit } from '../../src/inference/generate.ts'
import { HeldWeights } from '../../src/inference/held-weights.ts'
import { ranksOf } from '../../src/inference/serving-way.ts'
import type { WeightFormat } from '../../src/inference/weight-format.ts'
import {
  fillWeights,
  type KeptCodes,
  type KeptReader,
  type KeptWriter,
  type Section,
} from '../../src/inference/weight-loader.ts'
import { readRow } from '../../src/kernels/coded-matrix.ts'
import { quantize } from '../../src/kernels/quantized.ts'
import { VectorThreads } from '../../src/kernels/vector-threads.ts'
import { InputError } from '../../src/lib/errors.ts'
import { bf16FromFloat32, float32FromBf16 } from '../../src/lib/float-formats.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import {
  type Param,
  type Params,
  requireWeight,
  type WeightMap,
  type WeightSource,
} from '../../src/model/weights.ts'
import { onnx as engine } from '../support/engines.ts'

const E = 4
const CONTEXT = 80
/** Widths are multiples of a quantization block; the vocabulary is odd. */
const config: ModelConfig = {
  ...{ vocabSize: 101, hiddenSize: 64, intermediateSize: 96, numHiddenLayers: 3 },
  ...{ numAttentionHeads: 4, numKeyValueHeads: 2 },
  ...{ maxPositionEmbeddings: CONTEXT, ropeTheta: 10_000, rmsNormEps: 1e-6 },
}
const floats: Params = referenceMixture(config, E, 5)
const text = Int32Array.from({ length: CONTEXT }, (_, i) => (i * 37 + 11) % config.vocabSize)

/** Whether a weight is a norm or router rows, which are held as floats. */
function isSmall(name: string, { shape }: Param): boolean {
  return shape.length < 2 || name.includes('mlp.gate.')
}

/** The weights as numbers that bf16 can hold; small ones stay as they are. */
const bf16: Params = new Map(
  [...floats].map(([name, param]): [string, Param] => [
    name,
    isSmall(name, param) ? param : { ...param, data: float32FromBf16(bf16FromFloat32(param.data)) },
  ]),
)

interface Served {
  readonly ids: number[][]
  readonly nats: number
}

/** Greedy tokens of prompts of several lengths at once, one of which leaves an expert out, and a score. */
async function served(params: WeightMap, init: Partial<GeneratorInit>): Promise<Served> {
  const generator = await createGenerator(engine, config, params, {
    ...{ E, topK: 2, contextLength: CONTEXT, vectorThreads: 2, way: 'held', ...init },
  })
  const ids = await Promise.all(
    [1, 3, 8, 9, 20, 60].map(async (length, i) => {
      const mask = Float32Array.from({ length: E }, (_, e) => (i === 2 && e === 1 ? LEFT_OUT : 0))
      const request = {
        prompt: text.subarray(i, i + length),
        maxTokens: 12,
        sampling: { temperature: 0, topP: 1, seed: 1 },
        endsOfText: [],
        mask,
      }
      const found: number[] = []
      for await (const { id } of generator.generate(request)) found.push(id)
      return found
    }),
  )
  const nats = await generator.score(text, { mask: new Float32Array(E) })
  await generator.dispose()
  return { ids, nats }
}

describe('serving from held weights', () => {
  it.each([
    ['in one block for each expert', {}],
    ['in several blocks for each expert', { blockBytes: 160_000 }],
    ['with prompts that are read in several parts', { prefillTokens: 34 }],
    ['with more requests than streams', { streams: 2 }],
  ])('chooses the same tokens as two copies, %s', async (_, init) => {
    const expected = await served(floats, { way: 'copy' })
    const found = await served(floats, { way: 'held', ...init })
    expect(found.ids).toEqual(expected.ids)
    expect(found.nats).toBeCloseTo(expected.nats, 2)
    expect(new Set(expected.ids.flat()).size).toBeGreaterThan(10)
  })

  it('computes the stream from which the head computes its scores, as two copies do', async () => {
    const routing = { mask: new Float32Array(E) }
    const { signal } = new AbortController()
    const means: Float32Array[] = []
    for (const way of ['copy', 'held', 'engine'] as const) {
      const generator = await createGenerator(engine, config, floats, {
        ...{ E, topK: 2, contextLength: CONTEXT, vectorThreads: 2, way, prefillTokens: 34 },
      })
      means.push(await generator.meanStream({ tokens: text, from: 3, routing, signal }))
      // The stream of one token gives the score of the next one.
      const [first, next] = [text[0] as number, text[1] as number]
      const stream = await generator.meanStream({ tokens: Int32Array.of(first), from: 0, routing, signal })
      const head = floats.get('lm_head.weight')?.data as Float32Array
      const logits = Array.from({ length: config.vocabSize }, (_, v) =>
        stream.reduce((sum, x, c) => sum + x * (head[v * config.hiddenSize + c] as number), 0),
      )
      const nats = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0)) - (logits[next] as number)
      expect(nats).toBeCloseTo(await generator.score(text.subarray(0, 2), routing), 3)
      await generator.dispose()
    }
    const [copy, held, alone] = means.map((mean) => Array.from(mean))
    copy?.forEach((value, c) => {
      expect(held?.[c]).toBeCloseTo(value, 3)
      expect(alone?.[c]).toBeCloseTo(value, 3)
    })
  })

  it('chooses the same tokens in bf16 as in fp32, if the weights are numbers of bf16', async () => {
    const expected = await served(bf16, { way: 'copy' })
    const found = await served(bf16, { weights: 'bf16' })
    expect(found.ids).toEqual(expected.ids)
    expect(found.nats).toBeCloseTo(expected.nats, 2)
  })

  it.each(['int8', 'int4'] as const)('costs little accuracy in %s', async (weights) => {
    const { nats } = await served(floats, { way: 'copy' })
    const found = await served(floats, { weights })
    const copied = await served(floats, { weights, way: 'copy' })
    expect(Math.abs(copied.nats / found.nats - 1)).toBeLessThan(0.005)
    expect(Math.abs(found.nats / nats - 1)).toBeLessThan(weights === 'int8' ? 0.005 : 0.05)
    expect(await served(floats, { weights, blockBytes: 60_000 })).toEqual(found)
  })

  it.each(['int8', 'int4'] as const)(
    'chooses the same tokens in %s as floats of the same values',
    async (weights) => {
      const values = await heldValues(weights)
      const same: Params = new Map(
        [...floats].map(([name, param]): [string, Param] => [
          name,
          { ...param, data: values.get(name) ?? param.data },
        ]),
      )
      const expected = await served(same, { way: 'copy' })
      const found = await served(floats, { weights })
      expect(found.ids).toEqual(expected.ids)
      expect(Math.abs(found.nats / expected.nats - 1)).toBeLessThan(1e-3)
    },
  )
})

/** Every held matrix as floats, by parameter; parts of a parameter are joined. */
async function heldValues(
  format: WeightFormat,
  weights: WeightMap = floats,
  of: ModelConfig = config,
): Promise<Map<string, Float32Array>> {
  const threads = await VectorThreads.create(2, 16)
  const shape = { config: of, ranks: ranksOf(weights, E) }
  const held = new HeldWeights(threads, { shape, format, capacity: 2, withEmbedding: true })
  await fillWeights(threads, held, weights)
  const found = new Map<string, Float32Array>()
  for (const { planned, block, matrix } of held.placed.flat()) {
    const { parameter, from, rows, width } = planned
    const [all, columns] = requireWeight(weights, parameter).shape as [number, number]
    const whole = found.get(parameter) ?? new Float32Array(all * columns)
    for (let row = 0; row < rows; row++) {
      readRow(block.buffer, matrix, row, whole.subarray((from + row) * width, (from + row + 1) * width))
    }
    found.set(parameter, whole)
  }
  await threads.dispose()
  return found
}

/** Keeps codes in memory, as a store does on disk. */
class Keeper implements KeptCodes {
  readonly files = new Map<string, Uint8Array[]>()
  readonly failures: unknown[] = []
  reads = 0
  /** Section whose checksum is wrong. */
  damaged: number | undefined
  isFull = false

  async open(coding: string, sections: readonly Section[]): Promise<KeptReader | undefined> {
    const file = this.files.get(coding)
    if (file?.length !== sections.length) return undefined
    return {
      read: async (section, into) => {
        this.reads++
        into.set(file[section] as Uint8Array)
        return section !== this.damaged
      },
      close: async () => undefined,
    }
  }
  async create(coding: string): Promise<KeptWriter> {
    const parts: Uint8Array[] = []
    return {
      append: async (bytes) => {
        if (this.isFull && parts.length > 1) throw new InputError('disk-full', 'no space left')
        parts.push(bytes.slice())
      },
      finish: async () => void this.files.set(coding, parts),
      abandon: async () => undefined,
    }
  }
  async discard(coding: string): Promise<void> {
    this.files.delete(coding)
    this.damaged = undefined
  }
  onFailure(error: unknown): void {
    this.failures.push(error)
  }
}

describe('kept codes', () => {
  const keepers = (): Keeper[] => Array.from({ length: E }, () => new Keeper())

  it('give the same answers at the second start, without coding', async () => {
    const kept = keepers()
    const first = await served(floats, { weights: 'int4', kept })
    expect(kept.map(({ files }) => files.size)).toEqual(kept.map(() => 1))
    // Weights that cannot be read: only norms and router rows may be.
    const unread: WeightMap = new Map(
      [...floats].map(([name, param]) => {
        const refuse = (): Promise<void> => Promise.reject(new Error(`${name} was read`))
        return [
          name,
          isSmall(name, param)
            ? param
            : { shape: param.shape, dtype: 'F32', read: refuse, readBytes: refuse },
        ]
      }),
    )
    expect(await served(unread, { weights: 'int4', kept })).toEqual(first)
    expect(kept.flatMap(({ failures }) => failures)).toEqual([])
  })

  it('are coded again when one of them is damaged', async () => {
    const kept = keepers()
    const first = await served(floats, { weights: 'int8', kept })
    ;(kept[1] as Keeper).damaged = 2
    expect(await served(floats, { weights: 'int8', kept })).toEqual(first)
    expect(kept.map(({ failures }) => failures.length)).toEqual([0, 1, 0, 0])
    expect((kept[1] as Keeper).files.size).toBe(1)
  })

  it('are not kept on a full disk, and serving goes on', async () => {
    const kept = keepers()
    ;(kept[2] as Keeper).isFull = true
    expect(await served(floats, { weights: 'int8', kept })).toEqual(await served(floats, { weights: 'int8' }))
    expect(kept.map(({ files }) => files.size)).toEqual([1, 1, 0, 1])
    expect((kept[2] as Keeper).failures).toMatchObject([{ code: 'disk-full' }])
  })

  it('do not exist for fp32, nor for bf16 weights that were published as such', async () => {
    const kept = keepers()
    await served(floats, { way: 'held', kept })
    expect(kept.every(({ files }) => files.size === 0)).toBe(true)
    await served(floats, { weights: 'bf16', kept })
    expect(kept.every(({ files }) => files.size === 1)).toBe(true)
    const published = keepers()
    const sources: WeightMap = new Map(
      [...bf16].map(([name, param]) => [name, isSmall(name, param) ? param : bf16Source(param)]),
    )
    expect(await served(sources, { weights: 'bf16', kept: published })).toEqual(
      await served(bf16, { weights: 'bf16' }),
    )
    expect(published.every(({ files }) => files.size === 0)).toBe(true)
  })
})

/** A parameter as a tensor of a file in bf16. */
function bf16Source({ shape, data }: Param): WeightSource {
  const halves = bf16FromFloat32(data)
  const bytes = new Uint8Array(halves.buffer)
  return {
    shape,
    dtype: 'BF16',
    read: async (into, from) => into.set(float32FromBf16(halves.subarray(from, from + into.length))),
    readBytes: async (into, from) => into.set(bytes.subarray(from, from + into.length)),
  }
}

describe('held weights', () => {
  it.each(['fp32', 'bf16', 'int8', 'int4'] as const)(
    'in %s equal a plain loop over the published ones',
    async (format) => {
      for (const [name, found] of await heldValues(format)) {
        const { data, shape } = requireWeight(floats, name)
        const [rows, width] = shape as [number, number]
        const bits = format === 'int8' || /lm_head|embed/.test(name) ? 8 : 4
        if (format === 'fp32') expect(found).toEqual(data)
        else if (format === 'bf16') expect(found).toEqual(float32FromBf16(bf16FromFloat32(data)))
        else {
          const { packed, scales } = quantize(data, rows, width, bits)
          const expected = data.map((_, i) => {
            const byte = packed[(i * bits) >> 3] as number
            const integer = bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15
            return (integer - 2 ** (bits - 1)) * (scales[i >> 5] as number)
          })
          expect([name, found]).toEqual([name, expected])
        }
      }
    },
  )

  it('in bf16 equal the published ones, also where the kernels divide wide matrices into tiles', async () => {
    const wide = { ...config, intermediateSize: 4128, numHiddenLayers: 1 }
    const drawn = [...referenceMixture(wide, E, 6)].filter(([name, param]) => !isSmall(name, param))
    const sources = new Map(drawn.map(([name, param]) => [name, bf16Source(param)]))
    const found = await heldValues('bf16', sources, wide)
    for (const [name, { data }] of drawn) {
      const expected = float32FromBf16(bf16FromFloat32(data))
      const isEqual = expected.every((value, i) => value === found.get(name)?.[i])
      expect([name, isEqual]).toEqual([name, true])
    }
  })

  it('hold every matrix once', async () => {
    const names = [...floats].filter(([name, param]) => !isSmall(name, param))
    expect([...(await heldValues('int8')).keys()].sort()).toEqual(names.map(([name]) => name).sort())
  })
})
