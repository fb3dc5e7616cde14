/** The public model as a node uses it: parsed, with the reference that a charter names. */
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  PUBLIC_FILE_ROLES,
  type PublicFile,
  type PublicModelRef,
  publicModelDigest,
} from './consortium/charter.ts'
import { Tokenizer } from './data/tokenizer.ts'
import { fileRefOfPath } from './lib/file-ref.ts'
import { ensurePrivateDir, mapDiskErrors } from './lib/files.ts'
import { configFromHuggingFace, configToShape, type ModelConfig } from './model/config.ts'
import { type Params, publicShapes } from './model/params.ts'
import {
  checkModelDirectory,
  MODEL_FILES,
  parseConfig,
  parseWeights,
  readModelFile,
} from './packaging/model-directory.ts'

export interface PublicModel {
  readonly dir: string
  readonly config: ModelConfig
  readonly params: Params
  readonly tokenizer: Tokenizer
  /** File of public text for replay. */
  readonly replay: string
}

/** @throws InputError `not-a-model`; FormatError. */
export async function loadPublicModel(dir: string): Promise<PublicModel> {
  await checkModelDirectory(dir)
  const config = configFromHuggingFace(parseConfig(await readModelFile(join(dir, 'config.json'), 'config')))
  const tokenizer = Tokenizer.load(await readModelFile(join(dir, 'tokenizer.json'), 'tokenizer'))
  const params = parseWeights(
    await readModelFile(join(dir, 'model.safetensors'), 'weights'),
    publicShapes(config),
  )
  return { dir, config, params, tokenizer, replay: join(dir, 'replay.jsonl') }
}

/** What a charter says of a model directory. */
export async function describePublicModel(dir: string, name: string): Promise<PublicModelRef> {
  const { config, tokenizer } = await loadPublicModel(dir)
  const files: PublicFile[] = []
  for (const { role, name: file } of MODEL_FILES) {
    const { ref } = await fileRefOfPath(join(dir, file))
    files.push({ role, name: file, ...ref })
  }
  return {
    name,
    digest: publicModelDigest(files),
    tokenizerDigest: tokenizer.digest,
    config: configToShape(config),
    files,
  }
}

/** Put verified blobs in place as a model directory. */
export async function installPublicModel(
  ref: PublicModelRef,
  dir: string,
  blobPath: (file: PublicFile) => string,
): Promise<void> {
  await ensurePrivateDir(dir)
  for (const role of PUBLIC_FILE_ROLES) {
    const file = ref.files.find((candidate) => candidate.role === role) as PublicFile
    await mapDiskErrors(dir, () => copyFile(blobPath(file), join(dir, file.name)))
  }
}
