import { gather, reshape, type Tensor, type Tensor1D } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { referenceMixture } from '../../scripts/bench/inference/reference-models.ts'
import { createGenerator, type GeneratorInit } from '../../src/inference/generate.ts'
import { KvCache } from '../../src/inference/kv-cache.ts'
import type { GeneratedToken } from '../../src/inference/request-stream.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { biasName } from '../../src/lib/tensor-names.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { gatesOf } from '../../src/model/gates.ts'
import type { Param } from '../../src/model/params.ts'
import { LEFT_OUT } from '../../src/model/router.ts'
import type { SequenceRouting } from '../../src/model/routing-plan.ts'
import type { Gate } from '../../src/model/solved-router.ts'
import { forward, head } from '../../src/model/transformer.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { absent, onnx, optional, oracle } from '../support/engines.ts'
import { goldenConfig, goldenMixture } from '../support/golden.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'

const V = goldenConfig.vocabSize
const E = 3
const CONTEXT = 60
const random = mulberry32(11)

/** The golden mixture with a bias, so that every term of the router counts. */
const params = new Map<string, Param>(goldenMixture([0, 1, 2]))
for (let layer = 0; layer < goldenConfig.numHiddenLayers; layer++) {
  params.set(biasName(layer), { shape: [E], data: Float32Array.of(0, -0.3, 0.2) })
}
const prompt = (length: number, seed = 3): number[] => Array.from({ length }, (_, i) => (7 * i + seed) % V)
const ALL = new Float32Array(E)
const OTHER = Float32Array.of(0, LEFT_OUT, 0)
const statistics = [1, 2, 3].map((seed) => madeUpStatistics(V, seed))
const gates = gatesOf(
  statistics[0],
  statistics.slice(1).map((s) => ({ statistics: s })),
)
/** With a gate of the experts in use; half of the rows' logits, so that both count. */
const gated = (mask: Float32Array): Required<Pick<Ask, 'mask' | 'gate'>> => ({
  mask,
  gate: { ...(gates?.gate(mask) as Gate), rowScale: 0.5 },
})
const GATED = gated(ALL)
const OTHER_GATED = gated(OTHER)
/** Threads of the vector kernels: none, so that the engine decodes, one, and more than the machine may have. */
const DECODERS = [0, 1, 3]

interface Ask {
  prompt: number[]
  maxTokens: number
  temperature?: number
  seed?: number
  mask?: Float32Array
  gate?: Gate
}

async function run(
  engine: Engine,
  asks: Ask[],
  init: Partial<GeneratorInit> = {},
): Promise<GeneratedToken[][]> {
  const generator = await createGenerator(engine, goldenConfig, params, {
    E,
    topK: 2,
    contextLength: CONTEXT,
    ...init,
  })
  const all = await Promise.all(
    asks.map(async ({ prompt, maxTokens, temperature = 0, seed = 1, mask = ALL, gate }) => {
      const found: GeneratedToken[] = []
      const request = {
        prompt: Int32Array.from(prompt),
        maxTokens,
        sampling: { temperature, topP: 1, seed },
        endOfText: -1,
        mask,
        gate,
      }
      for await (const token of generator.generate(request)) found.push(token)
      return found
    }),
  )
  await generator.dispose()
  return all
}
const others = [...optional, { label: 'cpu on cpu', engine: oracle }]
const ids = (tokens: GeneratedToken[] | undefined): number[] => (tokens ?? []).map(({ id }) => id)
const one = async (engine: Engine, ask: Ask, init: Partial<GeneratorInit> = {}): Promise<number[]> =>
  ids((await run(engine, [ask], init))[0])

