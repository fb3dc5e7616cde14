/**
 * The folder of one training: names of its files, the expert as one safetensors file under package names, and what
 * its run recorded. Knows nothing about engines.
 */

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expertOfTensors, tensorsOfExpert } from '../checkpoint/expert-tensors.ts'
import { openTensorFile } from '../checkpoint/file-weight.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { writeTensorFile } from '../checkpoint/tensor-file.ts'
import type { CorpusWarning } from '../data/corpus-warnings.ts'
import { type ReadingReport, readReport } from '../data/reading-report.ts'
import { fromUtf8 } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { configToShape, type ModelConfig } from '../model/config.ts'
import type { RouterKind } from '../model/gates.ts'
import type { Expert } from '../model/params.ts'
import { wholeValues } from '../model/weights.ts'
import { openExpertFile } from '../packaging/package.ts'
import type { DpParameters } from '../privacy/mechanism.ts'

/** Bits per byte of the public model (before) and of the pair (after). */
export interface Score {
  readonly before: number
  readonly after: number
}

/** Scores of a pair with one router. */
export interface PairScore {
  readonly own?: Score
  readonly public: Score
}

/** What calibration did, for people. */
export interface Calibration {
  /** Added to the expert's router logits in every layer; below 0. */
  readonly bias: number
  /** The router with which public text suffered more; both scores are with it. */
  readonly router: RouterKind
  /** Scores with the expert as it was trained. */
  readonly uncalibrated: PairScore
  /** Scores with the expert as it is released. */
  readonly calibrated: PairScore
}

/** What a run records beside its expert. */
export interface TrainResult {
  readonly name: string
  /** 0 if unknown, as for training elsewhere. */
  readonly steps: number
  readonly tokens: number
  readonly documents: number
  readonly replayShareMilli: number
  /** Number of documents that the expert's router statistics average over; 0 without statistics. */
  readonly statisticsDocuments: number
  /**
   * Maximum number of these documents that come from one unit of `privacy`; absent if it is not bounded or if nothing
   * protects the text.
   */
  readonly statisticsPerUnit?: number
  /** Rank of the trained difference from the public FFN, 0 for a whole FFN; absent for training elsewhere. */
  readonly rank?: number
  /**
   * What a step took; absent if the run computed fewer than two steps. Not kept: what a training leaves on disk does
   * not depend on the machine.
   */
  readonly cost?: {
    /** Memory that the training was expected to take, in bytes. */
    readonly plannedBytes: number
    /** Resident memory of the process after two steps, in bytes. */
    readonly residentBytes: number
    readonly secondsPerStep: number
  }
  /** On the owner's held-out text; absent if there was none. */
  readonly own?: Score
  /** On public held-out text; absent for training elsewhere. */
  readonly public?: Score
  /** Absent if the expert is released as it was trained, because it harms public text little. */
  readonly calibration?: Calibration
  /** Absent if the text gave no reason for a warning. */
  readonly warnings?: readonly CorpusWarning[]
  /** What was read from the owner's files and what was left out; absent for training elsewhere. */
  readonly reading?: ReadingReport
  /** Parameters of the differentially private training; absent if nothing protects the text in the weights. */
  readonly privacy?: DpParameters
}

/** Its presence marks a training as finished. */
const RESULT_FILE = 'result.json'
const MAX_RESULT_BYTES = 2 ** 20

export interface TrainingDirs {
  readonly dir: string
  readonly corpus: string
  readonly checkpoint: string
  /** Rows whose product with every token is about 1, to fold a bias into the router rows later. */
  readonly constantRows: string
  /** Router statistics of the text, kept for training elsewhere. */
  readonly statistics: string
  readonly expert: string
  readonly result: string
  /** Sequences hidden in the text for the audit, and which of them are in it. Secret. */
  readonly canaries: string
  /** The report of the latest audit, and the same in words. */
  readonly audit: string
  readonly auditWords: string
}

/** @throws InputError `usage` for a name that cannot be a file name. */
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
    result: join(dir, RESULT_FILE),
    canaries: join(dir, 'canaries.json'),
    audit: join(dir, 'audit.json'),
    auditWords: join(dir, 'audit.txt'),
  }
}

/** Names of the finished trainings in a folder, which need not exist: those whose result was written. */
export async function finishedTrainings(root: string): Promise<string[]> {
  if (!(await pathExists(root))) return []
  const names = (await readdir(root)).filter((name) => !name.startsWith('.'))
  const finished = await Promise.all(names.map((name) => pathExists(join(root, name, RESULT_FILE))))
  return names.filter((_, i) => finished[i])
}

