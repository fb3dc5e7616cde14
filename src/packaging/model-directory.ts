/**
 * A public model as a Hugging Face directory: config.json, tokenizer.json, model.safetensors, and
 * beside them replay.jsonl, the public text for replay. Knows no architecture.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { pathExists, readFileBounded } from '../lib/files.ts'
import { readSafetensors, toFloat32 } from './safetensors.ts'

export const MODEL_FILES = [
  { role: 'config', name: 'config.json' },
  { role: 'tokenizer', name: 'tokenizer.json' },
  { role: 'weights', name: 'model.safetensors' },
  { role: 'replay', name: 'replay.jsonl' },
] as const

const MAX_JSON_BYTES = 64 * 2 ** 20
const MAX_WEIGHT_BYTES = 64 * 2 ** 30

/** @throws InputError `not-a-model` naming what is missing. */
export async function checkModelDirectory(dir: string): Promise<void> {
  if (!(await pathExists(dir)) || !(await stat(dir)).isDirectory()) {
    throw new InputError(
      'not-a-model',
      `${dir} is not a folder; a public model is a folder with ${MODEL_FILES.map((f) => f.name).join(', ')}`,
    )
  }
  for (const { name } of MODEL_FILES) {
    if (!(await pathExists(join(dir, name)))) {
      throw new InputError(
        'not-a-model',
        `${dir} has no ${name}; a public model is a folder with ${MODEL_FILES.map((f) => f.name).join(', ')}`,
      )
    }
  }
}

/** The parsed config.json, not yet checked. @throws InputError `not-a-model`. */
export function parseConfig(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new InputError('not-a-model', 'config.json: expected JSON', {}, cause)
  }
}

export async function readModelFile(
  path: string,
  role: (typeof MODEL_FILES)[number]['role'],
): Promise<Uint8Array> {
  return readFileBounded(path, role === 'weights' ? MAX_WEIGHT_BYTES : MAX_JSON_BYTES)
}

/**
 * Weights as float32 by name, checked against the names and shapes that the config demands.
 * @throws InputError `not-a-model`; FormatError `bad-safetensors`.
 */
export function parseWeights(
  bytes: Uint8Array,
  expected: ReadonlyMap<string, readonly number[]>,
): Map<string, { shape: readonly number[]; data: Float32Array }> {
  const { tensors } = readSafetensors(bytes)
  const params = new Map<string, { shape: readonly number[]; data: Float32Array }>()
  for (const [name, shape] of expected) {
    const entry = tensors.get(name)
    if (entry === undefined)
      throw new InputError('not-a-model', `model.safetensors: tensor ${name} is missing`)
    if (entry.shape.join() !== shape.join()) {
      throw new InputError(
        'not-a-model',
        `model.safetensors: ${name} has shape [${entry.shape}], the config demands [${shape}]`,
      )
    }
    const data = toFloat32(entry)
    if (data.some((x) => !Number.isFinite(x)))
      throw new FormatError('bad-safetensors', `${name} holds a value that is not finite`)
    params.set(name, { shape, data })
  }
  return params
}
