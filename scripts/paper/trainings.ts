/**
 * Every kind of training for the table: the public model, dense fine-tunes, pairs, and mixtures of which everything or
 * only the router is trained. Each result is a cell. Knows nothing about evaluation.
 */

import { type Tensor, zeros } from '@tensorflow/tfjs'
import { mulberry32 } from '../../src/lib/random.ts'
import { denseName, routerName } from '../../src/lib/tensor-names.ts'
import { mixtureShapes, publicShapes, requireParam, zeroRows } from '../../src/model/params.ts'
import type { Params } from '../../src/model/weights.ts'
import { type Compiled, type Engine, type FrozenTensor, sizeOf } from '../../src/tensor/engine.ts'
import { compileDenseStep, initialPublicModel } from '../../src/training/dense.ts'
import { batchInputs, batchTensors, lossAndGradients, lossTerms } from '../../src/training/loss.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../src/training/optimizer.ts'
import { compilePairStep, initialTrainables, type Trainables } from '../../src/training/pair.ts'
import { type BatchSource, type CheckpointStore, train } from '../../src/training/train.ts'
import type { Arrays, Cells } from './cells.ts'
import type { Settings, Training } from './settings.ts'
import { PUBLIC_DOMAIN, sampler, type Text } from './text.ts'

export interface Laboratory {
  readonly engine: Engine
  readonly settings: Settings
  readonly cells: Cells
  readonly text: Text
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

/** Arrays as parameters with the given shapes. */
export function asParams(arrays: Arrays, shapes: ReadonlyMap<string, readonly number[]>): Params {
  return new Map(
    [...shapes].map(([name, shape]) => [name, { shape, data: arrays.get(name) as Float32Array }]),
  )
}

export async function trainPublic(lab: Laboratory): Promise<Params> {
  const { engine, settings, cells, text } = lab
  const { config, publicTraining } = settings
  const arrays = await cells.arrays('public', async (checkpoints) => {
    const params = initialPublicModel(config, mulberry32(12_345))
    const { B, T } = publicTraining
    const compiled = await compileDenseStep(engine, config, B, T)
    const source = rowsOf(sampler(text.train(PUBLIC_DOMAIN), T, 1), B)
    await run(lab, 'public', {
      compiled,
      trainables: params,
      batches: source,
      training: publicTraining,
      checkpoints,
    })
    return params
  })
  return asParams(arrays, publicShapes(config))
}

export interface DenseInit {
  readonly name: string
  /** Texts from which rows are drawn in turn. */
  readonly sources: readonly Int32Array[]
  readonly seed: number
  readonly training?: Training
  /** Whether a parameter is trained, by name; default: all are. */
  readonly moves?: (name: string) => boolean
}

/** A dense fine-tune of the public model (on one owner's text alone: the paper's single experts). */
export async function trainDense(lab: Laboratory, publicModel: Params, init: DenseInit): Promise<Params> {
  const { settings, cells } = lab
  const { name, sources, seed, training = settings.denseTraining, moves = () => true } = init
  const names = [...publicModel.keys()].filter(moves)
  const arrays = await cells.arrays(name, async (checkpoints) => {
    const trainables = copies(publicModel, names)
    const dense = { E: 1, topK: 1, trainHead: names.includes('lm_head.weight') }
    const compiled = await compileStep(lab, { ...dense, start: publicModel, training }, names)
    const batches = inTurns(sources, training.B, (ids, index) => sampler(ids, training.T, seed + index))
    await run(lab, name, { compiled, trainables, batches, training, checkpoints })
    return trainables
  })
  return withTrained(publicModel, arrays)
}

function copies(params: Params, names: readonly string[]): Trainables {
  return new Map(names.map((name) => [name, requireParam(params, name).data.slice()]))
}

function withTrained(start: Params, trained: Arrays): Params {
  return new Map(
    [...start].map(([name, param]) => [name, { ...param, data: trained.get(name) ?? param.data }]),
  )
}

export interface PairInit {
  readonly name: string
  readonly domain: string
  readonly seed: number
  readonly replayShare: number
  /** Start values of the router rows, (C) for each layer. */
  readonly rows: readonly Float32Array[]
  readonly publicRows?: readonly Float32Array[]
  /** Whether a bias is learned; otherwise it stays at zero. */
  readonly bias: boolean
  /** Default: the recipe's. */
  readonly steps?: number
  readonly peak?: number
  /** Rank of the FFN's difference from the public one; default: a whole FFN. */
  readonly rank?: number
}

/** Trains a pair as the product does. Returns its trainables. */
export function trainPair(lab: Laboratory, publicModel: Params, init: PairInit): Promise<Trainables> {
  const { engine, settings, cells, text } = lab
  const { config } = settings
  const { expertTraining } = settings
  const { steps = expertTraining.steps, peak = expertTraining.peak } = init
  const training = { ...expertTraining, steps, peak }
  return cells.arrays(init.name, async (checkpoints) => {
    const { B, T } = training
    const options = { rank: init.rank }
    const trainables = await initialTrainables(config, publicModel, init.rows, options)
    if (!init.bias) for (const [key, values] of trainables) if (key.endsWith('expert_bias')) values.fill(1)
    const publicRouterRows = init.publicRows ?? zeroRows(config)
    const compiled = await compilePairStep(engine, config, publicModel, publicRouterRows, B, T, options)
    const own = sampler(text.train(init.domain), T, init.seed)
    const shared = sampler(text.train(PUBLIC_DOMAIN), T, init.seed + 1)
    const publicRows = Math.round(B * init.replayShare)
    const batches: BatchSource = (step) =>
      Promise.all(Array.from({ length: B }, (_, b) => (b < publicRows ? shared : own)(step * B + b)))
    await run(lab, init.name, { compiled, trainables, batches, training, checkpoints })
    return trainables
  })
}

export interface MixtureInit {
  readonly name: string
  /** Parameters under the names of a mixture, with router rows and without biases. */
  readonly start: Params
  readonly E: number
  readonly topK: number
  readonly trained: 'all' | 'router'
  /** Texts from which rows are drawn in turn, so that each has the same share. */
  readonly sources: readonly Int32Array[]
  readonly seed: number
  readonly training: Training
}

/** Trains all of a mixture (joint training, BTX) or only its router (router tuning). */
export async function trainMixture(lab: Laboratory, init: MixtureInit): Promise<Params> {
  const shapes = mixtureShapes(lab.settings.config, init.E)
  const isAll = init.trained === 'all'
  const names = [...shapes.keys()].filter((name) => isAll || isRouter(name))
  const arrays = await lab.cells.arrays(init.name, async (checkpoints) => {
    const { training } = init
    const trainables = copies(init.start, names)
    const compiled = await compileStep(lab, { ...init, trainHead: isAll }, names)
    const batches = inTurns(init.sources, training.B, (ids, index) =>
      sampler(ids, training.T, init.seed * 100 + index),
    )
    await run(lab, init.name, { compiled, trainables, batches, training, checkpoints })
    return trainables
  })
  return withTrained(init.start, arrays)
}

/** Draws row r, counted over all batches, from text r modulo the number of texts. */
function inTurns(
  texts: readonly Int32Array[],
  B: number,
  samplerOf: (ids: Int32Array, index: number) => (row: number) => Promise<Int32Array>,
): BatchSource {
  const samplers = texts.map(samplerOf)
  return (step) =>
    Promise.all(
      Array.from({ length: B }, (_, b) => {
        const row = step * B + b
        return (samplers[row % samplers.length] as (row: number) => Promise<Int32Array>)(row)
      }),
    )
}

function isRouter(name: string): boolean {
  return name.endsWith('mlp.gate.weight')
}

/** Loss and gradients for the parameters `names` of a mixture, or of a dense model if E is 1. */
function compileStep(
  { engine, settings: { config } }: Pick<Laboratory, 'engine' | 'settings'>,
  init: Pick<MixtureInit, 'E' | 'topK' | 'training' | 'start'> & { readonly trainHead: boolean },
  names: readonly string[],
): Promise<Compiled> {
  const { E, topK, training, start, trainHead } = init
  const { B, T } = training
  const nameOf = E === 1 ? denseName : (name: string) => name
  const inputs = batchInputs(B, T)
  for (const name of names) inputs[name] = { shape: start.get(name)?.shape as readonly number[] }
  const frozen: Record<string, FrozenTensor> = {}
  for (const [name, param] of start) if (!names.includes(name)) frozen[name] = param
  return engine.compile(
    (tensors) => {
      const trainables = Object.fromEntries(names.map((name) => [name, tensors[name] as Tensor]))
      return lossAndGradients(trainables, (current) =>
        lossTerms(
          config,
          // A dense model has no router; a row of zeros replaces it.
          (name) =>
            current[nameOf(name)] ?? tensors[nameOf(name)] ?? (zeros([1, config.hiddenSize]) as Tensor),
          batchTensors(tensors),
          { B, T, E, topK, bias: false, trainHead },
        ),
      )
    },
    { inputs, frozen },
    { lean: true },
  )
}

/** A mixture with the FFNs of dense models as experts, the given router rows, and everything else from `trunk`. */
export function mixtureOfDense(
  settings: Settings,
  trunk: Params,
  ffns: readonly Params[],
  rows: readonly (readonly Float32Array[])[],
): Map<string, { shape: readonly number[]; data: Float32Array }> {
  const { config } = settings
  const params = new Map<string, { shape: readonly number[]; data: Float32Array }>()
  for (const [name, shape] of mixtureShapes(config, ffns.length)) {
    const expert = /mlp\.experts\.(\d+)\./.exec(name)?.[1]
    const from = expert === undefined ? trunk : (ffns[Number(expert)] as Params)
    const source = from.get(denseName(name.replace(`.experts.${expert}.`, '.experts.0.')))
    params.set(name, { shape, data: source?.data ?? new Float32Array(sizeOf(shape)) })
  }
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const data = new Float32Array(ffns.length * config.hiddenSize)
    rows.forEach((own, e) => {
      data.set(own[layer] as Float32Array, e * config.hiddenSize)
    })
    params.set(routerName(layer), { shape: [ffns.length, config.hiddenSize], data })
  }
  return params
}

