/**
 * A two-expert FlexOlmo checkpoint: opens it and checks that everything but expert 1 equals the public model bit for
 * bit. Reads tensors piece by piece. Knows nothing about trainings.
 */
import { join } from 'node:path'
import { checkTensors, checkValues, type FloatTensor } from '../checkpoint/checkpoint-check.ts'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint-directory.ts'
import { readConfig, readTokenizer, TOKENIZER_FILE } from '../checkpoint/model-directory.ts'
import type { PublicModelFiles } from '../checkpoint/public-model.ts'
import { bytePieces } from '../checkpoint/tensor-file.ts'
import { equalBytes, fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { mixtureName, routerName } from '../lib/tensor-names.ts'
import { configFromHuggingFace, type ModelConfig } from '../model/config.ts'
import { mixtureShapes } from '../model/params.ts'

/** A pair whose tensor names and shapes fit the public model. */
export interface Pair {
  readonly checkpoint: Checkpoint
  readonly tensors: ReadonlyMap<string, FloatTensor>
}

/**
 * Open the two-expert checkpoint in `dir` without reading weights.
 * @throws InputError `not-a-model`; `mismatch` if its config or tokenizer differs from the public model's; FormatError.
 */
export async function openPair(model: PublicModelFiles, dir: string): Promise<Pair> {
  const checkpoint = await openCheckpoint(dir)
  const json = await readConfig(dir)
  const { model_type, num_experts } = (json ?? {}) as Record<string, unknown>
  if (model_type !== 'flex_olmo' || num_experts !== 2) {
    throw new InputError(
      'not-a-model',
      `${join(dir, 'config.json')}: expected model_type flex_olmo with num_experts 2, got ${JSON.stringify(model_type)} with ${JSON.stringify(num_experts)}`,
    )
  }
  const config = configFromHuggingFace(json)
  for (const key of Object.keys(config) as (keyof ModelConfig)[]) {
    if (config[key] !== model.config[key]) {
      throw new InputError(
        'mismatch',
        `${join(dir, 'config.json')}: expected ${key} ${model.config[key]} as in the public model, got ${config[key]}`,
      )
    }
  }
  const theirs = await readTokenizer(dir)
  if (!sameTokenizer(theirs, await readTokenizer(model.dir))) {
    throw new InputError(
      'mismatch',
      `${join(dir, TOKENIZER_FILE)} is not the tokenizer of the public model; train on text encoded by that tokenizer`,
    )
  }
  return { checkpoint, tensors: checkTensors(checkpoint, mixtureShapes(config, 2)) }
}

/** Whether two files encode text alike: libraries write the same tokenizer in different spellings. */
function sameTokenizer(a: Uint8Array, b: Uint8Array): boolean {
  if (equalBytes(a, b)) return true
  const parts = [a, b].map((bytes) => {
    try {
      const { model, added_tokens, normalizer, pre_tokenizer } = JSON.parse(fromUtf8(bytes))
      return JSON.stringify(ordered({ model, added_tokens, normalizer, pre_tokenizer }))
    } catch {
      return undefined
    }
  })
  return parts[0] !== undefined && parts[0] === parts[1]
}

/** The same value with the members of every object sorted by name. */
function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, ordered(inner)]),
  )
}

/**
 * Check that every tensor of the public model and the public router rows are unchanged.
 * @param progress called with the number of bytes of each piece.
 * @throws InputError `mismatch` naming the first tensor that differs; FormatError for router values that are not finite.
 */
export async function compareFrozen(
  model: PublicModelFiles,
  { checkpoint, tensors }: Pair,
  progress: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const differs = (tensor: FloatTensor, how: string): InputError =>
    new InputError(
      'mismatch',
      `${join(checkpoint.dir, tensor.file)}: tensor ${tensor.name} ${how}; only expert 1 and its router rows may be trained`,
    )
  for (const own of model.tensors.values()) {
    const theirs = tensors.get(mixtureName(own.name)) as FloatTensor
    if (theirs.dtype !== own.dtype) {
      throw differs(theirs, `is ${theirs.dtype}, but ${own.dtype} in the public model`)
    }
    const pieces = bytePieces(own.weight, own.dtype, signal)
    try {
      for await (const piece of bytePieces(theirs.weight, theirs.dtype, signal)) {
        const { value } = await pieces.next()
        if (value === undefined || !equalBytes(piece, value))
          throw differs(theirs, 'differs from the public model')
        progress(piece.length)
      }
    } finally {
      await pieces.return()
    }
  }
  for (let layer = 0; layer < model.config.numHiddenLayers; layer++) {
    const router = tensors.get(routerName(layer)) as FloatTensor
    const bytes = new Uint8Array(router.length)
    await router.weight.readBytes(bytes, 0, signal)
    if (bytes.subarray(0, bytes.length / 2).some((byte) => byte !== 0)) {
      throw differs(router, 'has a row 0 that is not zero, as the public row is')
    }
    checkValues(checkpoint, router, bytes, router.dtype, 0)
  }
}
