/** The public model that tests use: random weights, the tokenizer and some of the replay text of models/small. */
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromFloat32, writeSafetensors } from '../../src/checkpoint/safetensors.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { configToHuggingFace, type ModelConfig } from '../../src/model/config.ts'
import { publicShapes } from '../../src/model/params.ts'
import { initialPublicModel } from '../../src/training/dense.ts'
import { folder, SMALL_MODEL } from './folders.ts'

export const TINY: ModelConfig = {
  vocabSize: 4096,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 256,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}

/** A new folder that holds the model. */
export async function tinyModel(): Promise<string> {
  const dir = await folder()
  const weights = initialPublicModel(TINY, mulberry32(3))
  const entries = [...publicShapes(TINY)].map(([name, shape]) => ({
    name,
    dtype: 'F32' as const,
    shape: [...shape],
    data: fromFloat32(weights.get(name) as Float32Array, 'F32'),
  }))
  await writeFile(join(dir, 'model.safetensors'), Buffer.concat(writeSafetensors(entries)))
  await writeFile(join(dir, 'config.json'), JSON.stringify(configToHuggingFace(TINY)))
  await copyFile(join(SMALL_MODEL, 'tokenizer.json'), join(dir, 'tokenizer.json'))
  const replay = await readFile(join(SMALL_MODEL, 'replay.jsonl'), 'utf8')
  await writeFile(join(dir, 'replay.jsonl'), `${replay.split('\n').slice(0, 30).join('\n')}\n`)
  return dir
}
