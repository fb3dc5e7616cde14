/**
 * `flexmesh import-expert`: turns a two-expert FlexOlmo checkpoint, trained anywhere, into a finished training in the
 * home folder. Everything but expert 1 must equal the public model bit for bit. Reads tensors piece by piece and
 * needs neither an engine nor a running node.
 */

import { join } from 'node:path'
import { type CheckOptions, checkValues, type FloatTensor } from '../checkpoint/checkpoint-check.ts'
import type { Checkpoint } from '../checkpoint/checkpoint-directory.ts'
import { openPublicModel, type PublicModelFiles } from '../checkpoint/public-model.ts'
import { readRouterBias } from '../checkpoint/router-bias.ts'
import { type NamedTensor, writeTensorFile } from '../checkpoint/tensor-file.ts'
import { openCorpus } from '../data/corpus.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir, pathExists } from '../lib/files.ts'
import { FLOAT_BYTES, type FloatDtype } from '../lib/float-formats.ts'
import {
  biasName,
  expertName,
  FFN_PROJECTIONS,
  PAIR_EXPERT,
  routerName,
  STATISTICS_TOKENS,
} from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { type WeightSource, wholeValues } from '../model/weights.ts'
import type { HomePaths } from '../store/home.ts'
import { foldBias, RELEASE_BIAS } from '../training/pair.ts'
import { compareFrozen, openPair, type Pair } from './pair-checkpoint.ts'
import { loadOwnStatistics, type OwnStatistics } from './statistics.ts'
import { claimTraining } from './training-claim.ts'
import {
  loadConstantRows,
  saveResult,
  type TrainingDirs,
  type TrainResult,
  trainingDirs,
} from './training-folder.ts'

/**
 * Check the checkpoint in `dir` and keep its expert 1 as the training `name`.
 * @throws InputError `not-a-model`; `mismatch` naming the first tensor that differs from the public model's; `exists`
 * if `name` was trained here, or while something else uses its folder; FormatError for damaged files and values that
 * are not finite.
 */
export async function importExpert(
  paths: HomePaths,
  dir: string,
  name: string,
  options: CheckOptions = {},
): Promise<TrainResult> {
  const dirs = trainingDirs(paths.training, name)
  const release = claimTraining(dirs, name, 'import')
  try {
    return await importClaimed(paths, dirs, dir, name, options)
  } finally {
    release()
  }
}

async function importClaimed(
  paths: HomePaths,
  dirs: TrainingDirs,
  dir: string,
  name: string,
  options: CheckOptions,
): Promise<TrainResult> {
  if (await pathExists(dirs.checkpoint)) {
    throw new InputError('exists', `${name} was trained here; choose another --name for the expert in ${dir}`)
  }
  if (!(await pathExists(paths.publicModel))) {
    throw new InputError(
      'not-a-member',
      `${paths.root} belongs to no consortium; run ${ownCommand('consortium', 'create')} or ${ownCommand('join', 'INVITE')}`,
    )
  }
  const model = await openPublicModel(paths.publicModel)
  const pair = await openPair(model, dir)
  const progress = progressOf(pair, options)
  await compareFrozen(model, pair, progress, options.signal)
  const router = await readRouter(pair, dir, model.config, dirs)
  await ensurePrivateDir(dirs.dir)
  const own = await loadOwnStatistics(dirs)
  const tensors = [
    ...ffnTensors(pair, model.config, progress),
    ...router,
    ...(own === undefined ? [] : statisticsTensors(own)),
  ]
  await writeTensorFile(dirs.expert, tensors, { signal: options.signal })
  const result = {
    name,
    steps: 0,
    replayShareMilli: 0,
    statisticsDocuments: own?.documents ?? 0,
    ...(await textOf(model, dirs)),
  }
  await saveResult(dirs, result)
  return result
}

/** The FFN of expert 1 in the dtype of the checkpoint; values are checked while they are read. */
function ffnTensors(
  { checkpoint, tensors }: Pair,
  config: ModelConfig,
  progress: (bytes: number) => void,
): NamedTensor[] {
  const found: NamedTensor[] = []
  const { dtype } = tensors.get(expertName(0, PAIR_EXPERT, 'gate_proj')) as FloatTensor
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const name = expertName(layer, PAIR_EXPERT, projection)
      const tensor = tensors.get(name) as FloatTensor
      if (tensor.dtype !== dtype) {
        throw new InputError(
          'not-a-model',
          `${join(checkpoint.dir, tensor.file)}: tensor ${name} is ${tensor.dtype}, other tensors of expert 1 are ${dtype}; save all of them in one format`,
        )
      }
      found.push({ name, weight: new CheckedWeight(checkpoint, tensor, progress) })
    }
  }
  return found
}

