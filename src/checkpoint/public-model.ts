/** The public model as a node uses it: checked, described for a charter, and loaded. */
import { copyFile } from 'node:fs/promises'
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
  /** File of public text for replay. */
  readonly replay: string
}

/** A public model whose headers fit its config; no weights were read. */
export interface PublicModelFiles {
  readonly dir: string
  readonly config: ModelConfig
  readonly tokenizer: Tokenizer
  readonly checkpoint: Checkpoint
  /** By name, as `publicShapes` lists them. */
  readonly tensors: ReadonlyMap<string, FloatTensor>
}

/** A file of a model and its role in a charter. */
export interface ModelFile {
  readonly role: PublicFile['role']
  /** What the charter calls it. */
  readonly name: string
  /** Where it lies. */
  readonly path: string
}

/** @throws InputError `not-a-model`; FormatError. */
export async function openPublicModel(dir: string): Promise<PublicModelFiles> {
  const checkpoint = await openCheckpoint(dir)
  const json = await readConfig(dir)
  const config = configFromHuggingFace(json)
  const tokenizer = Tokenizer.load(await readTokenizer(dir), endOfTextFromHuggingFace(json))
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new InputError(
      'not-a-model',
      `${join(dir, TOKENIZER_FILE)} has ids up to ${tokenizer.vocabSize - 1}, but the model has ${config.vocabSize} embeddings; it is the tokenizer of another model`,
    )
  }
  return { dir, config, tokenizer, checkpoint, tensors: checkTensors(checkpoint, publicShapes(config)) }
}

/**
 * The same, with every weight read once, a piece at a time.
 * @throws InputError `not-a-model`; FormatError.
 */
export async function checkPublicModel(dir: string, options: CheckOptions = {}): Promise<PublicModelFiles> {
  const model = await openPublicModel(dir)
  await checkFinite(model.checkpoint, model.tensors.values(), options)
  return model
}

/** The files of a model that a charter names, but for the text for replay. */
export function modelFiles({ dir, checkpoint: { weightFiles } }: PublicModelFiles): ModelFile[] {
  const file = (role: ModelFile['role'], name: string, as = name): ModelFile => ({
    role,
    name: as,
    path: join(dir, name),
  })
  const beside = [file('config', CONFIG_FILE), file('tokenizer', TOKENIZER_FILE)]
  const [first = WEIGHTS_FILE, ...more] = weightFiles
  // A lone shard takes the name under which it is found without an index.
  if (more.length === 0) return [...beside, file('weights', first, WEIGHTS_FILE)]
  return [...beside, ...weightFiles.map((name) => file('weights', name)), file('index', INDEX_FILE)]
}

/** Everything in memory, weights as float32. @throws InputError `not-a-model`; FormatError. */
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

/** @throws InputError `not-a-model` naming the option that brings it. */
export async function replayOf(dir: string): Promise<string> {
  const replay = await findReplay(dir)
  if (replay === undefined) {
    throw new InputError(
      'not-a-model',
      `${dir} has no replay.jsonl, the public text that every owner trains beside; give it with --replay FILE`,
    )
  }
  return replay
}

/** Put verified blobs in place as a model directory. */
export async function installPublicModel(
  files: readonly PublicFile[],
  dir: string,
  blobPath: (file: PublicFile) => string,
): Promise<void> {
  await ensurePrivateDir(dir)
  for (const file of files) {
    await mapDiskErrors(dir, () => copyFile(blobPath(file), join(dir, basename(file.name))))
  }
}
