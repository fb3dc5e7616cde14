import type { Tensor } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { checkFinite, checkNorms } from '../../src/acceptance/weight-checks.ts'
import { tensorsOfExpert } from '../../src/checkpoint/expert-tensors.ts'
import type { ExpertTensor } from '../../src/checkpoint/safetensors.ts'
import { createGenerator, type GeneratorInit } from '../../src/inference/generate.ts'
import type { GeneratedToken } from '../../src/inference/request-stream.ts'
import { concatBytes } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { factorName } from '../../src/lib/tensor-names.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { lowRankOf, materialised } from '../../src/model/low-rank.ts'
import {
  type Expert,
  expertRank,
  lowRankExperts,
  mixtureParams,
  type Param,
  type Params,
  zeroRows,
} from '../../src/model/params.ts'
import { LEFT_OUT } from '../../src/model/router.ts'
import { forward, head } from '../../src/model/transformer.ts'
import { truncatedSvd } from '../../src/model/truncated-svd.ts'
import { packExpert, unpackExpertFile } from '../../src/packaging/package.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../src/training/optimizer.ts'
import {
  compilePairStep,
  initialTrainables,
  releasedExpert,
  type Trainables,
} from '../../src/training/pair.ts'
import { toBatch } from '../../src/training/train.ts'
import { oracle } from '../support/engines.ts'
import { golden, goldenConfig, goldenPublic } from '../support/golden.ts'

const engine = onnxEngine({ threads: 1 })
const config = goldenConfig
const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
const publicModel = goldenPublic()
const far = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((max, x, i) => Math.max(max, Math.abs(x - (b[i] as number))), 0)

/** k orthonormal vectors [n], one after the other. */
function orthonormal(k: number, n: number, random: () => number): Float64Array {
  const vectors = new Float64Array(k * n)
  for (let v = 0; v < k; v++) {
    const own = Float64Array.from({ length: n }, () => random() - 0.5)
    for (let u = 0; u < v; u++) {
      const share = own.reduce((sum, x, i) => sum + x * (vectors[u * n + i] as number), 0)
      own.forEach((x, i) => {
        own[i] = x - share * (vectors[u * n + i] as number)
      })
    }
    const norm = Math.hypot(...own)
    vectors.set(
      own.map((x) => x / norm),
      v * n,
    )
  }
  return vectors
}

/** A matrix [m, n] with the singular values given. */
function matrixOf(m: number, n: number, values: readonly number[], seed: number): Float64Array {
  const random = mulberry32(seed)
  const left = orthonormal(values.length, m, random)
  const right = orthonormal(values.length, n, random)
  return product(m, n, values, left, right)
}

function product(
  m: number,
  n: number,
  values: ArrayLike<number>,
  left: Float64Array,
  right: Float64Array,
): Float64Array {
  const matrix = new Float64Array(m * n)
  for (let k = 0; k < values.length; k++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        const term = (values[k] as number) * (left[k * m + i] as number) * (right[k * n + j] as number)
        matrix[i * n + j] = (matrix[i * n + j] as number) + term
      }
    }
  }
  return matrix
}

const distance = (a: Float64Array, b: Float64Array): number =>
  Math.hypot(...a.map((x, i) => x - (b[i] as number)))

