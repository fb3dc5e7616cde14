/**
 * A finished training in the home folder, however it came about: the expert as one safetensors file under
 * package names, and what its run recorded. Knows no engine.
 */
import { join } from 'node:path'
import { expertOfTensors, tensorsOfExpert } from '../checkpoint/expert-tensors.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { fromFloat32, readSafetensors, toFloat32, writeSafetensors } from '../checkpoint/safetensors.ts'
import { type Corpus, openCorpus, prepareCorpus } from '../data/corpus.ts'
import type { CorpusWarning } from '../data/corpus-warnings.ts'
import { fromUtf8 } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { configToShape, type ModelConfig } from '../model/config.ts'
import type { HeldOutDocument } from '../model/evaluate.ts'
import type { Expert } from '../model/params.ts'
import { packExpert, unpackExpertFile } from '../packaging/package.ts'

/** Bits per byte before, by the public model, and after, by the pair. */
export interface Score {
  readonly before: number
  readonly after: number
}

/** What is kept of a run beside its expert. */
export interface TrainResult {
  readonly name: string
  /** 0 where it is not known, as for training that ran elsewhere. */
  readonly steps: number
  readonly tokens: number
  readonly documents: number
  readonly replayShareMilli: number
  /** What the expert's router statistics average over; 0 without them. */
  readonly statisticsDocuments: number
  /** Nothing where there was no text to measure on. */
  readonly own?: Score
  readonly public?: Score
  /** What an owner should know about the text, where there is anything. */
  readonly warnings?: readonly CorpusWarning[]
}

const MAX_EXPERT_BYTES = 64 * 2 ** 30
const MAX_RESULT_BYTES = 65_536
/** Held-out text that is scored, bytes. */
const EVALUATION_BYTES = 32_768

export interface TrainingDirs {
  readonly dir: string
  readonly corpus: string
  readonly checkpoint: string
  /** Rows that give 1 on every token, kept for training that ends elsewhere. */
  readonly constantRows: string
  /** Router statistics of the text, kept for the same. */
  readonly statistics: string
  readonly expert: string
  readonly result: string
}

/** @throws InputError `usage` for a name that is not fit for a file. */
export function trainingDirs(root: string, name: string): TrainingDirs {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
    throw new InputError('usage', `--name: expected letters, digits, ".", "_" and "-", got "${name}"`)
  }
  const dir = join(root, name)
  return {
    dir,
    corpus: join(dir, 'corpus'),
    checkpoint: join(dir, 'checkpoint.safetensors'),
    constantRows: join(dir, 'units.safetensors'),
    statistics: join(dir, 'router-statistics.safetensors'),
    expert: join(dir, 'expert.safetensors'),
    result: join(dir, 'result.json'),
  }
}

export async function saveExpert(config: ModelConfig, dirs: TrainingDirs, expert: Expert): Promise<void> {
  await writeFileAtomic(dirs.expert, packExpert(tensorsOfExpert(config, expert), 'F32').parts)
}

/** Keep rows that give 1 on every token for an expert that is trained elsewhere. */
export async function saveConstantRows(
  dirs: TrainingDirs,
  constantRows: readonly Float32Array[],
): Promise<void> {
  const entries = constantRows.map((unit, layer) => ({
    name: String(layer),
    dtype: 'F32' as const,
    shape: [unit.length],
    data: fromFloat32(unit, 'F32'),
  }))
  await writeFileAtomic(dirs.constantRows, writeSafetensors(entries))
}

/** Rows of every layer, if this training was exported from here. */
export async function loadConstantRows(
  dirs: TrainingDirs,
  { numHiddenLayers, hiddenSize }: ModelConfig,
): Promise<Float32Array[] | undefined> {
  if (!(await pathExists(dirs.constantRows))) return undefined
  const { tensors } = readSafetensors(await readFileBounded(dirs.constantRows, MAX_EXPERT_BYTES))
  return Array.from({ length: numHiddenLayers }, (_, layer) => {
    const tensor = tensors.get(String(layer))
    if (tensor?.shape.join() !== String(hiddenSize)) {
      throw new FormatError(
        'bad-field',
        `${dirs.constantRows}: expected layer ${layer} of ${hiddenSize} values`,
      )
    }
    return toFloat32(tensor)
  })
}

