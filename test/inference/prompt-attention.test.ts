import { expect, it } from 'vitest'
import { KvCache } from '../../src/inference/kv-cache.ts'
import { PromptAttention } from '../../src/inference/prompt-attention.ts'
import { compilePromptLayers } from '../../src/inference/prompt-layers.ts'
import { Turns } from '../../src/inference/turns.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../../src/model/config.ts'
import { rotaryHalves } from '../../src/model/layers.ts'
import { onnx as engine } from '../support/engines.ts'

const CONTEXT = 40
const config: ModelConfig = {
  ...{ vocabSize: 11, hiddenSize: 32, intermediateSize: 16, numHiddenLayers: 1 },
  ...{ numAttentionHeads: 4, numKeyValueHeads: 2 },
  ...{ maxPositionEmbeddings: CONTEXT, ropeTheta: 10_000, rmsNormEps: 1e-6 },
}
const C = config.hiddenSize
const K = keyValueWidth(config)
const T = 11

it('computes a long prompt in pieces, with the result of one run, after what the cache holds', async () => {
  const layers = await compilePromptLayers(engine, config, 1, CONTEXT)
  const random = mulberry32(3)
  const uniform = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() - 0.5)
  const tokens = (length: number) => ({
    ...{ slot: 0, length, T, qT: uniform(C * T), kT: uniform(K * T), vT: uniform(K * T) },
    ...{ qGain: uniform(C), kGain: uniform(K) },
  })
  const prompts = [tokens(0), tokens(T)]
  /** Reads both prompts, one after the other. */
  async function read(pieces: { work?: number; minTokens?: number }) {
    const sizes: (number | undefined)[] = []
    const attend: typeof layers.attend = {
      dispose: () => layers.attend.dispose(),
      run: (inputs, outputs, sizesOfRun) => {
        sizes.push(sizesOfRun?.['T'])
        return layers.attend.run(inputs, outputs, sizesOfRun)
      },
    }
    const attention = new PromptAttention(config, { attend }, rotaryHalves(config, CONTEXT), pieces)
    const cache = new KvCache(config, 1, 1, CONTEXT)
    const mixed: number[] = []
    for (const prompt of prompts) mixed.push(...(await attention.run(cache, 0, prompt, new Turns(4))))
    const held = [...cache.keys(0, 0, 1), ...cache.values(0, 0, 1)]
    expect(held).toHaveLength(2 * 2 * cache.positions * headSize(config))
    return { sizes, mixed, held }
  }
  const whole = await read({})
  const pieces = await read({ work: 4 * C * 5 * T, minTokens: 4 })
  await layers.dispose()
  expect(whole.sizes).toEqual([T, T])
  // Five tokens over the first T positions; over twice as many, the minimum.
  expect(pieces.sizes).toEqual([5, 5, 1, 4, 4, 3])
  expect(pieces.held).toEqual(whole.held)
  pieces.mixed.forEach((value, i) => {
    expect(value).toBeCloseTo(whole.mixed[i] as number, 5)
  })
})