describe('truncated singular value decomposition', () => {
  const values = Array.from({ length: 20 }, (_, i) => 8 * 0.8 ** i)

  it.each([
    [30, 20],
    [20, 30],
    [20, 20],
  ])('finds the values that a %i x %i matrix was made of, and the nearest matrix of the rank', (m, n) => {
    const matrix = matrixOf(m, n, values, 3)
    for (const rank of [1, 6, 20]) {
      const svd = truncatedSvd(matrix, m, n, rank)
      expect(far(svd.values, values.slice(0, rank))).toBeLessThan(1e-6)
      const tail = Math.hypot(0, ...values.slice(rank))
      expect(Math.abs(distance(matrix, product(m, n, svd.values, svd.left, svd.right)) - tail)).toBeLessThan(
        1e-6,
      )
    }
  })

  it('is exact to rounding where the matrix has no more than that rank', () => {
    const matrix = matrixOf(200, 90, [5, 5, 1e-3], 4)
    const svd = truncatedSvd(matrix, 200, 90, 5)
    expect(far(svd.values, [5, 5, 1e-3, 0, 0])).toBeLessThan(1e-12)
    expect(distance(matrix, product(200, 90, svd.values, svd.left, svd.right))).toBeLessThan(1e-11)
  })

  it('comes near to the best where values fall slowly and the subspace is small', () => {
    const slow = Array.from({ length: 80 }, (_, i) => 1 / (1 + i / 20))
    const matrix = matrixOf(100, 80, slow, 5)
    const { values: found } = truncatedSvd(matrix, 100, 80, 8)
    const energy = (list: ArrayLike<number>): number => Array.from(list).reduce((sum, x) => sum + x * x, 0)
    expect(energy(found) / energy(slow.slice(0, 8))).toBeGreaterThan(0.9999)
  })

  it('gives zeros for the zero matrix, and refuses a rank that a matrix cannot have', () => {
    const { values: none, left } = truncatedSvd(new Float64Array(12), 3, 4, 2)
    expect([...none, ...left]).toEqual(new Array(8).fill(0))
    for (const rank of [0, 4, 1.5])
      expect(() => truncatedSvd(new Float64Array(12), 3, 4, rank)).toThrow(RangeError)
  })
})

/** An expert of full rank whose FFN is random steps away from the public one. */
function fullExpert(seed: number): Expert {
  const random = mulberry32(seed)
  const ffn = new Map<string, Param>()
  for (let layer = 0; layer < L; layer++) {
    for (const projection of ['gate_proj', 'up_proj', 'down_proj']) {
      const source = publicModel.get(`model.layers.${layer}.mlp.${projection}.weight`) as Param
      const data = source.data.map((x) => x + 0.2 * (random() - 0.5))
      ffn.set(`${layer}.${projection}`, { shape: source.shape, data })
    }
  }
  return {
    ffn,
    routerRows: Array.from({ length: L }, () => Float32Array.from({ length: C }, () => random() - 0.5)),
    bias: undefined,
  }
}

describe('an expert cut to a rank', () => {
  const whole = fullExpert(1)

  it('is the whole expert at full rank, and keeps all energy', () => {
    const { expert, energyKept } = lowRankOf(whole, publicModel, Math.min(C, F))
    expect(energyKept).toBeCloseTo(1, 9)
    expect(expertRank(expert)).toBe(Math.min(C, F))
    for (const [key, { data }] of materialised(expert, publicModel).ffn) {
      expect(far(data, (whole.ffn.get(key) as Param).data)).toBeLessThan(1e-6)
    }
  })

  it('keeps more energy at a higher rank, and its own difference when cut again', () => {
    const kept = [1, 4, 12].map((rank) => lowRankOf(whole, publicModel, rank).energyKept)
    expect(kept).toEqual([...kept].sort((a, b) => a - b))
    expect(kept[0]).toBeGreaterThan(0)
    expect(kept[2]).toBeLessThan(1)
    const four = lowRankOf(whole, publicModel, 4).expert
    expect(lowRankOf(four, publicModel, 4).energyKept).toBeCloseTo(1, 6)
  })
})

