/** The public model of a node: checks it, describes its files for a charter, and loads it. Knows no consortium. */
import { copyFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Tokenizer } from '../data/tokenizer.ts'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors } from '../lib/files.ts'
import type { PublicFile } from '../lib/model-shape.ts'
import { configFromHuggingFace, endOfTextFromHuggingFace, type ModelConfig } from '../model/config.ts'
import { type Param, type Params, publicShapes } from '../model/params.ts'
import {
  type CheckOptions,
  checkFinite,
  checkPiece,
  checkTensors,
  type FloatTensor,
} from './checkpoint-check.ts'
import {
  type Checkpoint,
  INDEX_FILE,
  openCheckpoint,
  readTensor,
  WEIGHTS_FILE,
} from './checkpoint-directory.ts'
import { CONFIG_FILE, findReplay, readConfig, readTokenizer, TOKENIZER_FILE } from './model-directory.ts'
import { toFloat32 } from './safetensors.ts'

export interface PublicModel {
  readonly dir: string
  readonly config: ModelConfig
  readonly params: Params
  readonly tokenizer: Tokenizer
  /** Path of the public text for replay. */
  readonly replay: string
}

/** A public model whose tensor names and shapes fit its config. Its weights were not read. */
export interface PublicModelFiles {
  readonly dir: string
  readonly config: ModelConfig
  readonly tokenizer: Tokenizer
  readonly checkpoint: Checkpoint
  /** By name, in the order of `publicShapes`. */
  readonly tensors: ReadonlyMap<string, FloatTensor>
}

/** A file of a model and its role in a charter. */
export interface ModelFile {
  readonly role: PublicFile['role']
  /** Its name in the charter. */
  readonly name: string
  /** Its path on this machine. */
  readonly path: string
}

/** Read config, tokenizer and tensor headers. @throws InputError `not-a-model`; FormatError. */
export async function openPublicModel(dir: string): Promise<PublicModelFiles> {
  const checkpoint = await openCheckpoint(dir)
  const json = await readConfig(dir)
  const config = configFromHuggingFace(json)
  const tokenizer = Tokenizer.load(
    await readTokenizer(dir),
    [endOfTextFromHuggingFace(json)].filter((id) => id !== undefined),
  )
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new InputError(
      'not-a-model',
      `${join(dir, TOKENIZER_FILE)} has ids up to ${tokenizer.vocabSize - 1}, but the model has ${config.vocabSize} embeddings; it is the tokenizer of another model`,
    )
  }
  return { dir, config, tokenizer, checkpoint, tensors: checkTensors(checkpoint, publicShapes(config)) }
}

/**
 * `openPublicModel`, and check that all weights are finite. Reads them piece by piece.
 * @throws InputError `not-a-model`; FormatError.
 */
export async function checkPublicModel(dir: string, options: CheckOptions = {}): Promise<PublicModelFiles> {
  const model = await openPublicModel(dir)
  await checkFinite(model.checkpoint, model.tensors.values(), options)
  return model
}

/** The files of a model that a charter names, except the replay text. */
export function modelFiles({ dir, checkpoint: { weightFiles } }: PublicModelFiles): ModelFile[] {
  const file = (role: ModelFile['role'], name: string, as = name): ModelFile => ({
    role,
    name: as,
    path: join(dir, name),
  })
  const small = [file('config', CONFIG_FILE), file('tokenizer', TOKENIZER_FILE)]
  const [first = WEIGHTS_FILE, ...more] = weightFiles
  // A single shard gets the name under which loaders find it without an index.
  if (more.length === 0) return [...small, file('weights', first, WEIGHTS_FILE)]
  return [...small, ...weightFiles.map((name) => file('weights', name)), file('index', INDEX_FILE)]
}

/** Load everything into memory, weights as float32. @throws InputError `not-a-model`; FormatError. */
export async function loadPublicModel(dir: string): Promise<PublicModel> {
  const { config, tokenizer, checkpoint, tensors } = await openPublicModel(dir)
  const params = new Map<string, Param>()
  for (const [name, tensor] of tensors) {
    const bytes = await readTensor(checkpoint, tensor)
    checkPiece(checkpoint, tensor, bytes, 0)
    params.set(name, { shape: tensor.shape, data: toFloat32({ dtype: tensor.dtype, data: bytes }) })
  }
  return { dir, config, params, tokenizer, replay: await replayOf(dir) }
}

/** Path of the replay text. @throws InputError `not-a-model` naming the option that supplies it. */
export async function replayOf(dir: string): Promise<string> {
  const replay = await findReplay(dir)
  if (replay === undefined) {
    throw new InputError(
      'not-a-model',
      `${dir} has no replay.jsonl, the public text that every owner mixes into training; give it with --replay FILE`,
    )
  }
  return replay
}

/** Copy verified blobs into a model folder, in place of what an earlier attempt left there. */
export async function installPublicModel(
  files: readonly PublicFile[],
  dir: string,
  blobPath: (file: PublicFile) => string,
): Promise<void> {
  await mapDiskErrors(dir, () => rm(dir, { recursive: true, force: true }))
  await ensurePrivateDir(dir)
  for (const file of files) {
    await mapDiskErrors(dir, () => copyFile(blobPath(file), join(dir, basename(file.name))))
  }
}
