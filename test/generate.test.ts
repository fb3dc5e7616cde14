import { describe, expect, it } from 'vitest'
import { createGenerator, type GeneratedToken } from '../src/model/generate.ts'
import { mixtureParams, zeroRows } from '../src/model/params.ts'
import { cpuEngine } from '../src/tensor/eager-engine.ts'
import type { Engine } from '../src/tensor/engine.ts'
import { onnxEngine } from '../src/tensor/onnx-engine.ts'
import { goldenConfig, goldenPublic } from './support/golden.ts'

const params = mixtureParams(goldenConfig, goldenPublic(), zeroRows(goldenConfig), [])
const SETTINGS = { E: 1, topK: 1, contextLength: 60 }

async function tokens(
  engine: Engine,
  prompt: number[],
  maxTokens: number,
  temperature = 0,
  seed = 1,
): Promise<number[]> {
  const generator = await createGenerator(engine, goldenConfig, params, SETTINGS)
  const found: GeneratedToken[] = []
  const request = {
    prompt: Int32Array.from(prompt),
    maxTokens,
    sampling: { temperature, topP: 1, seed },
    endOfText: -1,
    mask: new Float32Array(1),
  }
  for await (const token of generator.generate(request)) found.push(token)
  await generator.dispose()
  return found.map(({ id }) => id)
}

describe('generation with a key-value cache', () => {
  const prompt = Array.from({ length: 37 }, (_, i) => (7 * i + 3) % goldenConfig.vocabSize)

  it('agrees on both engines', async () => {
    expect(await tokens(onnxEngine({ threads: 1 }), prompt, 12)).toEqual(
      await tokens(cpuEngine(), prompt, 12),
    )
  })

  it('gives the same text whether its beginning was prompted or generated', async () => {
    const all = await tokens(onnxEngine({ threads: 1 }), prompt, 12)
    expect(all).toHaveLength(12)
    expect(await tokens(onnxEngine({ threads: 1 }), [...prompt, ...all.slice(0, 5)], 7)).toEqual(all.slice(5))
  })

  it('stops at the end of the context', async () => {
    expect((await tokens(onnxEngine({ threads: 1 }), prompt, 100)).length).toBe(60 - 37 + 1)
  })

  it('draws the same text from the same seed, and another from another', async () => {
    const draw = (seed: number): Promise<number[]> =>
      tokens(onnxEngine({ threads: 1 }), prompt, 12, 1.5, seed)
    expect(await draw(1)).toEqual(await draw(1))
    expect(await draw(1)).not.toEqual(await draw(2))
  })
})
