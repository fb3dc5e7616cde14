/**
 * Writes a Hugging Face model folder: safetensors in shards with their index, and the small files. Tensors are
 * written piece by piece and never held as a whole. Does not know model architectures.
 */
import { mkdir, readdir, rename, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { utf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors, pathExists, syncDir } from '../lib/files.ts'
import { requireFreeSpace } from '../lib/free-space.ts'
import { limit } from '../lib/limits.ts'
import { withTemporary } from '../lib/temporary.ts'
import { INDEX_FILE, WEIGHTS_FILE } from './checkpoint-directory.ts'
import {
  type NamedTensor,
  tensorBytes,
  tensorFileBytes,
  tensorFilePieces,
  writeNewFile,
} from './tensor-file.ts'

export interface DirectoryContent {
  readonly tensors: readonly NamedTensor[]
  /** Small files by name. */
  readonly files: ReadonlyMap<string, string | Uint8Array>
}

export interface DirectoryOptions {
  /** Maximum bytes of tensors in one file; a larger tensor gets a file of its own. */
  readonly shardBytes?: number | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/** The default of transformers. */
export const DEFAULT_SHARD_BYTES = 5e9

/**
 * Write the folder `dir`, and remove what a killed process has left of an earlier attempt.
 * @returns names of the files.
 * @throws InputError `exists` for a folder that is not empty; `disk-full` before anything is written, if the file
 * system has too little space; `permissions`; as `WeightSource.read`.
 */
export async function writeHuggingFaceDirectory(
  dir: string,
  content: DirectoryContent,
  { shardBytes = DEFAULT_SHARD_BYTES, signal, onProgress }: DirectoryOptions = {},
): Promise<string[]> {
  const shards = shardsOf(content.tensors, shardBytes)
  const shardSizes = shards.map((shard) => tensorFileBytes(shard.tensors))
  const small = new Map(content.files)
  if (shards.length > 1) small.set(INDEX_FILE, indexOf(shards))
  const smallBytes = [...small.values()].reduce((sum, data) => sum + byteLength(data), 0)
  const total = shardSizes.reduce((sum, size) => sum + size, 0)
  await writeFolder(dir, total + smallBytes, async (temporary) => {
    let written = 0
    for (const [i, { file, tensors }] of shards.entries()) {
      const pieces = tensorFilePieces(tensors, {
        signal,
        onProgress: (done) => onProgress?.(written + done, total),
      })
      await writeNewFile(join(temporary, file), pieces)
      written += shardSizes[i] as number
    }
    for (const [name, data] of small) await writeFile(join(temporary, name), data, { flush: true })
  })
  return [...shards.map(({ file }) => file), ...small.keys()]
}

/**
 * Create the folder `dir` with the files that `write` puts into a temporary folder. `dir` appears complete or not at
 * all; what a killed process has left of an earlier attempt is removed.
 * @param bytes size of all files, which must fit the file system
 * @throws as `writeHuggingFaceDirectory`.
 */
export async function writeFolder(
  dir: string,
  bytes: number,
  write: (temporary: string) => Promise<void>,
): Promise<void> {
  await checkTarget(dir)
  const parent = dirname(dir)
  await mapDiskErrors(dir, async () => {
    await ensurePrivateDir(parent)
    await withTemporary(dir, async (temporary) => {
      await requireFreeSpace(parent, bytes)
      await mkdir(temporary)
      await write(temporary)
      await syncDir(temporary)
      await rename(temporary, dir)
      await syncDir(parent)
    })
  })
}

interface Shard {
  /** Name of its file. */
  readonly file: string
  readonly tensors: readonly NamedTensor[]
}

/** Tensors in the given order; a new shard begins where the next tensor would not fit. */
function shardsOf(tensors: readonly NamedTensor[], shardBytes: number): Shard[] {
  const shards: NamedTensor[][] = [[]]
  let size = 0
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor)
    const isFull = (shards.at(-1)?.length ?? 0) >= limit('tensorsPerFile')
    if (isFull || (size > 0 && size + bytes > shardBytes)) {
      shards.push([])
      size = 0
    }
    shards.at(-1)?.push(tensor)
    size += bytes
  }
  return shards.map((list, i) => ({
    file: shards.length === 1 ? WEIGHTS_FILE : shardName(i + 1, shards.length),
    tensors: list,
  }))
}

/** The index of several shards: the file of each tensor. */
function indexOf(shards: readonly Shard[]): string {
  const files = shards.flatMap(({ file, tensors }) => tensors.map(({ name }) => [name, file] as const))
  const weightMap = Object.fromEntries(files.sort(([a], [b]) => (a < b ? -1 : 1)))
  const total = shards.flatMap(({ tensors }) => tensors).reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  return `${JSON.stringify({ metadata: { total_size: total }, weight_map: weightMap }, null, 2)}\n`
}

/** @throws InputError `exists` unless the path does not exist or is an empty folder. */
export async function checkTarget(dir: string): Promise<void> {
  if (!(await pathExists(dir))) return
  const empty = (await stat(dir)).isDirectory() && (await mapDiskErrors(dir, () => readdir(dir))).length === 0
  if (!empty) {
    throw new InputError('exists', `${dir} is not empty; choose another folder, or remove what is in it`)
  }
}

function byteLength(data: string | Uint8Array): number {
  return typeof data === 'string' ? utf8(data).length : data.length
}

function shardName(index: number, count: number): string {
  const padded = (n: number): string => String(n).padStart(5, '0')
  return `model-${padded(index)}-of-${padded(count)}.safetensors`
}