describe('training an expert of low rank', () => {
  const rank = 4
  const rows = Array.from({ length: L }, (_, l) =>
    Float32Array.from({ length: C }, (_, i) => Math.sin(l + i)),
  )
  const constantRows = zeroRows(config)
  const ids = Int32Array.from(golden.input_ids)

  async function lossesOf(steps: number, rankOf: number) {
    const compiled = await compilePairStep(engine, config, publicModel, zeroRows(config), 1, ids.length - 1, {
      rank: rankOf,
    })
    const trainables = initialTrainables(config, publicModel, rows, { rank: rankOf })
    const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
    const losses: number[] = []
    let gradients = new Map<string, Float32Array>()
    for (let step = 0; step < steps; step++) {
      const batch = { ...toBatch([ids]), ...Object.fromEntries(trainables) }
      const out = await compiled.run(batch)
      losses.push(out['ce']?.[0] as number)
      gradients = new Map([...trainables.keys()].map((name) => [name, out[`d.${name}`] as Float32Array]))
      optimizer.update(trainables, gradients, 2e-3)
    }
    await compiled.dispose()
    return { losses, trainables, gradients }
  }

  it('starts as the public model and learns', async () => {
    const low = await lossesOf(30, rank)
    const whole = await lossesOf(1, 0)
    expect(low.losses[0]).toBeCloseTo(whole.losses[0] as number, 5)
    expect(low.losses.at(-1)).toBeLessThan((low.losses[0] as number) - 0.05)
  })

  it('has gradients that are finite differences of its loss', async () => {
    const { trainables, gradients } = await lossesOf(3, rank)
    const compiled = await compilePairStep(engine, config, publicModel, zeroRows(config), 1, ids.length - 1, {
      rank,
    })
    const lossAt = async (): Promise<number> => {
      const out = await compiled.run({ ...toBatch([ids]), ...Object.fromEntries(trainables) })
      return out['loss']?.[0] as number
    }
    const out = await compiled.run({ ...toBatch([ids]), ...Object.fromEntries(trainables) })
    expect(gradients.size).toBeGreaterThan(0)
    for (const projection of ['gate_proj', 'up_proj', 'down_proj'] as const) {
      for (const factor of ['A', 'B'] as const) {
        const name = factorName(1, 1, projection, factor)
        const values = trainables.get(name) as Float32Array
        const gradient = out[`d.${name}`] as Float32Array
        // Along the gradient the slope is its norm.
        const norm = Math.hypot(...gradient)
        const from = values.slice()
        const step = 0.02
        const move = (by: number): void =>
          values.set(from.map((x, i) => x + (by * (gradient[i] as number)) / norm))
        move(step)
        const above = await lossAt()
        move(-step)
        const below = await lossAt()
        values.set(from)
        expect((above - below) / (2 * step) / norm).toBeCloseTo(1, 1)
      }
    }
    await compiled.dispose()
  })

  it('releases factors whose pair is the model that was trained', async () => {
    const { trainables } = await lossesOf(5, rank)
    const expert = releasedExpert(config, trainables, constantRows)
    expect(expertRank(expert)).toBe(rank)
    const params: Params = mixtureParams(config, publicModel, zeroRows(config), [expert])
    expect(params.has('model.layers.0.mlp.experts.1.gate_proj.weight')).toBe(false)
    expect(params.get(factorName(0, 1, 'down_proj', 'B'))?.shape).toEqual([C, rank])
    const lossOf = async (values: Trainables, rankOf: number): Promise<number> => {
      const compiled = await compilePairStep(
        engine,
        config,
        publicModel,
        zeroRows(config),
        1,
        ids.length - 1,
        {
          rank: rankOf,
        },
      )
      const out = await compiled.run({ ...toBatch([ids]), ...Object.fromEntries(values) })
      await compiled.dispose()
      return out['ce']?.[0] as number
    }
    // The same rows and bias, and the whole weights that the released factors make.
    const whole: Trainables = new Map([...trainables].filter(([name]) => !name.includes('lora')))
    for (const [key, { data }] of materialised(expert, publicModel).ffn) {
      const [layer, projection] = key.split('.')
      whole.set(`model.layers.${layer}.mlp.experts.1.${projection}.weight`, data)
    }
    expect(await lossOf(whole, 0)).toBeCloseTo(await lossOf(trainables, rank), 5)
  })
})

