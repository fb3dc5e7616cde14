/**
 * Parameters of a checkpoint that are read from their files when they are first used, so that a process which leaves
 * computing to threads and has not answered yet does not hold a second copy of all weights.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { FormatError } from '../lib/errors.ts'
import type { Param, Params } from '../model/params.ts'
import { checkPiece, type FloatTensor } from './checkpoint-check.ts'
import type { Checkpoint } from './checkpoint-directory.ts'
import { toFloat32 } from './safetensors.ts'

/**
 * Parameters by name. Their `data` throws FormatError, or the system's error, if the file cannot be read any more.
 * @param tensors in the order of the parameters
 */
export function lazyParams(checkpoint: Checkpoint, tensors: ReadonlyMap<string, FloatTensor>): Params {
  const params = new Map<string, Param>()
  for (const [name, tensor] of tensors) {
    let data: Float32Array | undefined
    params.set(name, {
      shape: tensor.shape,
      get data() {
        data ??= readValues(checkpoint, tensor)
        return data
      },
    })
  }
  return params
}

function readValues(checkpoint: Checkpoint, tensor: FloatTensor): Float32Array {
  const bytes = new Uint8Array(tensor.length)
  const path = join(checkpoint.dir, tensor.file)
  const file = openSync(path, 'r')
  try {
    for (let at = 0; at < bytes.length; ) {
      const read = readSync(file, bytes, at, bytes.length - at, tensor.offset + at)
      if (read === 0) throw new FormatError('truncated', `${path}: ended while it was read`)
      at += read
    }
  } finally {
    closeSync(file)
  }
  checkPiece(checkpoint, tensor, bytes, 0)
  return toFloat32({ dtype: tensor.dtype, data: bytes })
}
