/** Requests that are served together: their answers, their ends, and what a failure leaves. */
import { describe, expect, it } from 'vitest'
import { keysValuesBytes } from '../../src/inference/kv-cache.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import { onnx } from '../support/engines.ts'
import { goldenConfig } from '../support/golden.ts'
import {
  ALL,
  type Ask,
  answer,
  CONTEXT,
  DECODERS,
  GATED,
  GATED_WITHOUT_1,
  goldenGenerator,
  idsOf,
  prompt,
  requestOf,
  run,
  WITHOUT_1,
} from '../support/golden-generator.ts'

describe('many requests at once', () => {
  it('get the answers that each would get alone', async () => {
    const asks = Array.from({ length: 9 }, (_, i) => ({
      prompt: prompt(2 + ((i * 11) % 40), i),
      maxTokens: 1 + ((i * 5) % 16),
      temperature: i % 3 === 0 ? 0.8 : 0,
      seed: i,
      ...([{ mask: ALL }, GATED, { mask: Float32Array.of(0, 0, LEFT_OUT) }, GATED_WITHOUT_1][i % 4] ?? {}),
    }))
    const alone = []
    for (const ask of asks) alone.push(await answer(onnx, ask, { vectorThreads: 0 }))
    for (const vectorThreads of DECODERS) {
      const init = { vectorThreads }
      expect((await run(onnx, asks, { ...init, streams: 4 })).map(idsOf)).toEqual(alone)
      expect((await run(onnx, asks, { ...init, streams: 3, prefillTokens: 5 })).map(idsOf)).toEqual(alone)
      expect((await run(onnx, asks, init)).map(idsOf)).toEqual(alone)
    }
  })

  it('wait while their keys and values do not fit beside those of others', async () => {
    const asks = Array.from({ length: 4 }, (_, i) => ({ prompt: prompt(10 + i, i), maxTokens: 8 }))
    const alone = []
    for (const ask of asks) alone.push(await answer(onnx, ask))
    const position = keysValuesBytes(goldenConfig, 1)
    // Enough for two requests of at most 21 positions, beside the prompt that is read, but not for three.
    for (const keysValues of [1, 60 * position]) {
      const generator = await goldenGenerator(onnx, { keysValuesBytes: keysValues })
      /** Requests that have begun and not ended. */
      let answered = 0
      let most = 0
      const found = await Promise.all(
        asks.map(async (ask) => {
          const ids: number[] = []
          for await (const { id } of generator.generate(requestOf(ask))) {
            if (ids.length === 0) most = Math.max(most, ++answered)
            ids.push(id)
          }
          answered--
          return ids
        }),
      )
      await generator.dispose()
      expect(found).toEqual(alone)
      expect(most).toBe(keysValues === 1 ? 1 : 2)
    }
  })

  it('free their slot when the reader stops or the signal fires', async () => {
    const generator = await goldenGenerator(onnx, { streams: 2 })
    const request = requestOf({ prompt: prompt(5), maxTokens: 50 })
    for await (const _ of generator.generate(request)) break
    const abort = new AbortController()
    const aborted = generator.generate(request, abort.signal)
    await aborted.next()
    abort.abort(new Error('enough'))
    await expect(
      (async () => {
        for await (const _ of aborted);
      })(),
    ).rejects.toThrow('enough')
    const found = []
    for await (const { id } of generator.generate({ ...request, maxTokens: 5 })) found.push(id)
    expect(found).toEqual(await answer(onnx, { prompt: prompt(5), maxTokens: 5 }))
    await generator.dispose()
  })
})

describe('a prompt with the same beginning as an earlier one', () => {
  it('gets the same answer as without the prefix cache', async () => {
    const generator = await goldenGenerator(onnx)
    const ask = async (text: number[], routing: Pick<Ask, 'mask' | 'gate'> = {}): Promise<number[]> => {
      const found = []
      const request = requestOf({ prompt: text, maxTokens: 6, ...routing })
      for await (const { id } of generator.generate(request)) found.push(id)
      return found
    }
    const start = prompt(24)
    const texts = [start, [...start, 1, 2, 3], [...start.slice(0, 20), 9, 9], start]
    for (const text of texts) {
      expect(await ask(text)).toEqual(await answer(onnx, { prompt: text, maxTokens: 6 }))
      expect(await ask(text, GATED)).toEqual(await answer(onnx, { prompt: text, maxTokens: 6, ...GATED }))
    }
    for (const routing of [{ mask: WITHOUT_1 }, GATED_WITHOUT_1])
      expect(await ask(start, routing)).toEqual(
        await answer(onnx, { prompt: start, maxTokens: 6, ...routing }),
      )
    await generator.dispose()
  })
})

describe('a step that fails', () => {
  it.each(DECODERS)(
    'ends the requests in progress; later ones are answered (%i threads)',
    async (vectorThreads) => {
      const generator = await goldenGenerator(onnx, { vectorThreads })
      const ask = async (length: number): Promise<number[]> => {
        const request = requestOf({ prompt: prompt(length), maxTokens: 5 })
        const found = []
        for await (const { id } of generator.generate(request)) found.push(id)
        return found
      }
      const expected = await answer(onnx, { prompt: prompt(37), maxTokens: 5 })
      for (let round = 0; round < 2; round++) {
        const [other, tooLong] = await Promise.allSettled([ask(37), ask(CONTEXT + 1)])
        expect(tooLong).toMatchObject({
          status: 'rejected',
          reason: new RangeError(
            `cache: expected at most 1 slots of ${CONTEXT} positions, got 1 of ${CONTEXT + 1}`,
          ),
        })
        expect(other.status).toBe('rejected')
        expect(await ask(37)).toEqual(expected)
      }
      await generator.dispose()
    },
  )
})