/** The slow path: the whole text again for every token, in one graph. */
async function slow(ask: Ask, topK = 2): Promise<{ ids: number[]; shares: number[][] }> {
  const found: { ids: number[]; shares: number[][] } = { ids: [], shares: [] }
  const text = [...ask.prompt]
  for (let i = 0; i < ask.maxTokens; i++) {
    const T = text.length
    const compiled = await onnx.compile(
      (tensors) => {
        const weights = (name: string): Tensor => tensors[name] as Tensor
        const gate = {
          weights: weights('gate'),
          offsets: weights('offsets'),
          rowScale: weights('rowScale'),
        }
        const options = { B: 1, T, E, topK, bias: true, mask: weights('mask'), gate }
        const result = forward(goldenConfig, weights, weights('ids'), options)
        const last = (x: Tensor): Tensor => gather(x, reshape(weights('last'), [1]) as Tensor1D)
        const out: Record<string, Tensor> = { logits: head(weights, last(result.hidden)) }
        result.routing.forEach(({ weights: routed }, layer) => {
          out[`w${layer}`] = last(routed)
        })
        return out
      },
      {
        inputs: {
          ids: { shape: [1, T], dtype: 'int32' },
          last: { shape: [1], dtype: 'int32' },
          mask: { shape: [E] },
          gate: { shape: [V, E] },
          offsets: { shape: [E] },
          rowScale: { shape: [] },
        },
        frozen: Object.fromEntries(params),
      },
    )
    const mask = ask.mask ?? ALL
    const { gate } = ask
    const out = await compiled.run({
      ids: Int32Array.from(text),
      last: Int32Array.of(T - 1),
      mask,
      gate: gate?.weights ?? new Float32Array(V * E),
      offsets: gate?.offsets ?? new Float32Array(E),
      rowScale: Float32Array.of(gate?.rowScale ?? 1),
    })
    await compiled.dispose()
    const logits = out['logits'] as Float32Array
    const id = logits.indexOf(Math.max(...logits))
    const shares = new Array<number>(E).fill(0)
    for (let layer = 0; layer < goldenConfig.numHiddenLayers; layer++) {
      const routed = Array.from(out[`w${layer}`] as Float32Array)
      const total = routed.reduce((a, b) => a + b, 0)
      routed.forEach((w, e) => {
        shares[e] = (shares[e] as number) + w / total / goldenConfig.numHiddenLayers
      })
    }
    found.ids.push(id)
    found.shares.push(shares)
    text.push(id)
  }
  return found
}

describe('serving agrees with the whole forward pass', () => {
  for (const [name, ask, topK] of [
    ['all experts, top-2', { prompt: prompt(19), maxTokens: 6 }, 2],
    ['top-1', { prompt: prompt(9, 5), maxTokens: 6 }, 1],
    ['all active', { prompt: prompt(12, 8), maxTokens: 6 }, 3],
    ['one left out', { prompt: prompt(12), maxTokens: 6, mask: Float32Array.of(0, LEFT_OUT, 0) }, 2],
    ['a gate', { prompt: prompt(19), maxTokens: 6, ...GATED }, 2],
    [
      'a gate alone, top-1',
      { ...GATED, prompt: prompt(9, 5), maxTokens: 6, gate: { ...GATED.gate, rowScale: 0 } },
      1,
    ],
    ['a gate with one left out', { prompt: prompt(12), maxTokens: 6, ...OTHER_GATED }, 2],
    [
      'public model only',
      { prompt: prompt(5), maxTokens: 6, mask: Float32Array.of(0, LEFT_OUT, LEFT_OUT) },
      2,
    ],
  ] as const) {
    it(name, async () => {
      const expected = await slow(ask as Ask, topK)
      for (const vectorThreads of DECODERS) {
        const [tokens] = await run(onnx, [ask as Ask], { topK, vectorThreads })
        expect(ids(tokens)).toEqual(expected.ids)
        const difference = (tokens ?? []).flatMap(({ shares }, i) =>
          Array.from(shares, (share, e) => Math.abs(share - (expected.shares[i]?.[e] as number))),
        )
        expect(difference).toHaveLength(6 * E)
        expect(Math.max(...difference)).toBeLessThan(2e-5)
      }
    })
  }

  it.for(absent)('on $name too', ({ reason }, { skip }) => skip(reason))
  it.for(others)('on $label too, two sequences together', async ({ engine }) => {
    const asks = [
      { prompt: prompt(37), maxTokens: 4 },
      { prompt: prompt(11, 5), maxTokens: 6, ...OTHER_GATED },
    ]
    // Each engine decodes itself: no vector kernels.
    const init = { vectorThreads: 0 }
    expect((await run(engine, asks, init)).map(ids)).toEqual((await run(onnx, asks, init)).map(ids))
  })

  it('scores text as the sum over its tokens', async () => {
    const generator = await createGenerator(onnx, goldenConfig, params, {
      E,
      topK: 2,
      contextLength: CONTEXT,
    })
    const text = Int32Array.from(prompt(30))
    const whole = await generator.score(text, { mask: ALL })
    let sum = 0
    for (let end = 2; end <= text.length; end++) {
      sum =
        (await generator.score(text.subarray(0, end), { mask: ALL })) -
        (end === 2 ? 0 : await generator.score(text.subarray(0, end - 1), { mask: ALL })) +
        sum
    }
    expect(Math.abs(whole - sum)).toBeLessThan(1e-3)
    expect(whole).toBeGreaterThan(0)
    await generator.dispose()
  })
})

