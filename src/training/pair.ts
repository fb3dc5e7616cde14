/**
 * The pair model that an owner trains: the frozen public model and one trainable expert, which are both always active
 * (FlexOlmo paper, section 3.3.1). Does not know data or files.
 */

import { concat, mul, scalar, type Tensor, tensor } from '@tensorflow/tfjs'
import { mulberry32 } from '../lib/random.ts'
import {
  biasName,
  expertName,
  FACTORS,
  FFN_PROJECTIONS,
  factorName,
  layerName,
  PAIR_EXPERT,
  PUBLIC_EXPERT,
  routerName,
} from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import type { Weights } from '../model/layers.ts'
import { type Expert, factorShape, projectionShape } from '../model/params.ts'
import {
  countOf,
  type Param,
  readValues,
  requireWeight,
  type Weight,
  type WeightMap,
  wholeValues,
} from '../model/weights.ts'
import type { Compiled, Engine, FrozenTensor } from '../tensor/engine.ts'
import { EMBEDDING, withEmbeddingRows } from './embedding-rows.ts'
import { batchInputs, batchTensors, lossAndGradients, lossTerms } from './loss.ts'

/**
 * Slightly below zero, so that min(b, 0) passes a gradient from the first step (negative bias, FlexOlmo paper,
 * section 3.3.2).
 */
export const INITIAL_BIAS = -0.05

/**
 * Added to the trained bias of a released expert (biases are at most 0, as in FlexOlmo's code), so that tokens
 * without a clear domain go to the public expert (rows gate and gate-as-trained of scripts/paper/README.md).
 */
export const RELEASE_BIAS = -2

export interface PairOptions {
  /**
   * Rank of the trained difference from the public FFN (FlexMoRE, arXiv 2602.08818), 1 to the smaller of hidden and
   * intermediate size; if absent or 0, a whole FFN is trained.
   */
  readonly rank?: number | undefined
}

/** Trainable arrays by package name: per layer FFN 1 (whole or as factors), router row 1 [1, C] and bias [1]. */
export type Trainables = Map<string, Float32Array>

/** Seed of the initial factors: every owner starts with the same ones, and a run can be repeated. */
const FACTOR_SEED = 0x10c4

export function trainableShapes(config: ModelConfig, rank = 0): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      if (rank === 0)
        shapes.set(expertName(layer, PAIR_EXPERT, projection), projectionShape(config, projection))
      else
        for (const factor of FACTORS) {
          shapes.set(
            factorName(layer, PAIR_EXPERT, projection, factor),
            factorShape(config, projection, factor, rank),
          )
        }
    }
    shapes.set(routerName(layer), [1, config.hiddenSize])
    shapes.set(biasName(layer), [1])
  }
  return shapes
}

/**
 * Factor of B A during training; a released B includes it. The first step of AdamW moves every element of a weight
 * [out, in] by the learning rate, which is a norm of sqrt(out in) times that; moving B moves B A by sqrt(out r). The
 * root of in / r makes the two equal at every rank, where alpha / r would slow large ranks down (Kalajdzievski, 2023,
 * arXiv 2312.03732); the 2 compensates for the directions that B A cannot take. After 60 steps of 256 tokens on the
 * sample hospital's text, the loss of a whole FFN was 3.85. With 16 and 48 instead of 2 sqrt(in), which is 28 and 45
 * there, it was 4.11 and 3.97 for rank 8, and 3.88 and 3.80 for rank 128.
 */
export function factorScale(
  config: ModelConfig,
  projection: (typeof FFN_PROJECTIONS)[number],
  rank: number,
): number {
  return 2 * Math.sqrt(projectionShape(config, projection)[1] / rank)
}

/**
 * Initial arrays, with which the pair equals the public model: FFN 1 is a copy of the public FFN, or B is
 * zero and A is uniform with variance 1 / in, so that A x is as large as x.
 * @param routerRows one row [C] per layer.
 * @throws as `WeightSource.read`.
 */
