/**
 * Writes a Hugging Face model folder: safetensors in shards with their index, and the small files. Tensors are
 * written piece by piece and never held as a whole; the folder appears complete or not at all. Knows no architecture.
 */
import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { toHex } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors, pathExists, syncDir } from '../lib/files.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { limit } from '../lib/limits.ts'
import { INDEX_FILE, WEIGHTS_FILE } from './checkpoint-directory.ts'
import {
  byteLengthOf,
  HUGGING_FACE_METADATA,
  inFileOrder,
  type TensorSpec,
  writeSafetensorsHeader,
} from './safetensors.ts'

/** A tensor to write. */
export interface TensorSource extends TensorSpec {
  readonly dtype: FloatDtype
  /** Yield its bytes, little-endian, in order. */
  pieces(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>
}

export interface DirectoryContent {
  readonly tensors: readonly TensorSource[]
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
 * Write the folder `dir`.
 * @returns names of the files.
 * @throws InputError `exists` for a folder that is not empty, `disk-full`, `permissions`.
 */
export async function writeHuggingFaceDirectory(
  dir: string,
  content: DirectoryContent,
  options: DirectoryOptions = {},
): Promise<string[]> {
  await checkTarget(dir)
  const temporary = join(dirname(dir), `.${basename(dir)}.${toHex(randomBytes(6))}.tmp`)
  return mapDiskErrors(dir, async () => {
    try {
      await ensurePrivateDir(dirname(dir))
      await mkdir(temporary)
      const names = await writeAll(temporary, content, options)
      await syncDir(temporary)
      await rename(temporary, dir)
      await syncDir(dirname(dir))
      return names
    } catch (error) {
      await rm(temporary, { recursive: true, force: true })
      throw error
    }
  })
}

async function writeAll(
  dir: string,
  { tensors, files }: DirectoryContent,
  { shardBytes = DEFAULT_SHARD_BYTES, signal, onProgress }: DirectoryOptions,
): Promise<string[]> {
  const total = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0)
  const shards = shardsOf(tensors, shardBytes)
  const weightMap: Record<string, string> = {}
  const names: string[] = []
  let done = 0
  for (const [i, shard] of shards.entries()) {
    const file = shards.length === 1 ? WEIGHTS_FILE : shardName(i + 1, shards.length)
    const count = (bytes: number): void => {
      done += bytes
      onProgress?.(done, total)
    }
    await writeShard(join(dir, file), shard, count, signal)
    for (const { name } of shard) weightMap[name] = file
    names.push(file)
  }
  const small = new Map(files)
  if (shards.length > 1) {
    const index = { metadata: { total_size: total }, weight_map: sorted(weightMap) }
    small.set(INDEX_FILE, `${JSON.stringify(index, null, 2)}\n`)
  }
  for (const [name, data] of small) {
    await writeFile(join(dir, name), data, { flush: true })
    names.push(name)
  }
  return names
}

/** Tensors in the given order; a new shard begins where the next tensor would not fit. */
function shardsOf(tensors: readonly TensorSource[], shardBytes: number): TensorSource[][] {
  const shards: TensorSource[][] = [[]]
  let size = 0
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor)
    const isFull = (shards.at(-1)?.length ?? 0) >= limit('tensorsPerFile')
    if (isFull || (size > 0 && size + bytes > shardBytes)) {
      shards.push([])
      size = 0
    }
    shards.at(-1)?.push(tensor)
    size += bytes
  }
  return shards
}

async function writeShard(
  path: string,
  tensors: readonly TensorSource[],
  count: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const handle = await open(path, 'wx')
  try {
    await writeTensors(handle, tensors, count, signal)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Write a complete safetensors file.
 * @throws FormatError `truncated` for a tensor of another length than it should have.
 */
export async function writeTensors(
  handle: FileHandle,
  tensors: Iterable<TensorSource>,
  count: (bytes: number) => void = () => undefined,
  signal?: AbortSignal,
): Promise<void> {
  const ordered = inFileOrder(tensors)
  await handle.writeFile(writeSafetensorsHeader(ordered, HUGGING_FACE_METADATA))
  for (const tensor of ordered) {
    let written = 0
    for await (const piece of tensor.pieces()) {
      signal?.throwIfAborted()
      await handle.writeFile(piece)
      written += piece.length
      count(piece.length)
    }
    if (written !== bytesOf(tensor)) {
      throw new FormatError('truncated', `${tensor.name}: expected ${bytesOf(tensor)} bytes, got ${written}`)
    }
  }
}

/** @throws InputError `exists` unless the path does not exist or is an empty folder. */
export async function checkTarget(dir: string): Promise<void> {
  if (!(await pathExists(dir))) return
  const empty = (await stat(dir)).isDirectory() && (await mapDiskErrors(dir, () => readdir(dir))).length === 0
  if (!empty) {
    throw new InputError('exists', `${dir} is not empty; choose another folder, or remove what is in it`)
  }
}

function bytesOf({ dtype, shape, name }: TensorSource): number {
  return byteLengthOf(dtype, shape, `tensor "${name}"`)
}

function shardName(index: number, count: number): string {
  const padded = (n: number): string => String(n).padStart(5, '0')
  return `model-${padded(index)}-of-${padded(count)}.safetensors`
}

function sorted(map: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)))
}
