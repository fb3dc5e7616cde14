/**
 * The pair model that an owner trains: the frozen public model and one trainable expert beside it,
 * both always active (flexolmo 2.2). Knows no data and no files.
 */
import { concat, type Tensor, tensor } from '@tensorflow/tfjs'
import type { ModelConfig } from '../model/config.ts'
import type { Weights } from '../model/layers.ts'
import {
  biasName,
  type Expert,
  expertName,
  FFN_PROJECTIONS,
  layerName,
  PAIR_EXPERT,
  type Params,
  PUBLIC_EXPERT,
  requireParam,
  routerName,
} from '../model/params.ts'
import type { Compiled, Engine, FrozenTensor } from '../tensor/engine.ts'
import { batchInputs, batchTensors, lossAndGradients, lossTerms } from './loss.ts'

/** Slightly below zero, so that min(b, 0) passes a gradient from the first step (flexolmo 3.4). */
export const INITIAL_BIAS = -0.05

/**
 * Added to the trained bias of a released expert (flexolmo 3.4: biases are at most 0), so that a token
 * that could be anybody's goes to the public expert. In the sample consortium it gives up 4 % of the
 * owner's gain and takes the composition's loss on public text from 1.8 % to 0.5 %.
 */
export const RELEASE_BIAS = -2

/** Trainable arrays by package name: FFN 1, router row 1 [1, C] and bias [1] of every layer. */
export type Trainables = Map<string, Float32Array>

export function trainableShapes(config: ModelConfig): Map<string, readonly number[]> {
  const { hiddenSize: C, intermediateSize: F } = config
  const shapes = new Map<string, readonly number[]>()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    shapes.set(expertName(layer, PAIR_EXPERT, 'gate_proj'), [F, C])
    shapes.set(expertName(layer, PAIR_EXPERT, 'up_proj'), [F, C])
    shapes.set(expertName(layer, PAIR_EXPERT, 'down_proj'), [C, F])
    shapes.set(routerName(layer), [1, C])
    shapes.set(biasName(layer), [1])
  }
  return shapes
}

/** Step 0: FFN 1 copies the public FFN, so the pair equals the public model (flexolmo 7a.2). */
export function initialTrainables(
  config: ModelConfig,
  publicModel: Params,
  routerRows: readonly Float32Array[],
): Trainables {
  const values: Trainables = new Map()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const source = requireParam(publicModel, layerName(layer, `mlp.${projection}.weight`))
      values.set(expertName(layer, PAIR_EXPERT, projection), source.data.slice())
    }
    values.set(routerName(layer), (routerRows[layer] as Float32Array).slice())
    values.set(biasName(layer), Float32Array.of(INITIAL_BIAS))
  }
  return values
}

/** The trained arrays as an expert; a view, nothing is copied. */
function expertOf(config: ModelConfig, trainables: Trainables): Expert {
  const shapes = trainableShapes(config)
  const ffn = new Map<string, { shape: readonly number[]; data: Float32Array }>()
  const routerRows: Float32Array[] = []
  const bias = new Float32Array(config.numHiddenLayers)
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const name = expertName(layer, PAIR_EXPERT, projection)
      ffn.set(`${layer}.${projection}`, {
        shape: shapes.get(name) as readonly number[],
        data: trainables.get(name) as Float32Array,
      })
    }
    routerRows.push(trainables.get(routerName(layer)) as Float32Array)
    bias[layer] = trainables.get(biasName(layer))?.[0] ?? 0
  }
  return { ffn, routerRows, bias }
}

/**
 * The trained arrays as the expert that leaves training; FFN weights are views. Its bias becomes part of its
 * rows: FlexOlmo checkpoints have no place for one, so a composition of experts without is the same model in
 * every program that reads it. `units` are rows that give 1 on every token. In the sample consortium this
 * costs nothing: 2.156 bits per byte with, 2.157 without, macro-averaged.
 */
export function releasedExpert(
  config: ModelConfig,
  trainables: Trainables,
  units: readonly Float32Array[],
): Expert {
  const { bias, ...expert } = expertOf(config, trainables)
  return foldBias({ ...expert, bias: bias?.map((b) => Math.min(b, 0) + RELEASE_BIAS) }, units)
}

/** The expert without a bias: each row plus its bias times a row that gives 1 on every token. */
export function foldBias(expert: Expert, units: readonly Float32Array[]): Expert {
  const { bias } = expert
  if (bias === undefined) return expert
  const routerRows = expert.routerRows.map((row, layer) =>
    row.map((x, i) => x + Math.min(bias[layer] as number, 0) * ((units[layer] as Float32Array)[i] as number)),
  )
  return { ...expert, routerRows, bias: undefined }
}

/** Everything that the pair keeps fixed: shared tensors and FFN 0 under its mixture name. */
function frozenTensors(config: ModelConfig, publicModel: Params): Record<string, FrozenTensor> {
  const frozen: Record<string, FrozenTensor> = {}
  for (const [name, param] of publicModel) {
    if (!name.includes('.mlp.')) frozen[name] = param
  }
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      frozen[expertName(layer, PUBLIC_EXPERT, projection)] = requireParam(
        publicModel,
        layerName(layer, `mlp.${projection}.weight`),
      )
    }
  }
  return frozen
}

/**
 * Compile the pair's loss and gradients for batches of B x T.
 * Inputs: ids (B, T), labels (N), labelWeights (N), tokenScale (), and every trainable.
 * Results: loss, ce, lmZ, routerZ and `d.<trainable>`.
 */
export async function compilePairStep(
  engine: Engine,
  config: ModelConfig,
  publicModel: Params,
  publicRows: readonly Float32Array[],
  B: number,
  T: number,
): Promise<Compiled> {
  const shapes = trainableShapes(config)
  const inputs = batchInputs(B, T)
  for (const [name, shape] of shapes) inputs[name] = { shape }
  const init = { B, T, E: 2, topK: 2, bias: true, trainHead: false }
  return engine.compile(
    (tensors) => {
      const trainables = Object.fromEntries([...shapes.keys()].map((name) => [name, tensors[name] as Tensor]))
      return lossAndGradients(trainables, (current) => {
        const weights = pairWeights(config, tensors, current, publicRows)
        return lossTerms(config, weights, batchTensors(tensors), init)
      })
    },
    { inputs, frozen: frozenTensors(config, publicModel) },
    { lean: true },
  )
}

function pairWeights(
  config: ModelConfig,
  frozen: Readonly<Record<string, Tensor>>,
  trainables: Readonly<Record<string, Tensor>>,
  publicRows: readonly Float32Array[],
): Weights {
  const joined = new Map<string, Tensor>()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const row = trainables[routerName(layer)] as Tensor
    joined.set(
      routerName(layer),
      concat([tensor(publicRows[layer] as Float32Array, [1, config.hiddenSize]), row], 0),
    ) // (2, C)
    joined.set(biasName(layer), concat([tensor([0]), trainables[biasName(layer)] as Tensor], 0)) // (2)
  }
  return (name) => joined.get(name) ?? trainables[name] ?? (frozen[name] as Tensor)
}
