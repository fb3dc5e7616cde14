/** Checks that a checkpoint holds exactly the tensors that a configuration demands, with finite values only. */
import { join } from 'node:path'
import { FormatError, InputError } from '../lib/errors.ts'
import { FLOAT_BYTES, type FloatDtype, firstNonFinite } from '../lib/float-formats.ts'
import { type Checkpoint, type CheckpointTensor, INDEX_FILE, WEIGHTS_FILE } from './checkpoint-directory.ts'
import { DiskFile, FileWeight, isFloat } from './file-weight.ts'
import { bytePieces } from './tensor-file.ts'

export interface CheckOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes of tensors read so far, and the total. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

export interface FloatTensor extends CheckpointTensor {
  readonly dtype: FloatDtype
  /** Its values, which are read when they are used. */
  readonly weight: FileWeight
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
    const weight = new FileWeight(new DiskFile(join(dir, tensor.file)), { ...tensor, dtype })
    checked.set(name, { ...tensor, dtype, weight })
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
    let from = 0
    for await (const piece of bytePieces(tensor.weight, tensor.dtype, signal)) {
      checkValues(checkpoint, tensor, piece, tensor.dtype, from)
      from += piece.length / FLOAT_BYTES[tensor.dtype]
      done += piece.length
      onProgress?.(done, total)
    }
  }
}

/**
 * Check some values of a tensor.
 * @param values little-endian, in format `dtype`
 * @param from index of the first one in the tensor
 * @throws as `checkFinite`.
 */
export function checkValues(
  { dir }: Checkpoint,
  tensor: FloatTensor,
  values: Uint8Array,
  dtype: FloatDtype,
  from: number,
): void {
  const index = firstNonFinite(values, dtype)
  if (index < 0) return
  throw new FormatError(
    'bad-safetensors',
    `${join(dir, tensor.file)}: tensor ${tensor.name} holds a value that is not finite, at ${from + index}`,
  )
}