it('scores text by a gate as the evaluator does, window by window', async () => {
  const T = 20
  const init = { E, topK: 2, B: 2, T, endOfText: 0, gate: true }
  const evaluator = await createEvaluator(onnx, goldenConfig, params, init)
  const generator = await createGenerator(onnx, goldenConfig, params, { E, topK: 2, contextLength: CONTEXT })
  const tokens = Int32Array.from(prompt(50, 1))
  const found = []
  for (const routing of [{ mask: ALL }, GATED, OTHER_GATED]) {
    const { bitsPerByte } = await evaluator.evaluate([{ tokens, bytes: 50 }], routing)
    const whole = Int32Array.of(0, ...tokens)
    let nats = 0
    for (let at = 0; at < 50; at += T) nats += await generator.score(whole.subarray(at, at + T + 1), routing)
    expect(Math.abs(bitsPerByte - nats / Math.LN2 / 50)).toBeLessThan(1e-4)
    found.push(bitsPerByte.toFixed(3))
  }
  expect(new Set(found).size).toBe(3)
  await evaluator.dispose()
  const plain = await createEvaluator(onnx, goldenConfig, params, { ...init, gate: false })
  await expect(plain.evaluate([{ tokens, bytes: 50 }], GATED)).rejects.toThrow('without a gate')
  await plain.dispose()
  await generator.dispose()
})

describe('many requests at once', () => {
  it('answer as each would alone, whatever they begin and end with', async () => {
    const asks = Array.from({ length: 9 }, (_, i) => ({
      prompt: prompt(2 + ((i * 11) % 40), i),
      maxTokens: 1 + ((i * 5) % 16),
      temperature: i % 3 === 0 ? 0.8 : 0,
      seed: i,
      ...([{ mask: ALL }, GATED, { mask: Float32Array.of(0, 0, LEFT_OUT) }, OTHER_GATED][i % 4] ?? {}),
    }))
    const alone = []
    for (const ask of asks) alone.push(await one(onnx, ask, { vectorThreads: 0 }))
    for (const vectorThreads of DECODERS) {
      const init = { vectorThreads }
      expect((await run(onnx, asks, { ...init, streams: 4 })).map(ids)).toEqual(alone)
      expect((await run(onnx, asks, { ...init, streams: 3, prefillTokens: 5 })).map(ids)).toEqual(alone)
      expect((await run(onnx, asks, init)).map(ids)).toEqual(alone)
    }
  })

  it('leave their place when nobody reads on or the signal fires', async () => {
    const generator = await createGenerator(onnx, goldenConfig, params, {
      E,
      topK: 2,
      contextLength: CONTEXT,
      streams: 2,
    })
    const request = {
      prompt: Int32Array.from(prompt(5)),
      maxTokens: 50,
      sampling: { temperature: 0, topP: 1, seed: 1 },
      endOfText: -1,
      mask: ALL,
    }
    for await (const _ of generator.generate(request)) break
    const abort = new AbortController()
    const cut = generator.generate(request, abort.signal)
    await cut.next()
    abort.abort(new Error('enough'))
    await expect(
      (async () => {
        for await (const _ of cut);
      })(),
    ).rejects.toThrow('enough')
    const found = []
    for await (const { id } of generator.generate({ ...request, maxTokens: 5 })) found.push(id)
    expect(found).toEqual(await one(onnx, { prompt: prompt(5), maxTokens: 5 }))
    await generator.dispose()
  })
})

it('keeps the sums of gates when it makes room', () => {
  const cache = new KvCache(goldenConfig, E, 4, 600)
  cache.ensure(2, 100)
  const values = [0, 1].map((slot) => Float32Array.from({ length: 100 * E }, (_, i) => 1000 * slot + i))
  values.forEach((sums, slot) => {
    cache.gateSums(slot).set(sums)
  })
  cache.ensure(3, 500)
  values.forEach((sums, slot) => {
    expect(cache.gateSums(slot).subarray(0, sums.length)).toEqual(sums)
  })
})

describe('a prompt that begins as one before', () => {
  it('answers the same as one read whole', async () => {
    const generator = await createGenerator(onnx, goldenConfig, params, {
      E,
      topK: 2,
      contextLength: CONTEXT,
    })
    const ask = async (text: number[], routing: SequenceRouting = { mask: ALL }): Promise<number[]> => {
      const found = []
      const request = {
        prompt: Int32Array.from(text),
        maxTokens: 6,
        sampling: { temperature: 0, topP: 1, seed: 1 },
        endOfText: -1,
        ...routing,
      }
      for await (const { id } of generator.generate(request)) found.push(id)
      return found
    }
    const start = prompt(24)
    const others = [start, [...start, 1, 2, 3], [...start.slice(0, 20), 9, 9], start]
    for (const text of others) {
      expect(await ask(text)).toEqual(await one(onnx, { prompt: text, maxTokens: 6 }))
      expect(await ask(text, GATED)).toEqual(await one(onnx, { prompt: text, maxTokens: 6, ...GATED }))
    }
    for (const routing of [{ mask: OTHER }, OTHER_GATED])
      expect(await ask(start, routing)).toEqual(await one(onnx, { prompt: start, maxTokens: 6, ...routing }))
    await generator.dispose()
  })
})

