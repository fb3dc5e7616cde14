/** Serving against model/transformer.ts: both decoders choose the same tokens, with the same shares and scores. */
import { gather, reshape, type Tensor, type Tensor1D } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import { forward, head } from '../../src/model/transformer.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { absent, onnx, optional, oracle } from '../support/engines.ts'
import { goldenConfig } from '../support/golden.ts'
import {
  ALL,
  type Ask,
  answer,
  CONTEXT,
  DECODERS,
  E,
  GATED,
  GATED_WITHOUT_1,
  goldenGenerator,
  idsOf,
  params,
  prompt,
  run,
  WITHOUT_1,
} from '../support/golden-generator.ts'

const V = goldenConfig.vocabSize
const others = [...optional, { label: 'cpu on cpu', engine: oracle }]

/** Greedy tokens by model/transformer.ts, which reads the whole text again for every token. */
async function byForward(ask: Ask, topK: number): Promise<{ ids: number[]; shares: number[][] }> {
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

const CASES: readonly [name: string, ask: Ask, topK: number][] = [
  ['top-2 of three experts', { prompt: prompt(19), maxTokens: 6 }, 2],
  ['top-1', { prompt: prompt(9, 5), maxTokens: 6 }, 1],
  ['top-3, so that all experts compute', { prompt: prompt(12, 8), maxTokens: 6 }, 3],
  ['one expert left out', { prompt: prompt(12), maxTokens: 6, mask: WITHOUT_1 }, 2],
  ['a gate beside router rows', { prompt: prompt(19), maxTokens: 6, ...GATED }, 2],
  [
    'a gate without router rows, top-1',
    { ...GATED, prompt: prompt(9, 5), maxTokens: 6, gate: { ...GATED.gate, rowScale: 0 } },
    1,
  ],
  ['a gate, one expert left out', { prompt: prompt(12), maxTokens: 6, ...GATED_WITHOUT_1 }, 2],
  [
    'only the public expert',
    { prompt: prompt(5), maxTokens: 6, mask: Float32Array.of(0, LEFT_OUT, LEFT_OUT) },
    2,
  ],
]

describe('serving against the forward pass', () => {
  it.each(CASES)('chooses the same tokens with the same shares: %s', async (_, ask, topK) => {
    const expected = await byForward(ask, topK)
    const ways = DECODERS.map((vectorThreads) => ({ vectorThreads }))
    for (const init of [...ways, { vectorThreads: 2, way: 'held', prefillTokens: 10 } as const]) {
      const [tokens] = await run(onnx, [ask], { topK, ...init })
      expect(idsOf(tokens)).toEqual(expected.ids)
      const difference = (tokens ?? []).flatMap(({ shares }, i) =>
        Array.from(shares, (share, e) => Math.abs(share - (expected.shares[i]?.[e] as number))),
      )
      expect(difference).toHaveLength(6 * E)
      expect(Math.max(...difference)).toBeLessThan(2e-5)
    }
  })

  it.for(absent)('decodes on $name', ({ reason }, { skip }) => skip(reason))
  it.for(others)('decodes two sequences together on $label as on onnx', async ({ engine }) => {
    const asks = [
      { prompt: prompt(37), maxTokens: 4 },
      { prompt: prompt(11, 5), maxTokens: 6, ...GATED_WITHOUT_1 },
    ]
    // Without vector kernels, so that the engine itself decodes.
    const init = { vectorThreads: 0 }
    expect((await run(engine, asks, init)).map(idsOf)).toEqual((await run(onnx, asks, init)).map(idsOf))
  })

  it('scores a text as the sum of the scores of its tokens', async () => {
    const generator = await goldenGenerator(onnx)
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

it('scores text with and without a gate as the evaluator does', async () => {
  const T = 20
  const init = { E, topK: 2, T, endOfText: 0 }
  const evaluator = createEvaluator(onnx, goldenConfig, params, init)
  const generator = await goldenGenerator(onnx)
  const tokens = Int32Array.from(prompt(50, 1))
  const found = []
  for (const routing of [{ mask: ALL }, GATED, GATED_WITHOUT_1]) {
    const { bitsPerByte } = await evaluator.evaluate([{ tokens, bytes: 50 }], routing)
    const whole = Int32Array.of(0, ...tokens)
    let nats = 0
    for (let at = 0; at < 50; at += T) nats += await generator.score(whole.subarray(at, at + T + 1), routing)
    expect(Math.abs(bitsPerByte - nats / Math.LN2 / 50)).toBeLessThan(1e-4)
    found.push(bitsPerByte.toFixed(3))
  }
  expect(new Set(found).size).toBe(3)
  await evaluator.dispose()
  await generator.dispose()
})

describe('a generated text', () => {
  it('continues the same whether its beginning was prompt or completion', async () => {
    const all = await answer(onnx, { prompt: prompt(37), maxTokens: 12 })
    expect(all).toHaveLength(12)
    const rest = await answer(onnx, { prompt: [...prompt(37), ...all.slice(0, 5)], maxTokens: 7 })
    expect(rest).toEqual(all.slice(5))
  })

  it('stops at the end of the context', async () => {
    expect(await answer(onnx, { prompt: prompt(37), maxTokens: 100 })).toHaveLength(CONTEXT - 37 + 1)
  })

  it('is the same for the same seed, and different for another', async () => {
    const draw = (seed: number): Promise<number[]> =>
      answer(onnx, { prompt: prompt(37), maxTokens: 12, temperature: 1.5, seed })
    expect(await draw(1)).toEqual(await draw(1))
    expect(await draw(1)).not.toEqual(await draw(2))
  })
})

describe('quantized weights', () => {
  const random = mulberry32(11)
  const text = Int32Array.from({ length: CONTEXT }, () => Math.floor(random() * V))
  const score = async (engine: Engine, weights: 'fp32' | 'int8' | 'int4'): Promise<number> => {
    const generator = await goldenGenerator(engine, { weights })
    const nats = await generator.score(text, { mask: ALL })
    await generator.dispose()
    return nats
  }

  it('cost little accuracy in 8 bits, more in 4, and the same on every engine', async () => {
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
})
