/**
 * Every kind of training that the table needs: the public model, dense fine-tunes, pairs, and mixtures whose
 * parameters are all trained or whose router alone is. Each is a cell. Knows no evaluation.
 */
import type { Tensor } from '@tensorflow/tfjs'
import {
  denseName,
  mixtureShapes,
  type Params,
  publicShapes,
  requireParam,
  routerName,
  zeroRows,
} from '../../../src/model/params.ts'
import { mulberry32 } from '../../../src/model/sampling.ts'
import { type Compiled, type Engine, type FrozenTensor, sizeOf } from '../../../src/tensor/engine.ts'
import { compileDenseStep, initialPublicModel } from '../../../src/training/dense.ts'
import { batchInputs, batchTensors, lossAndGradients, lossTerms } from '../../../src/training/loss.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../../src/training/optimizer.ts'
import { compilePairStep, initialTrainables, type Trainables } from '../../../src/training/pair.ts'
import { type BatchSource, type CheckpointStore, train } from '../../../src/training/train.ts'
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

/** Arrays as parameters of the shapes given. */
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

/** A dense fine-tune of every parameter on the owner's text alone (the paper's single experts). */
export async function trainDense(
  lab: Laboratory,
  name: string,
  publicModel: Params,
  ids: Int32Array,
  seed: number,
  training: Training = lab.settings.denseTraining,
): Promise<Params> {
  const { engine, settings, cells } = lab
  const { config } = settings
  const arrays = await cells.arrays(name, async (checkpoints) => {
    const params: Trainables = new Map([...publicModel].map(([key, { data }]) => [key, data.slice()]))
    const { B, T } = training
    const compiled = await compileDenseStep(engine, config, B, T)
    const batches = rowsOf(sampler(ids, T, seed), B)
    await run(lab, name, { compiled, trainables: params, batches, training, checkpoints })
    return params
  })
  return asParams(arrays, publicShapes(config))
}

export interface PairInit {
  readonly name: string
  readonly domain: string
  readonly seed: number
  readonly replayShare: number
  /** Where router rows start, one [C] a layer. */
  readonly rows: readonly Float32Array[]
  readonly publicRows?: readonly Float32Array[]
  /** Whether a bias is learned; without, it is held at zero. */
  readonly bias: boolean
  /** More than the recipe's. */
  readonly steps?: number
  /** Of the FFN's difference from the public one; whole where absent. */
  readonly rank?: number
}

/** A pair as the product trains it; the arrays are its trainables. */
export function trainPair(lab: Laboratory, publicModel: Params, init: PairInit): Promise<Trainables> {
  const { engine, settings, cells, text } = lab
  const { config } = settings
  const { expertTraining } = settings
  const training = { ...expertTraining, steps: init.steps ?? expertTraining.steps }
  return cells.arrays(init.name, async (checkpoints) => {
    const { B, T } = training
    const options = { rank: init.rank }
    const trainables = initialTrainables(config, publicModel, init.rows, options)
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
  /** Mixture names, router rows included; no bias. */
  readonly start: Params
  readonly E: number
  readonly topK: number
  readonly trained: 'all' | 'router'
  /** Texts that rows are drawn from in turn, so that each has the same share. */
  readonly sources: readonly Int32Array[]
  readonly seed: number
  readonly training: Training
}

/** A mixture without frozen halves: joint training, BTX, or router tuning. */
export async function trainMixture(lab: Laboratory, init: MixtureInit): Promise<Params> {
  const { engine, settings, cells } = lab
  const { config } = settings
  const shapes = mixtureShapes(config, init.E)
  const names = [...shapes.keys()].filter((name) => init.trained === 'all' || isRouter(name))
  const arrays = await cells.arrays(init.name, async (checkpoints) => {
    const trainables: Trainables = new Map(
      names.map((name) => [name, requireParam(init.start, name).data.slice()]),
    )
    const { B, T } = init.training
    const compiled = await compileMixtureStep(engine, lab.settings, init, names)
    const samplers = init.sources.map((ids, index) => sampler(ids, T, init.seed * 100 + index))
    const batches: BatchSource = (step) =>
      Promise.all(
        Array.from({ length: B }, (_, b) => {
          const row = step * B + b
          const source = samplers[row % samplers.length] as (index: number) => Promise<Int32Array>
          return source(row)
        }),
      )
    await run(lab, init.name, { compiled, trainables, batches, training: init.training, checkpoints })
    return trainables
  })
  return new Map(
    [...shapes].map(([name, shape]) => [
      name,
      { shape, data: arrays.get(name) ?? (init.start.get(name)?.data as Float32Array) },
    ]),
  )
}

function isRouter(name: string): boolean {
  return name.endsWith('mlp.gate.weight')
}

function compileMixtureStep(
  engine: Engine,
  { config }: Settings,
  { E, topK, trained, training, start }: MixtureInit,
  names: readonly string[],
): Promise<Compiled> {
  const { B, T } = training
  const inputs = batchInputs(B, T)
  for (const name of names) inputs[name] = { shape: start.get(name)?.shape as readonly number[] }
  const frozen: Record<string, FrozenTensor> = {}
  for (const [name, param] of start) if (!names.includes(name)) frozen[name] = param
  return engine.compile(
    (tensors) => {
      const trainables = Object.fromEntries(names.map((name) => [name, tensors[name] as Tensor]))
      return lossAndGradients(trainables, (current) =>
        lossTerms(config, (name) => current[name] ?? (tensors[name] as Tensor), batchTensors(tensors), {
          B,
          T,
          E,
          topK,
          bias: false,
          trainHead: trained === 'all',
        }),
      )
    },
    { inputs, frozen },
    { lean: true },
  )
}

/** FFNs of the dense models given as the experts of a mixture, everything else from `trunk`; rows as given. */
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