/** A tensor of a checkpoint whose values must be finite, which is checked when they are read. */
class CheckedWeight implements WeightSource {
  readonly shape: readonly number[]
  readonly dtype: FloatDtype
  readonly #checkpoint: Checkpoint
  readonly #tensor: FloatTensor
  readonly #progress: (bytes: number) => void

  /** @param progress called with the number of bytes of each read */
  constructor(checkpoint: Checkpoint, tensor: FloatTensor, progress: (bytes: number) => void) {
    this.shape = tensor.shape
    this.dtype = tensor.dtype
    this.#checkpoint = checkpoint
    this.#tensor = tensor
    this.#progress = progress
  }

  async read(into: Float32Array, from: number, signal?: AbortSignal): Promise<void> {
    await this.#tensor.weight.read(into, from, signal)
    this.#check(new Uint8Array(into.buffer, into.byteOffset, into.byteLength), 'F32', from)
  }

  async readBytes(into: Uint8Array, from: number, signal?: AbortSignal): Promise<void> {
    await this.#tensor.weight.readBytes(into, from, signal)
    this.#check(into, this.dtype, from / FLOAT_BYTES[this.dtype])
  }

  /** @throws FormatError naming the value. */
  #check(values: Uint8Array, dtype: FloatDtype, from: number): void {
    checkValues(this.#checkpoint, this.#tensor, values, dtype, from)
    this.#progress(values.length)
  }
}

/**
 * Router rows, and the bias unless it can be folded into them: an export from here kept the constant rows for that.
 */
async function readRouter(
  { tensors }: Pair,
  dir: string,
  config: ModelConfig,
  dirs: TrainingDirs,
): Promise<NamedTensor[]> {
  const { hiddenSize: C, numHiddenLayers: L } = config
  const routerRows: Float32Array[] = []
  for (let layer = 0; layer < L; layer++) {
    const tensor = tensors.get(routerName(layer)) as FloatTensor
    routerRows.push((await wholeValues(tensor.weight)).slice(C))
  }
  const biases = await readRouterBias(dir, L, 2)
  const bias =
    biases === undefined ? undefined : Float32Array.from(biases, (b) => Math.min(b[1] as number, 0))
  const constantRows = await loadConstantRows(dirs, config)
  const expert =
    constantRows === undefined
      ? { ffn: new Map(), routerRows, bias }
      : foldBias(
          { ffn: new Map(), routerRows, bias: (bias ?? new Float32Array(L)).map((b) => b + RELEASE_BIAS) },
          constantRows,
        )
  return [
    ...expert.routerRows.map((data, layer) => ({ name: routerName(layer), weight: { shape: [1, C], data } })),
    ...Array.from(expert.bias ?? [], (b, layer) => ({
      name: biasName(layer),
      weight: { shape: [1], data: Float32Array.of(b) },
    })),
  ]
}

/** Statistics of the text that this training was exported with. */
function statisticsTensors({ statistics: { tokens } }: OwnStatistics): NamedTensor[] {
  return [{ name: STATISTICS_TOKENS, weight: { shape: [tokens.length], data: tokens } }]
}

/** Size of the text that this training was exported with; zeros if there was no export. */
async function textOf(
  model: PublicModelFiles,
  dirs: TrainingDirs,
): Promise<{ documents: number; tokens: number }> {
  if (!(await pathExists(join(dirs.corpus, 'corpus.json')))) return { documents: 0, tokens: 0 }
  const corpus = await openCorpus(dirs.corpus, model.tokenizer)
  await corpus.close()
  const { documents, tokens } = corpus.stats.train
  return { documents, tokens }
}

/** Counts the bytes of both passes: first the public model's tensors, then expert 1. */
function progressOf({ tensors }: Pair, { onProgress }: CheckOptions): (bytes: number) => void {
  let total = 0
  for (const { name, length } of tensors.values()) if (!name.endsWith('.mlp.gate.weight')) total += length
  let done = 0
  return (bytes) => {
    done += bytes
    onProgress?.(done, total)
  }
}