describe('what fails in work', () => {
  it.each(DECODERS)(
    'ends the requests that are there, and the next are answered (%i threads)',
    async (vectorThreads) => {
      const init = { E, topK: 2, contextLength: CONTEXT, vectorThreads }
      const generator = await createGenerator(onnx, goldenConfig, params, init)
      const ask = async (length: number): Promise<number[]> => {
        const request = {
          prompt: Int32Array.from(prompt(length)),
          maxTokens: 5,
          sampling: { temperature: 0, topP: 1, seed: 1 },
          endOfText: -1,
          mask: ALL,
        }
        const found = []
        for await (const { id } of generator.generate(request)) found.push(id)
        return found
      }
      const expected = await one(onnx, { prompt: prompt(37), maxTokens: 5 })
      for (let round = 0; round < 2; round++) {
        const [there, tooLong] = await Promise.allSettled([ask(37), ask(CONTEXT + 1)])
        expect(tooLong).toMatchObject({
          status: 'rejected',
          reason: new RangeError(`cache of 1 x ${CONTEXT}: asked for 1 x ${CONTEXT + 1}`),
        })
        expect(there.status).toBe('rejected')
        expect(await ask(37)).toEqual(expected)
      }
      await generator.dispose()
    },
  )
})

describe('generation', () => {
  it('gives the same text whether its beginning was prompted or generated', async () => {
    const all = await one(onnx, { prompt: prompt(37), maxTokens: 12 })
    expect(all).toHaveLength(12)
    const rest = await one(onnx, { prompt: [...prompt(37), ...all.slice(0, 5)], maxTokens: 7 })
    expect(rest).toEqual(all.slice(5))
  })

  it('stops at the end of the context', async () => {
    expect(await one(onnx, { prompt: prompt(37), maxTokens: 100 })).toHaveLength(CONTEXT - 37 + 1)
  })

  it('draws the same text from the same seed, and another from another', async () => {
    const draw = (seed: number): Promise<number[]> =>
      one(onnx, { prompt: prompt(37), maxTokens: 12, temperature: 1.5, seed })
    expect(await draw(1)).toEqual(await draw(1))
    expect(await draw(1)).not.toEqual(await draw(2))
  })
})

describe('quantized weights', () => {
  const text = Int32Array.from({ length: CONTEXT }, () => Math.floor(random() * V))
  const score = async (engine: Engine, weights: 'fp32' | 'int8' | 'int4'): Promise<number> => {
    const init = { E, topK: 2, contextLength: CONTEXT, weights }
    const generator = await createGenerator(engine, goldenConfig, params, init)
    const nats = await generator.score(text, { mask: ALL })
    await generator.dispose()
    return nats
  }

  it('lose little in 8 bits, more in 4, and the same on every engine', async () => {
    const exact = await score(onnx, 'fp32')
    const int8 = await score(onnx, 'int8')
    const int4 = await score(onnx, 'int4')
    expect(int8).not.toBe(exact)
    expect(Math.abs(int8 / exact - 1)).toBeLessThan(0.005)
    expect(Math.abs(int4 / exact - 1)).toBeLessThan(0.05)
    for (const { engine } of others) {
      expect(Math.abs((await score(engine, 'int8')) / int8 - 1)).toBeLessThan(0.005)
      expect(Math.abs((await score(engine, 'int4')) / int4 - 1)).toBeLessThan(0.005)
    }
  })

  it.each(['int8', 'int4'] as const)('decode the same %s text by the vector kernels', async (weights) => {
    // Whole blocks of codes, which the golden model's vectors are too short for.
    const config = { ...goldenConfig, hiddenSize: 64, intermediateSize: 96, vocabSize: 101 }
    const mixture = referenceMixture(config, E, 5)
    const decode = async (vectorThreads: number): Promise<number[][]> => {
      const init = { E, topK: 2, contextLength: CONTEXT, weights, vectorThreads }
      const generator = await createGenerator(oracle, config, mixture, init)
      const requests = [5, 9, 14].map((length) => ({
        prompt: Int32Array.from(prompt(length)),
        maxTokens: 12,
        sampling: { temperature: 0, topP: 1, seed: 1 },
        endOfText: -1,
        mask: ALL,
      }))
      const texts = await Promise.all(
        requests.map(async (request) => {
          const text: number[] = []
          for await (const { id } of generator.generate(request)) text.push(id)
          return text
        }),
      )
      await generator.dispose()
      return texts
    }
    const expected = await decode(0)
    expect(new Set(expected.flat()).size).toBeGreaterThan(6)
    expect(await decode(2)).toEqual(expected)
  })
})
