/** Keeps a training checkpoint as one safetensors file, replaced atomically. Knows no optimizer. */
import { fromFloat32, readSafetensors, toFloat32, writeSafetensors } from '../checkpoint/safetensors.ts'
import { FormatError } from '../lib/errors.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import type { CheckpointStore } from '../training/train.ts'

const MAX_BYTES = 64 * 2 ** 30

/** The checkpoint at `path`; `load` throws FormatError for a damaged file. */
export function checkpointFile(path: string): CheckpointStore {
  return {
    load: async () => {
      if (!(await pathExists(path))) return undefined
      const { tensors, metadata } = readSafetensors(await readFileBounded(path, MAX_BYTES))
      const step = Number(metadata.get('step'))
      if (!Number.isSafeInteger(step)) throw new FormatError('bad-field', `${path}: expected a step number`)
      return { step, arrays: new Map([...tensors].map(([name, entry]) => [name, toFloat32(entry)])) }
    },
    save: ({ step, arrays }) => {
      const entries = [...arrays].map(([name, data]) => ({
        name,
        dtype: 'F32' as const,
        shape: [data.length],
        data: fromFloat32(data, 'F32'),
      }))
      return writeFileAtomic(path, writeSafetensors(entries, new Map([['step', String(step)]])))
    },
  }
}