function rowsOf(source: (index: number) => Promise<Int32Array>, B: number): BatchSource {
  return (step) => Promise.all(Array.from({ length: B }, (_, b) => source(step * B + b)))
}

interface Run {
  readonly compiled: Compiled
  readonly trainables: Trainables
  readonly batches: BatchSource
  readonly training: Training
  readonly checkpoints: CheckpointStore
}

const CHECKPOINT_EVERY = 100

async function run({ say, signal }: Laboratory, name: string, init: Run): Promise<void> {
  const { steps, peak, warmupSteps, finalShare } = init.training
  const reports = train({
    compiled: init.compiled,
    trainables: init.trainables,
    optimizer: new AdamW(ADAMW_DEFAULTS, init.trainables),
    schedule: { peak, warmupSteps, totalSteps: steps, finalShare },
    batches: init.batches,
    checkpoints: init.checkpoints,
    checkpointEvery: CHECKPOINT_EVERY,
    signal,
    clock: () => performance.now(),
  })
  try {
    for await (const { step, loss, tokensPerSecond } of reports) {
      if (step % CHECKPOINT_EVERY === 0) {
        say(`  ${name} ${step}/${steps} loss ${loss.toFixed(3)}, ${tokensPerSecond.toFixed(0)} tokens/s`)
      }
    }
  } finally {
    await init.compiled.dispose()
  }
  signal.throwIfAborted()
}
