/** Model folders as publishers make them, and changed copies of them. */
import { copyFile, cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openCheckpoint } from '../../src/checkpoint/checkpoint-directory.ts'
import { DiskFile } from '../../src/checkpoint/file-weight.ts'
import { writeHuggingFaceDirectory } from '../../src/checkpoint/huggingface-directory.ts'
import type { FloatDtype } from '../../src/lib/float-formats.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { configToHuggingFace, type ModelConfig } from '../../src/model/config.ts'
import { publicShapes } from '../../src/model/params.ts'
import { initialPublicModel } from '../../src/training/dense.ts'
import { BytesWeight } from './bytes-weight.ts'
import { folder, SMALL_MODEL } from './folders.ts'

/** Grouped-query attention and a vocabulary padded beyond the tokenizer's. */
export const PUBLISHED: ModelConfig = {
  vocabSize: 4160,
  hiddenSize: 32,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 256,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}
const SHARD_BYTES = 200_000

/** A new model folder as on Hugging Face: weights in shards, no replay text. */
export async function publishedModel(dtype: FloatDtype, shardBytes = SHARD_BYTES): Promise<string> {
  const dir = join(await folder(), 'model')
  const weights = initialPublicModel(PUBLISHED, mulberry32(3))
  const tensors = [...publicShapes(PUBLISHED)].map(([name, shape]) => ({
    name,
    weight: { shape, data: weights.get(name) as Float32Array },
    dtype,
  }))
  const files = new Map<string, string | Uint8Array>([
    ['config.json', JSON.stringify({ ...configToHuggingFace(PUBLISHED), eos_token_id: 0 })],
    ['tokenizer.json', await readFile(join(SMALL_MODEL, 'tokenizer.json'))],
  ])
  await writeHuggingFaceDirectory(dir, { tensors, files }, { shardBytes })
  return dir
}

/** A new file with some public text for replay. */
export async function replayFile(): Promise<string> {
  const path = join(await folder(), 'public.jsonl')
  const replay = await readFile(join(SMALL_MODEL, 'replay.jsonl'), 'utf8')
  await writeFile(path, `${replay.split('\n').slice(0, 30).join('\n')}\n`)
  return path
}

export interface StoredTensor {
  name: string
  dtype: FloatDtype
  shape: readonly number[]
  bytes: Uint8Array
}

export async function tensorsOf(dir: string): Promise<Map<string, StoredTensor>> {
  const checkpoint = await openCheckpoint(dir)
  const tensors = new Map<string, StoredTensor>()
  for (const [name, tensor] of checkpoint.tensors) {
    const bytes = new Uint8Array(tensor.length)
    await new DiskFile(join(dir, tensor.file)).read(bytes, tensor.offset)
    tensors.set(name, { name, dtype: tensor.dtype as FloatDtype, shape: tensor.shape, bytes })
  }
  return tensors
}

/** A copy of a folder with changed tensors, in shards of `shardBytes`. */
export async function rewritten(
  dir: string,
  change: (tensors: Map<string, StoredTensor>) => void,
  shardBytes?: number,
): Promise<string> {
  const copy = join(await folder(), 'model')
  const tensors = await tensorsOf(dir)
  change(tensors)
  const list = [...tensors.values()].map((tensor) => ({
    name: tensor.name,
    weight: new BytesWeight(tensor.dtype, tensor.shape, tensor.bytes),
  }))
  await writeHuggingFaceDirectory(copy, { tensors: list, files: new Map() }, { shardBytes })
  for (const name of ['config.json', 'tokenizer.json', 'router_bias.safetensors'])
    await copyFile(join(dir, name), join(copy, name)).catch(() => undefined)
  return copy
}

/** An exact copy of a folder. */
export async function copied(dir: string): Promise<string> {
  const copy = join(await folder(), 'model')
  await cp(dir, copy, { recursive: true })
  return copy
}

/** Change config.json in place. */
export async function reconfigured(dir: string, change: Record<string, unknown>): Promise<string> {
  const path = join(dir, 'config.json')
  const json = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
  await writeFile(path, JSON.stringify({ ...json, ...change }))
  return dir
}

export async function without(dir: string, name: string): Promise<string> {
  await rm(join(dir, name))
  return dir
}

/** The message of the error of an action, or `accepted`. */
export function messageOf(action: () => Promise<unknown>): Promise<string> {
  return action().then(
    () => 'accepted',
    (error: Error) => error.message,
  )
}

export function tensorOf(tensors: Map<string, StoredTensor>, name: string): StoredTensor {
  const found = tensors.get(name)
  if (found === undefined) throw new Error(`no tensor ${name}`)
  return found
}

/** Convert a tensor from BF16 to F32 in place. */
export function widen(tensor: StoredTensor): void {
  const halves = new Uint16Array(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.length / 2)
  const wide = Uint32Array.from(halves, (half) => half << 16)
  Object.assign(tensor, { dtype: 'F32', bytes: new Uint8Array(wide.buffer) })
}
