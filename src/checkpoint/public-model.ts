/**
 * The public model of a node: checks it, describes its files for a charter, and opens it. Does not know consortia.
 */
import { constants, createReadStream, createWriteStream } from 'node:fs'
import { copyFile, link, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { ChatTemplate } from '../data/chat-template.ts'
import { PromptEncoder } from '../data/prompt-encoder.ts'
import { Tokenizer } from '../data/tokenizer.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors, PIECE_BYTES } from '../lib/files.ts'
import { OPTIONAL_FILE_NAMES, type PublicFile } from '../lib/model-shape.ts'
import { configFromHuggingFace, type ModelConfig } from '../model/config.ts'
import { publicShapes } from '../model/params.ts'
import type { WeightMap } from '../model/weights.ts'
import { type CheckOptions, checkFinite, checkTensors, type FloatTensor } from './checkpoint-check.ts'
import { type Checkpoint, INDEX_FILE, openCheckpoint, WEIGHTS_FILE } from './checkpoint-directory.ts'
import { endsOfText, type InstructFiles, readInstructFiles } from './instruct-files.ts'
import { CONFIG_FILE, findReplay, readConfig, readTokenizer, TOKENIZER_FILE } from './model-directory.ts'

export interface PublicModel {
  readonly dir: string
  readonly config: ModelConfig
  /** By name, in the order of `publicShapes`; their values are in the folder. */
  readonly weights: WeightMap
  readonly tokenizer: Tokenizer
  /** Ids of the tokens that end a text; the first one separates documents. */
  readonly endsOfText: readonly number[]
  /** Renders the messages of chats, if the model brings a template. */
  readonly chatTemplate: ChatTemplate | undefined
  /** Path of the public text for replay. */
  readonly replay: string
}

/** A public model whose tensor names and shapes fit its config. Its weights were not read. */
export interface PublicModelFiles {
  readonly dir: string
  readonly config: ModelConfig
  readonly tokenizer: Tokenizer
  /** Ids of the tokens that end a text; the first one separates documents. */
  readonly endsOfText: readonly number[]
  readonly instruct: InstructFiles
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

type OptionalRole = keyof typeof OPTIONAL_FILE_NAMES

/** Read config, tokenizer and tensor headers. @throws InputError `not-a-model`; FormatError. */
export async function openPublicModel(dir: string): Promise<PublicModelFiles> {
  const checkpoint = await openCheckpoint(dir)
  const json = await readConfig(dir)
  const config = configFromHuggingFace(json)
  const instruct = await readInstructFiles(dir)
  const ends = endsOfText(dir, json, instruct, config.vocabSize)
  const tokenizer = Tokenizer.load(await readTokenizer(dir), ends)
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new InputError(
      'not-a-model',
      `${join(dir, TOKENIZER_FILE)} has ids up to ${tokenizer.vocabSize - 1}, but the model has ${config.vocabSize} embeddings; it is the tokenizer of another model`,
    )
  }
  return {
    dir,
    config,
    tokenizer,
    endsOfText: [...new Set([tokenizer.endOfText, ...ends])],
    instruct,
    checkpoint,
    tensors: checkTensors(checkpoint, publicShapes(config)),
  }
}

/**
 * `openPublicModel`, and check that the chat template works and that all weights are finite. Reads these piece by piece.
 * @throws InputError `not-a-model`; FormatError.
 */
export async function checkPublicModel(dir: string, options: CheckOptions = {}): Promise<PublicModelFiles> {
  const model = await openPublicModel(dir)
  await checkChatTemplate(model, options.signal)
  await checkFinite(model.checkpoint, model.tensors.values(), options)
  return model
}

/** Renders a message, because only this shows whether a template works. @throws InputError `not-a-model`. */
async function checkChatTemplate(
  { dir, tokenizer, instruct: { chatTemplate } }: PublicModelFiles,
  signal = new AbortController().signal,
): Promise<void> {
  if (chatTemplate === undefined) return
  const encoder = new PromptEncoder(tokenizer, chatTemplate)
  try {
    await encoder.encode([{ role: 'user', content: 'Hello' }], signal)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    const message = `${dir}: the chat template cannot render one message of a user (${error.message}); correct it, or remove it so that chats become plain lines`
    throw new InputError('not-a-model', message, {}, error)
  } finally {
    await encoder.close()
  }
}

/** The files of a model that a charter names, except the replay text. */
export function modelFiles({ dir, instruct, checkpoint: { weightFiles } }: PublicModelFiles): ModelFile[] {
  const file = (role: ModelFile['role'], name: string, as = name): ModelFile => ({
    role,
    name: as,
    path: join(dir, name),
  })
  const optional = (Object.keys(OPTIONAL_FILE_NAMES) as OptionalRole[]).filter((role) =>
    instruct.bytes.has(OPTIONAL_FILE_NAMES[role]),
  )
  const small = [
    file('config', CONFIG_FILE),
    file('tokenizer', TOKENIZER_FILE),
    ...optional.map((role) => file(role, OPTIONAL_FILE_NAMES[role])),
  ]
  const [first = WEIGHTS_FILE, ...more] = weightFiles
  // A single shard gets the name under which loaders find it without an index.
  if (more.length === 0) return [...small, file('weights', first, WEIGHTS_FILE)]
  return [...small, ...weightFiles.map((name) => file('weights', name)), file('index', INDEX_FILE)]
}

/**
 * The model with its weights as sources, which are read when they are used. Their values are not checked: that was done
 * when the folder was accepted (`checkPublicModel`).
 * @throws InputError `not-a-model`; FormatError.
 */
export async function loadPublicModel(dir: string): Promise<PublicModel> {
  const model = await openPublicModel(dir)
  const { config, tokenizer, endsOfText: ends, instruct } = model
  const { chatTemplate } = instruct
  const weights = new Map(Array.from(model.tensors, ([name, { weight }]) => [name, weight]))
  return { dir, config, weights, tokenizer, endsOfText: ends, chatTemplate, replay: await replayOf(dir) }
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

/**
 * Install verified blobs in a model folder, in place of what an earlier attempt left there.
 * @throws InputError `disk-full`, `permissions`, `io`; the signal's reason.
 */
export async function installPublicModel(
  files: readonly PublicFile[],
  dir: string,
  blobPath: (file: PublicFile) => string,
  signal?: AbortSignal,
): Promise<void> {
  await mapDiskErrors(dir, () => rm(dir, { recursive: true, force: true }))
  await ensurePrivateDir(dir)
  for (const file of files) {
    await installFile(blobPath(file), join(dir, basename(file.name)), file.role === 'weights', signal)
  }
}

/**
 * Put a copy of a file at `to`, in place of another file. The copy shares the blocks of the original where the file
 * system can do that.
 * @param mayLink use a second name of the same file where blocks cannot be shared; only for files that are never changed
 * @throws InputError `disk-full`, `permissions`, `io`; the signal's reason.
 */
export async function installFile(
  from: string,
  to: string,
  mayLink = false,
  signal?: AbortSignal,
): Promise<void> {
  const temporary = `${to}.tmp`
  await mapDiskErrors(to, async () => {
    try {
      await rm(temporary, { force: true })
      const isShared =
        (await succeeds(copyFile(from, temporary, constants.COPYFILE_FICLONE_FORCE))) ||
        (mayLink && (await succeeds(link(from, temporary))))
      if (!isShared) await copyPieces(from, temporary, signal)
      await rename(temporary, to)
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  })
}

/** Whether the file system could do it; what it cannot is done by copying, which says why it fails. */
async function succeeds(action: Promise<void>): Promise<boolean> {
  return action.then(
    () => true,
    () => false,
  )
}

async function copyPieces(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
  await pipeline(
    createReadStream(from, { highWaterMark: PIECE_BYTES }),
    createWriteStream(to, { flags: 'w', flush: true }),
    ...(signal === undefined ? [] : [{ signal }]),
  )
}