describe('a composition with experts of low rank', () => {
  const E = 4
  const guests = [
    lowRankOf(fullExpert(5), publicModel, 4).expert,
    fullExpert(6),
    lowRankOf(fullExpert(7), publicModel, 3).expert,
  ]
  const low = mixtureParams(config, publicModel, zeroRows(config), guests)
  const whole = mixtureParams(
    config,
    publicModel,
    zeroRows(config),
    guests.map((expert) => materialised(expert, publicModel)),
  )
  const prompt = Int32Array.from({ length: 40 }, (_, i) => (7 * i + 3) % config.vocabSize)

  /** Greedy tokens of several requests at once, one of which leaves an expert out, and nats of a text. */
  async function served(params: Params, init: Partial<GeneratorInit> = {}, on: Engine = engine) {
    const generator = await createGenerator(on, config, params, { E, topK: 2, contextLength: 60, ...init })
    const out = Float32Array.of(0, LEFT_OUT, 0, 0)
    const asks = [3, 12, 20, 33, 7, 9].map((length, i) => ({
      prompt: prompt.subarray(i, i + length),
      maxTokens: 12,
      sampling: { temperature: 0, topP: 1, seed: 1 },
      endOfText: -1,
      mask: i === 1 ? out : new Float32Array(E),
    }))
    const tokens = await Promise.all(
      asks.map(async (ask) => {
        const found: GeneratedToken[] = []
        for await (const token of generator.generate(ask)) found.push(token)
        return found
      }),
    )
    const nats = await generator.score(prompt, { mask: new Float32Array(E) })
    await generator.dispose()
    return {
      ids: tokens.map((list) => list.map(({ id }) => id)),
      shares: tokens.flat().flatMap(({ shares }) => [...shares]),
      nats,
    }
  }

  it('gives in one graph the logits of whole weights', async () => {
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
      const out = await compiled.run({ ids: prompt.slice(0, T) })
      await compiled.dispose()
      return out['logits'] as Float32Array
    }
    const expected = await logitsOf(whole)
    expect(far(await logitsOf(low), expected)).toBeLessThan(1e-4)
    const alone = mixtureParams(config, publicModel, zeroRows(config), [
      fullExpert(8),
      fullExpert(6),
      fullExpert(8),
    ])
    expect(far(await logitsOf(alone), expected)).toBeGreaterThan(1e-2)
  })

  it.each([0, 1, 3])('serves the tokens of whole weights, %i threads decoding', async (vectorThreads) => {
    const expected = await served(whole, { vectorThreads: 0 })
    const found = await served(low, { vectorThreads })
    expect(found.ids).toEqual(expected.ids)
    expect(far(found.shares, expected.shares)).toBeLessThan(1e-4)
    expect(found.nats).toBeCloseTo(expected.nats, 3)
  })

  it('serves the same on the plain engine', async () => {
    const { ids } = await served(low, {}, oracle)
    expect(ids).toEqual((await served(low)).ids)
  })

  it.each(['int8', 'int4'] as const)('serves %s weights with its factors in floats', async (weights) => {
    const { nats } = await served(low)
    const quantized = await served(low, { weights })
    expect(Math.abs(quantized.nats / nats - 1)).toBeLessThan(weights === 'int8' ? 0.005 : 0.1)
  })

  it('holds no whole weight of an expert of low rank, at rest or when it runs', async () => {
    const publicArrays = new Set(
      [...publicModel.values(), ...(guests[1] as Expert).ffn.values()].map(({ data }) => data),
    )
    const large = (values: ArrayLike<number>, name: string): boolean =>
      values.length === C * F &&
      !publicArrays.has(values as Float32Array) &&
      !/^(x|u|y|inner|gate|up)$/.test(name)
    for (const [name, { data }] of low) expect([name, large(data, name)]).toEqual([name, false])
    const seen: string[] = []
    const watching: Engine = {
      ...engine,
      compile: async (fn, signature, options) => {
        for (const [name, { data }] of Object.entries(signature.frozen ?? {}))
          if (large(data, name)) seen.push(name)
        const compiled = await engine.compile(fn, signature, options)
        return {
          dispose: () => compiled.dispose(),
          run: (inputs, into, sizes) => {
            for (const [name, values] of Object.entries(inputs)) if (large(values, name)) seen.push(name)
            return compiled.run(inputs, into, sizes)
          },
        }
      },
    }
    await served(low, {}, watching)
    expect(seen).toEqual([])
    await served(whole, {}, watching)
    expect(seen.length).toBeGreaterThan(0)
  })

  it('is evaluated as whole weights are', async () => {
    const scoreOf = async (params: Params) => {
      const init = { E, topK: 2, B: 2, T: 16, endOfText: 0 }
      const evaluator = await createEvaluator(engine, config, params, init)
      const result = await evaluator.evaluate([{ tokens: prompt, bytes: 40 }], { mask: new Float32Array(E) })
      await evaluator.dispose()
      return result
    }
    const [a, b] = [await scoreOf(low), await scoreOf(whole)]
    expect(a.bitsPerByte).toBeCloseTo(b.bitsPerByte, 4)
    expect(far(a.loadShares, b.loadShares)).toBeLessThan(1e-4)
  })
})

