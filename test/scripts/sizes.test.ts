/** The random models of the benchmark of sizes, on a shape of a few kilobytes. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writeOlmoeGguf } from '../../scripts/bench/inference/gguf.ts'
import { benchSizes } from '../../scripts/bench/sizes/bench.ts'
import { writeExpertFile, writePair, writePublicModel } from '../../scripts/bench/sizes/random-model.ts'
import { openPublicModel } from '../../src/checkpoint/public-model.ts'
import { readSafetensors, type TensorEntry, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import { float32FromF16 } from '../../src/lib/float-formats.ts'
import type { ModelConfig } from '../../src/model/config.ts'

const CONFIG: ModelConfig = {
  vocabSize: 4200,
  hiddenSize: 64,
  intermediateSize: 96,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 64,
  ropeTheta: 10_000,
  rmsNormEps: 1e-6,
}
const GATE = 'model.layers.1.mlp.gate_proj.weight'
const EXPERT_GATE = 'model.layers.1.mlp.experts.1.gate_proj.weight'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flexmesh-sizes-'))
})
afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

async function tensorsOf(path: string): Promise<Map<string, TensorEntry>> {
  return readSafetensors(await readFile(path)).tensors
}

function valuesOf(tensors: ReadonlyMap<string, TensorEntry>, name: string): Float32Array {
  return toFloat32(tensors.get(name) as TensorEntry)
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length)
}

describe('a random public model', () => {
  it('is a public model with the scales that keep its activations sane', async () => {
    await writePublicModel(join(dir, 'model'), CONFIG)
    const { config } = await openPublicModel(join(dir, 'model'))
    const tensors = await tensorsOf(join(dir, 'model', 'model.safetensors'))
    expect(config).toEqual(CONFIG)
    expect(deviation(valuesOf(tensors, 'model.embed_tokens.weight'))).toBeCloseTo(1, 1)
    expect(deviation(valuesOf(tensors, 'lm_head.weight'))).toBeCloseTo(2 / 8, 2)
    expect(deviation(valuesOf(tensors, GATE))).toBeCloseTo(1 / 8, 2)
    expect([...valuesOf(tensors, 'model.norm.weight')]).toEqual(Array.from({ length: 64 }, () => 1))
  })

  it('has the same bytes when it is written again', async () => {
    await writePublicModel(join(dir, 'one'), CONFIG)
    await writePublicModel(join(dir, 'two'), CONFIG)
    const read = (name: string): Promise<Buffer> => readFile(join(dir, name, 'model.safetensors'))
    expect((await read('one')).equals(await read('two'))).toBe(true)
  })
})

describe('a random expert', () => {
  it('differs from the public FFN by a twentieth of its norm, and from other experts', async () => {
    await writePublicModel(join(dir, 'model'), CONFIG)
    await writeExpertFile(join(dir, 'one'), CONFIG, 1)
    await writeExpertFile(join(dir, 'two'), CONFIG, 2)
    const base = valuesOf(await tensorsOf(join(dir, 'model', 'model.safetensors')), GATE)
    const one = valuesOf(await tensorsOf(join(dir, 'one')), EXPERT_GATE)
    const two = valuesOf(await tensorsOf(join(dir, 'two')), EXPERT_GATE)
    expect(deviation(one.map((x, i) => x - (base[i] as number))) / deviation(base)).toBeCloseTo(0.05, 2)
    expect(one).not.toEqual(two)
  })

  it('of low rank has a difference of the same norm', async () => {
    const rank = 16
    await writeExpertFile(join(dir, 'expert'), CONFIG, 1, rank)
    const tensors = await tensorsOf(join(dir, 'expert'))
    const name = EXPERT_GATE.replace('.weight', '.lora_')
    const [A, B] = [valuesOf(tensors, `${name}A.weight`), valuesOf(tensors, `${name}B.weight`)]
    const product = Float32Array.from({ length: 96 * 64 }, (_, at) => {
      const [row, column] = [Math.floor(at / 64), at % 64]
      let sum = 0
      for (let k = 0; k < rank; k++) sum += (B[row * rank + k] as number) * (A[k * 64 + column] as number)
      return sum
    })
    expect(deviation(product)).toBeCloseTo(0.05 / 8, 3)
  })

  it('is in a pair beside the same bytes of the public model', async () => {
    await writePublicModel(join(dir, 'model'), CONFIG)
    await writePair(join(dir, 'pair'), CONFIG, 1)
    await writeExpertFile(join(dir, 'expert'), CONFIG, 1)
    const model = await tensorsOf(join(dir, 'model', 'model.safetensors'))
    const pair = await tensorsOf(join(dir, 'pair', 'model.safetensors'))
    const expert = await tensorsOf(join(dir, 'expert'))
    expect(valuesOf(pair, EXPERT_GATE.replace('experts.1', 'experts.0'))).toEqual(valuesOf(model, GATE))
    expect(valuesOf(pair, EXPERT_GATE)).toEqual(valuesOf(expert, EXPERT_GATE))
  })
})

describe('a file for llama.cpp', () => {
  it.each([
    ['Q8_0', 34],
    ['Q4_0', 18],
  ] as const)('in %s has blocks of 32 values of deviation 1 / sqrt(width)', async (format, blockBytes) => {
    const path = join(dir, 'model.gguf')
    await writeOlmoeGguf(path, CONFIG, 3, 2, format)
    const bytes = await readFile(path)
    // The last tensor is ffn_down_exps of the last layer, whose rows have 96 values.
    const count = 96 * 64 * 3
    const data = bytes.subarray(bytes.length - (count / 32) * blockBytes)
    const values: number[] = []
    for (let block = 0; block < data.length; block += blockBytes) {
      const [scale = 0] = float32FromF16(Uint16Array.of(data.readUInt16LE(block)))
      for (let at = block + 2; at < block + blockBytes; at++) {
        const byte = data[at] as number
        if (format === 'Q8_0') values.push(data.readInt8(at) * scale)
        else values.push(((byte & 15) - 8) * scale, ((byte >> 4) - 8) * scale)
      }
    }
    expect(values).toHaveLength(count)
    expect(deviation(Float32Array.from(values)) * Math.sqrt(96)).toBeCloseTo(1, 1)
  })
})

describe('the benchmark of sizes', () => {
  it('refuses a model that it does not know', async () => {
    await expect(benchSizes(() => undefined, ['--models', '1B,13B'])).rejects.toThrow(
      'sizes takes --models with some of tiny,200M,1B,7B,7x7B',
    )
  })
})