export async function initialTrainables(
  config: ModelConfig,
  publicModel: WeightMap,
  routerRows: readonly Float32Array[],
  { rank = 0, signal }: PairOptions & { readonly signal?: AbortSignal } = {},
): Promise<Trainables> {
  const values: Trainables = new Map()
  const random = mulberry32(FACTOR_SEED)
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      if (rank === 0) {
        const weight = requireWeight(publicModel, layerName(layer, `mlp.${projection}.weight`))
        const copy = new Float32Array(countOf(weight))
        await readValues(weight, copy, 0, signal)
        values.set(expertName(layer, PAIR_EXPERT, projection), copy)
        continue
      }
      const [out, width] = projectionShape(config, projection)
      const bound = Math.sqrt(3 / width)
      const A = new Float32Array(rank * width)
      for (let i = 0; i < A.length; i++) A[i] = bound * (2 * random() - 1)
      values.set(factorName(layer, PAIR_EXPERT, projection, 'A'), A)
      values.set(factorName(layer, PAIR_EXPERT, projection, 'B'), new Float32Array(out * rank))
    }
    values.set(routerName(layer), (routerRows[layer] as Float32Array).slice())
    values.set(biasName(layer), Float32Array.of(INITIAL_BIAS))
  }
  return values
}

/** Rank of the trained difference; 0 for whole FFNs. */
function rankOf(config: ModelConfig, trainables: Trainables): number {
  const first = trainables.get(factorName(0, PAIR_EXPERT, 'gate_proj', 'A'))
  return first === undefined ? 0 : first.length / config.hiddenSize
}

/** The trained arrays as an expert with its bias. All are views, except the factors B, which are scaled. */
export function expertOf(config: ModelConfig, trainables: Trainables): Expert<Param> {
  const rank = rankOf(config, trainables)
  const shapes = trainableShapes(config, rank)
  const ffn = new Map<string, Param>()
  const take = (key: string, name: string, scale = 1): void => {
    const values = trainables.get(name) as Float32Array
    const data = scale === 1 ? values : values.map((x) => x * scale)
    ffn.set(key, { shape: shapes.get(name) as readonly number[], data })
  }
  const routerRows: Float32Array[] = []
  const bias = new Float32Array(config.numHiddenLayers)
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const key = `${layer}.${projection}`
      if (rank === 0) take(key, expertName(layer, PAIR_EXPERT, projection))
      else {
        take(`${key}.A`, factorName(layer, PAIR_EXPERT, projection, 'A'))
        take(
          `${key}.B`,
          factorName(layer, PAIR_EXPERT, projection, 'B'),
          factorScale(config, projection, rank),
        )
      }
    }
    routerRows.push(trainables.get(routerName(layer)) as Float32Array)
    bias[layer] = trainables.get(biasName(layer))?.[0] ?? 0
  }
  return { ffn, routerRows, bias }
}

/**
 * The trained arrays as the expert that is published; whole FFN weights are views. Its bias is folded into its router
 * rows: FlexOlmo checkpoints cannot hold a bias, so a composition of experts without one is the same model in every
 * program that reads it. In the sample consortium the third digit of the scores did not change.
 * @param constantRows one row [C] per layer whose product with every token is about 1.
 */
export function releasedExpert(
  config: ModelConfig,
  trainables: Trainables,
  constantRows: readonly Float32Array[],
): Expert<Param> {
  const { bias, ...expert } = expertOf(config, trainables)
  return foldBias({ ...expert, bias: bias?.map((b) => Math.min(b, 0) + RELEASE_BIAS) }, constantRows)
}