describe('acceptance of factors', () => {
  const shape = { layers: L, hidden_size: C, intermediate_size: F }
  const tensorsOf = (expert: Expert): Map<string, ExpertTensor> => {
    const { parts } = packExpert(tensorsOfExpert(config, expert), 'F32')
    return unpackExpertFile(concatBytes(...parts), shape)
  }
  const name = 'model.layers.1.mlp.experts.1.up_proj'
  const changed = (change: (A: Float32Array, B: Float32Array) => void) => {
    const tensors = tensorsOf(lowRankOf(fullExpert(1), publicModel, 3).expert)
    const [A, B] = ['A', 'B'].map((factor) => tensors.get(`${name}.lora_${factor}.weight`)?.data)
    change(A as Float32Array, B as Float32Array)
    return tensors
  }
  /** The most that a tensor of the expert is away from the public one, by a policy that allows less and less. */
  const isWithin = (tensors: ReadonlyMap<string, ExpertTensor>, maxDeltaRatio: number): boolean => {
    try {
      checkNorms(tensors, publicModel, { ...DEFAULT_POLICY, maxDeltaRatio })
      return true
    } catch {
      return false
    }
  }

  it('measures the difference that they make, as it does that of whole weights', () => {
    const { expert } = lowRankOf(fullExpert(1), publicModel, 3)
    const whole = tensorsOf(materialised(expert, publicModel))
    const factors = tensorsOf(expert)
    const limits = Array.from({ length: 60 }, (_, i) => 0.01 * 1.1 ** i)
    const verdicts = limits.map((limit) => isWithin(factors, limit))
    expect(verdicts).toEqual(limits.map((limit) => isWithin(whole, limit)))
    expect(new Set(verdicts).size).toBe(2)
  })

  it.each([
    ['a difference too large', (_: Float32Array, B: Float32Array) => B.set(B.map((x) => 100 * x))],
    [
      'large terms that cancel',
      (A: Float32Array, B: Float32Array) => {
        for (let i = 0; i < C; i++) A[i] = A[C + i] = 1000
        for (let o = 0; o < F; o++) {
          B[3 * o] = 1
          B[3 * o + 1] = -1
        }
      },
    ],
    [
      'factors whose product overflows',
      (A: Float32Array, B: Float32Array) => void [A.fill(1e30), B.fill(1e30)],
    ],
  ])('refuses %s', (_, change) => {
    expect(() => checkNorms(changed(change), publicModel, DEFAULT_POLICY)).toThrow(/up_proj/)
    expect(() =>
      checkNorms(
        changed(() => undefined),
        publicModel,
        DEFAULT_POLICY,
      ),
    ).not.toThrow()
  })

  it('refuses a factor that is not finite', () => {
    expect(() => checkFinite(changed((A) => A.fill(Number.NaN, 2, 3)))).toThrow(/lora_A.weight\[2\]/)
  })
})