/** Write the expert, tensor by tensor. @throws InputError `disk-full`; as `WeightSource.read`. */
export async function saveExpert(
  config: ModelConfig,
  dirs: TrainingDirs,
  expert: Expert,
  signal?: AbortSignal,
): Promise<void> {
  const tensors = Array.from(tensorsOfExpert(config, expert), ([name, weight]) => ({ name, weight }))
  await writeTensorFile(dirs.expert, tensors, { signal })
}

/** Keep the constant rows, one [C] per layer, for an expert that is trained elsewhere or cut to a rank later. */
export async function saveConstantRows(
  dirs: TrainingDirs,
  constantRows: readonly Float32Array[],
): Promise<void> {
  const tensors = constantRows.map((data, layer) => ({
    name: String(layer),
    weight: { shape: [data.length], data },
  }))
  await writeTensorFile(dirs.constantRows, tensors)
}

/** One row [C] per layer; undefined if neither `train` nor an export prepared this training here. */
export async function loadConstantRows(
  dirs: TrainingDirs,
  { numHiddenLayers, hiddenSize }: ModelConfig,
): Promise<Float32Array[] | undefined> {
  if (!(await pathExists(dirs.constantRows))) return undefined
  const { tensors } = await openTensorFile(dirs.constantRows)
  const rows: Float32Array[] = []
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    const row = tensors.get(String(layer))
    if (row?.shape.join() !== String(hiddenSize)) {
      throw new FormatError(
        'bad-field',
        `${dirs.constantRows}: expected layer ${layer} of ${hiddenSize} values`,
      )
    }
    rows.push(await wholeValues(row))
  }
  return rows
}

/** Write the result, which marks the training as finished; must be the last file written. */
export async function saveResult(dirs: TrainingDirs, result: TrainResult): Promise<void> {
  await writeFileAtomic(dirs.result, `${JSON.stringify(result, null, 2)}\n`)
}

/**
 * Whether a finished training must be calibrated again for its publication: if it was trained elsewhere, or if it is
 * published without the router statistics with which `train` calibrated it. A private training is calibrated without.
 * @throws InputError `not-found` before the training has finished.
 */
export async function needsCalibration(
  trainingRoot: string,
  name: string,
  withStatistics: boolean,
): Promise<boolean> {
  const result = await loadResult(await finishedDirs(trainingRoot, name))
  const { public: scored, statisticsDocuments, privacy } = result
  return scored === undefined || (!withStatistics && statisticsDocuments > 0 && privacy === undefined)
}

/** The trained expert and what its run recorded. @throws InputError `not-found` before the training has finished. */
export async function loadTrained(
  model: Pick<PublicModel, 'config'>,
  trainingRoot: string,
  name: string,
): Promise<{ expert: Expert; result: TrainResult }> {
  const dirs = await finishedDirs(trainingRoot, name)
  return { expert: await loadExpert(model.config, dirs.expert), result: await loadResult(dirs) }
}

async function finishedDirs(trainingRoot: string, name: string): Promise<TrainingDirs> {
  const dirs = trainingDirs(trainingRoot, name)
  if ((await pathExists(dirs.result)) && (await pathExists(dirs.expert))) return dirs
  throw new InputError(
    'not-found',
    `no finished training named ${name}; run ${ownCommand('train', '--name', name, '--data', 'PATH')} first`,
  )
}

/** What the run of a finished training recorded. */
export async function loadResult({ result }: TrainingDirs): Promise<TrainResult> {
  return readResult(await readFileBounded(result, MAX_RESULT_BYTES))
}

async function loadExpert(config: ModelConfig, path: string): Promise<Expert> {
  const { num_hidden_layers, hidden_size, intermediate_size } = configToShape(config)
  const shape = { layers: num_hidden_layers, hidden_size, intermediate_size }
  return expertOfTensors(config, await openExpertFile(path, shape))
}

function readResult(bytes: Uint8Array): TrainResult {
  const json = JSON.parse(fromUtf8(bytes)) as Pick<TrainResult, 'own' | 'public' | 'calibration' | 'privacy'>
  const fields = new Fields(json, RESULT_FILE)
  return {
    name: fields.text('name', 64),
    steps: fields.uint('steps'),
    tokens: fields.uint('tokens'),
    documents: fields.uint('documents'),
    replayShareMilli: fields.uint('replayShareMilli', 1000),
    statisticsDocuments: fields.has('statisticsDocuments') ? fields.uint('statisticsDocuments') : 0,
    ...(json.own === undefined ? {} : { own: json.own }),
    ...(json.public === undefined ? {} : { public: json.public }),
    ...(json.calibration === undefined ? {} : { calibration: json.calibration }),
    ...(json.privacy === undefined ? {} : { privacy: json.privacy }),
    ...(fields.has('statisticsPerUnit') ? { statisticsPerUnit: fields.uint('statisticsPerUnit') } : {}),
    ...(fields.has('reading') ? { reading: readReport(fields.object('reading')) } : {}),
  }
}
