/**
 * Keeps a training checkpoint as one safetensors file of any size, which is replaced atomically. Arrays are written
 * from memory and read into memory piece by piece. Does not know the optimizer.
 */
import { basename, dirname } from 'node:path'
import { readLayout, readPieces } from '../checkpoint/checkpoint-directory.ts'
import { fromFloat32, type SafetensorsLayout, writeSafetensors } from '../checkpoint/safetensors.ts'
import { FormatError } from '../lib/errors.ts'
import { pathExists, removeTemporaryFiles, writeFileAtomic } from '../lib/files.ts'
import type { CheckpointStore, SavedCheckpoint } from '../training/train.ts'

/**
 * The checkpoint at `path`.
 *
 * `load` throws FormatError for a damaged file. `save` first removes what an interrupted `save` has left in the folder,
 * so no other process may write there.
 */
export function checkpointFile(path: string): CheckpointStore {
  return {
    load: () => openCheckpointFile(path),
    save: async ({ step, arrays }) => {
      await removeTemporaryFiles(dirname(path))
      const entries = [...arrays].map(([name, data]) => ({
        name,
        dtype: 'F32' as const,
        shape: [data.length],
        data: fromFloat32(data, 'F32'),
      }))
      await writeFileAtomic(path, writeSafetensors(entries, new Map([['step', String(step)]])))
    },
  }
}

async function openCheckpointFile(path: string): Promise<SavedCheckpoint | undefined> {
  if (!(await pathExists(path))) return undefined
  const layout = await readLayout(path)
  const step = Number(layout.metadata.get('step'))
  if (!Number.isSafeInteger(step)) throw new FormatError('bad-field', `${path}: expected a step number`)
  return {
    step,
    lengths: new Map(
      [...layout.tensors].map(([name, { shape }]) => [name, shape.reduce((a, b) => a * b, 1)]),
    ),
    read: (name, into) => readArray(path, layout, name, into),
  }
}

async function readArray(
  path: string,
  layout: SafetensorsLayout,
  name: string,
  into: Float32Array,
): Promise<void> {
  const tensor = layout.tensors.get(name)
  if (tensor?.dtype !== 'F32' || tensor.length !== into.byteLength) {
    throw new FormatError('bad-field', `${path}: expected ${into.length} float32 values of ${name}`)
  }
  const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength)
  let at = 0
  for await (const piece of readPieces({ dir: dirname(path) }, { ...tensor, file: basename(path) })) {
    bytes.set(piece, at)
    at += piece.length
  }
}
