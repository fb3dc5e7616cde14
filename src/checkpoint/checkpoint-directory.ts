/**
 * A Hugging Face checkpoint folder: model.safetensors, or shards and the index that names the file of each tensor.
 * Opening it reads headers only. Pickles are refused unread. Does not know model architectures.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, readFileBounded } from '../lib/files.ts'
import { DiskFile, readLayout } from './file-weight.ts'
import { checkModelLink } from './model-directory.ts'
import type { TensorLocation } from './safetensors.ts'

export const WEIGHTS_FILE = 'model.safetensors'
export const INDEX_FILE = 'model.safetensors.index.json'

const MAX_INDEX_BYTES = 16 * 2 ** 20
const PICKLE = /\.(bin|pt|pth|pkl|pickle|ckpt)$/i
const SHARD_NAME = /^[a-z0-9][a-z0-9._-]{0,85}\.safetensors$/

export interface CheckpointTensor extends TensorLocation {
  /** Name of its file in the folder. */
  readonly file: string
}

export interface Checkpoint {
  readonly dir: string
  /** Names of the safetensors files, sorted. */
  readonly weightFiles: readonly string[]
  /** Whether the folder has an index. */
  readonly indexed: boolean
  readonly tensors: ReadonlyMap<string, CheckpointTensor>
}

/**
 * Read the headers of all weight files.
 * @throws InputError `not-a-model` naming the file that is missing, superfluous or a pickle, or the tensor that is
 * not in the file that the index names; FormatError naming a damaged file.
 */
export async function openCheckpoint(dir: string): Promise<Checkpoint> {
  await checkFolder(dir)
  const hasIndex = await pathExists(join(dir, INDEX_FILE))
  const hasWeights = await pathExists(join(dir, WEIGHTS_FILE))
  if (hasIndex && hasWeights) {
    throw notAModel(`${dir} has ${WEIGHTS_FILE} and ${INDEX_FILE}; remove the one that does not belong to it`)
  }
  if (!hasIndex && !hasWeights) {
    throw notAModel(`${dir} has no ${WEIGHTS_FILE} and no ${INDEX_FILE}; give a Hugging Face model folder`)
  }
  if (hasIndex) await checkModelLink(dir, INDEX_FILE)
  const map = hasIndex ? await readIndex(join(dir, INDEX_FILE)) : undefined
  const weightFiles = map === undefined ? [WEIGHTS_FILE] : [...new Set(map.values())].sort()
  const tensors = new Map<string, CheckpointTensor>()
  for (const file of weightFiles) {
    if (!(await pathExists(join(dir, file)))) {
      throw notAModel(
        `${join(dir, file)} is missing, though ${INDEX_FILE} names it; download the model again`,
      )
    }
    await checkModelLink(dir, file)
    const layout = await readLayout(new DiskFile(join(dir, file)))
    for (const tensor of layout.tensors.values()) {
      if (map !== undefined && map.get(tensor.name) !== file) {
        throw notAModel(
          `${join(dir, file)}: holds tensor ${tensor.name}, which ${INDEX_FILE} does not list in this file`,
        )
      }
      tensors.set(tensor.name, { ...tensor, file })
    }
  }
  for (const [name, file] of map ?? []) {
    if (!tensors.has(name))
      throw notAModel(`${join(dir, file)}: tensor ${name} is missing, though ${INDEX_FILE} names it`)
  }
  return { dir, weightFiles, indexed: hasIndex, tensors }
}

/** @throws InputError `not-a-model` for a path that is no folder, or a folder with a pickle. */
export async function checkFolder(dir: string): Promise<void> {
  if (!(await pathExists(dir)) || !(await stat(dir)).isDirectory()) {
    throw notAModel(`${dir} is not a folder; give a Hugging Face model folder`)
  }
  const pickle = (await mapDiskErrors(dir, () => readdir(dir))).find((name) => PICKLE.test(name))
  if (pickle !== undefined) {
    throw notAModel(
      `${join(dir, pickle)} is a pickle, which runs code when it is read; save the model as safetensors and remove it`,
    )
  }
}

async function readIndex(path: string): Promise<Map<string, string>> {
  let map: unknown
  try {
    map = (JSON.parse(fromUtf8(await readFileBounded(path, MAX_INDEX_BYTES))) as { weight_map?: unknown })
      .weight_map
  } catch (cause) {
    if (cause instanceof FlexMeshError) throw cause
    throw new InputError('not-a-model', `${path}: expected JSON`, {}, cause)
  }
  if (typeof map !== 'object' || map === null) throw notAModel(`${path}: expected a weight_map`)
  const files = new Map<string, string>()
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== 'string' || !SHARD_NAME.test(file)) {
      throw notAModel(
        `${path}: expected ${name.slice(0, 80)} in a file NAME.safetensors, got ${JSON.stringify(file)?.slice(0, 80)}`,
      )
    }
    files.set(name, file)
  }
  return files
}

function notAModel(message: string): InputError {
  return new InputError('not-a-model', message)
}
