/**
 * Keeps a training checkpoint as one safetensors file of any size, which is replaced atomically. Arrays are written
 * from memory and read into memory piece by piece. Does not know the optimizer.
 */
import { openTensorFile } from '../checkpoint/file-weight.ts'
import { writeTensorFile } from '../checkpoint/tensor-file.ts'
import { FormatError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { countOf } from '../model/weights.ts'
import type { CheckpointStore, SavedCheckpoint } from '../training/train.ts'

/**
 * The checkpoint at `path`. `load` throws FormatError for a damaged file. `save` removes what a killed process has left
 * of the same checkpoint, and throws InputError `disk-full` before it writes anything that does not fit.
 */
export function checkpointFile(path: string): CheckpointStore {
  return {
    load: () => openCheckpointFile(path),
    save: ({ step, arrays }) => {
      const tensors = Array.from(arrays, ([name, data]) => ({ name, weight: { shape: [data.length], data } }))
      return writeTensorFile(path, tensors, { metadata: new Map([['step', String(step)]]) })
    },
  }
}

async function openCheckpointFile(path: string): Promise<SavedCheckpoint | undefined> {
  if (!(await pathExists(path))) return undefined
  const { tensors, metadata } = await openTensorFile(path)
  const step = Number(metadata.get('step'))
  if (!Number.isSafeInteger(step)) throw new FormatError('bad-field', `${path}: expected a step number`)
  return {
    step,
    lengths: new Map(Array.from(tensors, ([name, weight]) => [name, countOf(weight)])),
    read: async (name, into) => {
      const weight = tensors.get(name)
      if (weight?.dtype !== 'F32' || countOf(weight) !== into.length) {
        throw new FormatError('bad-field', `${path}: expected ${into.length} float32 values of ${name}`)
      }
      await weight.read(into, 0)
    },
  }
}