/** What makes a training a finished one; written last. */
export async function saveResult(dirs: TrainingDirs, result: TrainResult): Promise<void> {
  await writeFileAtomic(dirs.result, `${JSON.stringify(result, null, 2)}\n`)
}

/** The trained expert and what its run recorded. @throws InputError `not-found` before training ended. */
export async function loadTrained(
  model: Pick<PublicModel, 'config'>,
  trainingRoot: string,
  name: string,
): Promise<{ expert: Expert; result: TrainResult }> {
  const dirs = trainingDirs(trainingRoot, name)
  if (!(await pathExists(dirs.result)) || !(await pathExists(dirs.expert))) {
    throw new InputError(
      'not-found',
      `no finished training named ${name}; run "flexmesh train --name ${name} --data PATH" first`,
    )
  }
  return {
    expert: await loadExpert(model.config, dirs.expert),
    result: readResult(await readFileBounded(dirs.result, MAX_RESULT_BYTES)),
  }
}

/** Held-out documents of a training: the owner's own text, for acceptance and evaluation; may be none. */
export async function ownHeldOut(
  model: Pick<PublicModel, 'tokenizer'>,
  trainingRoot: string,
  name: string,
  maxBytes: number = EVALUATION_BYTES,
): Promise<HeldOutDocument[]> {
  const { corpus } = trainingDirs(trainingRoot, name)
  if (!(await pathExists(join(corpus, 'corpus.json')))) return []
  return heldOut(await openCorpus(corpus, model.tokenizer), maxBytes)
}

/** Held-out public text that ships with the public model. */
export async function publicHeldOut(
  model: PublicModel,
  trainingRoot: string,
  signal: AbortSignal,
  maxBytes: number = EVALUATION_BYTES,
): Promise<HeldOutDocument[]> {
  return heldOut(await openReplay(model, trainingRoot, signal), maxBytes)
}

/** Folder of the public text for replay, as it was prepared. */
export function replayDir(trainingRoot: string): string {
  return join(trainingRoot, '.replay')
}

/** Public text for replay, prepared once for all trainings. */
export async function openReplay(
  model: PublicModel,
  trainingRoot: string,
  signal: AbortSignal,
): Promise<Corpus> {
  const { tokenizer } = model
  const outDir = replayDir(trainingRoot)
  if (await pathExists(join(outDir, 'corpus.json'))) return openCorpus(outDir, tokenizer)
  return prepareCorpus({ paths: [model.replay], tokenizer, outDir, signal })
}

async function heldOut(corpus: Corpus, maxBytes: number): Promise<HeldOutDocument[]> {
  try {
    return await corpus.heldOut(maxBytes)
  } finally {
    await corpus.close()
  }
}

async function loadExpert(config: ModelConfig, path: string): Promise<Expert> {
  const { num_hidden_layers, hidden_size, intermediate_size } = configToShape(config)
  const shape = { layers: num_hidden_layers, hidden_size, intermediate_size }
  return expertOfTensors(config, unpackExpertFile(await readFileBounded(path, MAX_EXPERT_BYTES), shape))
}

function readResult(bytes: Uint8Array): TrainResult {
  const json = JSON.parse(fromUtf8(bytes)) as Record<string, Score | undefined>
  const fields = new Fields(json, 'result.json')
  return {
    name: fields.text('name', 64),
    steps: fields.uint('steps'),
    tokens: fields.uint('tokens'),
    documents: fields.uint('documents'),
    replayShareMilli: fields.uint('replayShareMilli', 1000),
    statisticsDocuments: fields.has('statisticsDocuments') ? fields.uint('statisticsDocuments') : 0,
    ...(json['own'] === undefined ? {} : { own: json['own'] }),
    ...(json['public'] === undefined ? {} : { public: json['public'] }),
  }
}
