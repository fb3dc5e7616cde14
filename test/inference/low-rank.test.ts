import { describe, expect, it } from 'vitest'
import { createGenerator, type GeneratorInit } from '../../src/inference/generate.ts'
import type { GeneratedToken } from '../../src/inference/request-stream.ts'
import type { Expert } from '../../src/model/params.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import type { Param, Params } from '../../src/model/weights.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { onnx as engine, oracle } from '../support/engines.ts'
import { goldenConfig as config } from '../support/golden.ts'
import { E, factored, guests, maxDifference, merged, publicModel, text } from '../support/low-rank.ts'

const { hiddenSize: C, intermediateSize: F } = config

describe('serving a mixture with low-rank experts', () => {
  /** Greedy tokens of several requests at once, one of which leaves an expert out, and the score of a text in nats. */
  async function served(params: Params, init: Partial<GeneratorInit> = {}, on: Engine = engine) {
    const generator = await createGenerator(on, config, params, { E, topK: 2, contextLength: 60, ...init })
    const out = Float32Array.of(0, LEFT_OUT, 0, 0)
    const asks = [3, 12, 20, 33, 7, 9].map((length, i) => ({
      prompt: text.subarray(i, i + length),
      maxTokens: 12,
      sampling: { temperature: 0, topP: 1, seed: 1 },
      endsOfText: [],
      mask: i === 1 ? out : new Float32Array(E),
    }))
    const tokens = await Promise.all(
      asks.map(async (ask) => {
        const found: GeneratedToken[] = []
        for await (const token of generator.generate(ask)) found.push(token)
        return found
      }),
    )
    const nats = await generator.score(text, { mask: new Float32Array(E) })
    await generator.dispose()
    return {
      ids: tokens.map((list) => list.map(({ id }) => id)),
      shares: tokens.flat().flatMap(({ shares }) => [...shares]),
      nats,
    }
  }

  it.each([
    ['by the engine', { vectorThreads: 0 }],
    ['by one thread', { vectorThreads: 1 }],
    ['by three threads', { vectorThreads: 3 }],
    ['from weights that are held once', { vectorThreads: 2, way: 'held' }],
    ['from several blocks for each expert', { vectorThreads: 2, way: 'held', blockBytes: 20_000 }],
  ] as const)('chooses the same tokens as merged weights, decoded %s', async (_, init) => {
    const expected = await served(merged, { vectorThreads: 0 })
    const found = await served(factored, init)
    expect(found.ids).toEqual(expected.ids)
    expect(maxDifference(found.shares, expected.shares)).toBeLessThan(1e-4)
    expect(found.nats).toBeCloseTo(expected.nats, 3)
  })

  it('chooses the same tokens on the engine cpu', async () => {
    const { ids } = await served(factored, {}, oracle)
    expect(ids).toEqual((await served(factored)).ids)
  })

  it.each(['int8', 'int4'] as const)(
    'costs little accuracy in %s, with factors in floats',
    async (weights) => {
      const { nats } = await served(factored)
      const quantized = await served(factored, { weights })
      expect(Math.abs(quantized.nats / nats - 1)).toBeLessThan(weights === 'int8' ? 0.005 : 0.1)
    },
  )

  it('holds no merged weight of a low-rank expert, neither in its parameters nor in a run', async () => {
    const publicArrays = new Set(
      [...publicModel.values(), ...(guests[1] as Expert<Param>).ffn.values()].map(({ data }) => data),
    )
    const large = (values: ArrayLike<number>, name: string): boolean =>
      values.length === C * F &&
      !publicArrays.has(values as Float32Array) &&
      !/^(x|u|y|inner|gate|up)$/.test(name)
    for (const [name, { data }] of factored) expect([name, large(data, name)]).toEqual([name, false])
    const seen: string[] = []
    const observed: Engine = {
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
    await served(factored, {}, observed)
    expect(seen).toEqual([])
    await served(merged, {}, observed)
    expect(seen.length).toBeGreaterThan(0)
  })
})