/** The expert without a bias: each router row plus its bias times the constant row. */
export function foldBias<W extends Weight>(
  expert: Expert<W>,
  constantRows: readonly Float32Array[],
): Expert<W> {
  const { bias } = expert
  if (bias === undefined) return expert
  const routerRows = expert.routerRows.map((row, layer) =>
    row.map(
      (x, i) => x + Math.min(bias[layer] as number, 0) * ((constantRows[layer] as Float32Array)[i] as number),
    ),
  )
  return { ...expert, routerRows, bias: undefined }
}

/** The frozen tensors of a pair but the embedding: shared tensors, and FFN 0 under its mixture name. */
export async function frozenTensors(
  config: ModelConfig,
  publicModel: WeightMap,
  signal: AbortSignal | undefined,
): Promise<Record<string, FrozenTensor>> {
  const frozen: Record<string, FrozenTensor> = {}
  const add = async (name: string, weight: Weight): Promise<void> => {
    frozen[name] = { shape: weight.shape, data: await wholeValues(weight, signal) }
  }
  for (const [name, weight] of publicModel) {
    if (!name.includes('.mlp.') && name !== EMBEDDING) await add(name, weight)
  }
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const weight = requireWeight(publicModel, layerName(layer, `mlp.${projection}.weight`))
      await add(expertName(layer, PUBLIC_EXPERT, projection), weight)
    }
  }
  return frozen
}

/**
 * Compile the pair's loss and gradients for batches [B, T], with N = B T.
 * Inputs: ids (B, T), labels (N), labelWeights (N), tokenScale (), and every trainable.
 * Results: loss, ce, lmZ, routerZ and the gradients `d.<trainable>`.
 * The weights are held in float32 until the step is disposed, except the embedding of a large vocabulary.
 * @throws as `WeightSource.read`.
 */
export async function compilePairStep(
  engine: Engine,
  config: ModelConfig,
  publicModel: WeightMap,
  publicRows: readonly Float32Array[],
  B: number,
  T: number,
  { rank = 0, signal }: PairOptions & { readonly signal?: AbortSignal } = {},
): Promise<Compiled> {
  const shapes = trainableShapes(config, rank)
  const inputs = batchInputs(B, T)
  inputs[EMBEDDING] = { shape: [B * T, config.hiddenSize] }
  for (const [name, shape] of shapes) inputs[name] = { shape }
  const lowRank = new Set(rank === 0 ? [] : [PAIR_EXPERT])
  const init = { B, T, E: 2, topK: 2, bias: true, trainHead: false, lowRank }
  const step = await engine.compile(
    (tensors) => {
      const trainables = Object.fromEntries([...shapes.keys()].map((name) => [name, tensors[name] as Tensor]))
      return lossAndGradients(trainables, (current) => {
        const weights = pairWeights(config, tensors, current, publicRows, rank)
        return lossTerms(config, weights, batchTensors(tensors), init)
      })
    },
    { inputs, frozen: await frozenTensors(config, publicModel, signal) },
    { lean: true },
  )
  return withEmbeddingRows(step, requireWeight(publicModel, EMBEDDING), B * T, signal)
}

export function pairWeights(
  config: ModelConfig,
  frozen: Readonly<Record<string, Tensor>>,
  trainables: Readonly<Record<string, Tensor>>,
  publicRows: readonly Float32Array[],
  rank: number,
): Weights {
  const joined = new Map<string, Tensor>()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const row = trainables[routerName(layer)] as Tensor
    joined.set(
      routerName(layer),
      concat([tensor(publicRows[layer] as Float32Array, [1, config.hiddenSize]), row], 0),
    ) // (2, C)
    joined.set(biasName(layer), concat([tensor([0]), trainables[biasName(layer)] as Tensor], 0)) // (2)
    if (rank === 0) continue
    for (const projection of FFN_PROJECTIONS) {
      const name = factorName(layer, PAIR_EXPERT, projection, 'B')
      joined.set(name, mul(trainables[name] as Tensor, scalar(factorScale(config, projection, rank))))
    }
  }
  return (name) => joined.get(name) ?? trainables[name] ?? (frozen[name] as Tensor)
}
