/** Checks that a checkpoint holds exactly the tensors that a configuration demands, with finite values only. */
import { join } from 'node:path'
import { FormatError, InputError } from '../lib/errors.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { firstNonFinite } from '../lib/float-formats.ts'
import {
  type Checkpoint,
  type CheckpointTensor,
  INDEX_FILE,
  readPieces,
  WEIGHTS_FILE,
} from './checkpoint-directory.ts'
import { DTYPE_BYTES, type Dtype } from './safetensors-header.ts'

export interface CheckOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes of tensors read so far, and the total. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

export interface FloatTensor extends CheckpointTensor {
  readonly dtype: FloatDtype
}

/**
 * Check names, shapes and dtypes without reading values.
 * @throws InputError `not-a-model` naming the file and the tensor.
 */
export function checkTensors(
  checkpoint: Checkpoint,
  expected: ReadonlyMap<string, readonly number[]>,
): Map<string, FloatTensor> {
  const { dir, tensors } = checkpoint
  const checked = new Map<string, FloatTensor>()
  for (const [name, shape] of expected) {
    const tensor = tensors.get(name)
    if (tensor === undefined) {
      const file = join(dir, checkpoint.indexed ? INDEX_FILE : WEIGHTS_FILE)
      throw new InputError('not-a-model', `${file}: tensor ${name} is missing`)
    }
    const { dtype } = tensor
    const title = `${join(dir, tensor.file)}: tensor ${name}`
    if (tensor.shape.join() !== shape.join()) {
      throw new InputError(
        'not-a-model',
        `${title} has shape [${tensor.shape.slice(0, 8)}], but the config demands [${shape}]`,
      )
    }
    if (!isFloat(dtype)) {
      throw new InputError('not-a-model', `${title} is ${dtype}; expected F32, BF16 or F16`)
    }
    checked.set(name, { ...tensor, dtype })
  }
  for (const { name, file } of tensors.values()) {
    if (!expected.has(name)) {
      throw new InputError(
        'not-a-model',
        `${join(dir, file)}: tensor ${name.slice(0, 120)} is not part of this model`,
      )
    }
  }
  return checked
}

/**
 * Check that all values are finite.
 * @throws FormatError `bad-safetensors` naming the file, the tensor and the index.
 */
export async function checkFinite(
  checkpoint: Checkpoint,
  tensors: Iterable<FloatTensor>,
  { signal, onProgress }: CheckOptions = {},
): Promise<void> {
  const list = [...tensors]
  const total = list.reduce((sum, { length }) => sum + length, 0)
  let done = 0
  for (const tensor of list) {
    let at = 0
    for await (const piece of readPieces(checkpoint, tensor, signal)) {
      checkPiece(checkpoint, tensor, piece, at)
      at += piece.length
      done += piece.length
      onProgress?.(done, total)
    }
  }
}

/** Check one piece of a tensor; `at` is its offset in the tensor, in bytes. @throws as `checkFinite`. */
export function checkPiece({ dir }: Checkpoint, tensor: FloatTensor, piece: Uint8Array, at: number): void {
  const index = firstNonFinite(piece, tensor.dtype)
  if (index < 0) return
  throw new FormatError(
    'bad-safetensors',
    `${join(dir, tensor.file)}: tensor ${tensor.name} holds a value that is not finite, at ${at / DTYPE_BYTES[tensor.dtype] + index}`,
  )
}

function isFloat(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'BF16' || dtype === 'F16'
}
