/**
 * The pair's step for differentially private training: loss and gradient norm of every unit, and the sum of the clipped
 * gradients over everything that is trained. A unit is a group of windows. Does not know data, noise or files.
 */
import {
  add,
  cast,
  dispose,
  keep,
  lessEqual,
  mul,
  ones,
  reshape,
  scalar,
  slice,
  square,
  sum,
  type Tensor,
  type Tensor1D,
  valueAndGrads,
} from '@tensorflow/tfjs'
import {
  biasName,
  expertName,
  FACTORS,
  FFN_PROJECTIONS,
  factorName,
  PAIR_EXPERT,
  routerName,
} from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { requireWeight, type WeightMap } from '../model/weights.ts'
import type { Compiled, Engine } from '../tensor/engine.ts'
import { logSumExpRows } from '../tensor/fused.ts'
import { EMBEDDING, held, withEmbeddingRows } from './embedding-rows.ts'
import { batchInputs, LM_Z_LOSS, ROUTER_Z_LOSS, tokenTerms } from './loss.ts'
import { factorScale, frozenTensors, type PairOptions, pairWeights, trainableShapes } from './pair.ts'
import { type ProductRecord, recordingProducts } from './recorded-products.ts'
import { clipFactors, type GradientParts, squaredUnitNorms, weightedSum } from './unit-gradients.ts'

/** Sizes of a batch: `units` groups of `windows` rows of `T` tokens. */
export interface UnitShape {
  readonly units: number
  readonly windows: number
  readonly T: number
}

/**
 * Compile the step for several shapes, which share the weights. With U units of G windows and N = U G T:
 * Inputs: ids (U G, T), labels (N), labelWeights (N): weight of a label in the loss of its unit; isFree (U): 1 for a
 * unit of public text, which is not clipped; inverseClip (): 1 / C, 0 clips nothing; every trainable.
 * Results: unitLosses (U): weighted cross-entropy; squaredNorms (U): of the gradients before clipping; and
 * `d.<trainable>`: the sum over units of their clipped gradients.
 * The weights are held in float32 until the steps are disposed, except the embedding of a large vocabulary.
 * @throws as `WeightSource.read`.
 */
export async function compilePrivatePairSteps(
  engine: Engine,
  config: ModelConfig,
  publicModel: WeightMap,
  publicRows: readonly Float32Array[],
  unitShapes: readonly UnitShape[],
  { rank = 0, signal }: PairOptions & { readonly signal?: AbortSignal } = {},
): Promise<Compiled[]> {
  const shapes = trainableShapes(config, rank)
  const frozen = await frozenTensors(config, publicModel, signal)
  const embedding = await held(requireWeight(publicModel, EMBEDDING), signal)
  const compiled: Compiled[] = []
  for (const shape of unitShapes) {
    const { units: U, windows: G, T } = shape
    const { tokenScale: _, ...inputs } = batchInputs(U * G, T)
    inputs[EMBEDDING] = { shape: [U * G * T, config.hiddenSize] }
    inputs['isFree'] = { shape: [U] }
    inputs['inverseClip'] = { shape: [] }
    for (const [name, size] of shapes) inputs[name] = { shape: size }
    const step = await engine.compile(
      (tensors) => {
        const trainables = Object.fromEntries(
          [...shapes.keys()].map((name) => [name, tensors[name] as Tensor]),
        )
        return clippedGradients(config, tensors, trainables, publicRows, shape, rank)
      },
      { inputs, frozen },
      { lean: true },
    )
    compiled.push(await withEmbeddingRows(step, embedding, U * G * T, signal))
  }
  return compiled
}

function clippedGradients(
  config: ModelConfig,
  tensors: Readonly<Record<string, Tensor>>,
  trainables: Readonly<Record<string, Tensor>>,
  publicRows: readonly Float32Array[],
  { units: U, windows: G, T }: UnitShape,
  rank: number,
): Record<string, Tensor> {
  const names = Object.keys(trainables)
  const records: ProductRecord[] = []
  let losses: Tensor | undefined
  const objective = (...values: Tensor[]): Tensor => {
    const current = Object.fromEntries(names.map((name, i) => [name, values[i] as Tensor]))
    const weights = pairWeights(config, tensors, current, publicRows, rank)
    const init = {
      B: U * G,
      T,
      E: 2,
      topK: 2,
      bias: true,
      trainHead: false,
      lowRank: new Set(rank === 0 ? [] : [PAIR_EXPERT]),
      products: recordingProducts(weights, productNames(config, rank), records),
    }
    const { ids, labels, labelWeights } = tensors as Record<'ids' | 'labels' | 'labelWeights', Tensor>
    const terms = tokenTerms(config, weights, { ids, labels }, init)
    const ce = mul(terms.ce, labelWeights)
    losses = keep(sum(reshape(ce, [U, G * T]), 1))
    let squares: Tensor = mul(square(terms.lse), scalar(LM_Z_LOSS)) // (N)
    for (const { logits } of terms.routing) {
      const lse = reshape(logSumExpRows(logits), [U * G * T])
      squares = add(squares, mul(square(lse), scalar(ROUTER_Z_LOSS / config.numHiddenLayers)))
    }
    return add(sum(ce), sum(mul(squares, labelWeights)))
  }
  valueAndGrads(objective as (...args: Tensor[]) => Tensor1D)(names.map((name) => trainables[name] as Tensor))
  const parts = gradientParts(config, trainables, records, rank)
  const squaredNorms = squaredUnitNorms([...parts.values()], U, G * T)
  const { isFree, inverseClip } = tensors as Record<'isFree' | 'inverseClip', Tensor>
  const factors = clipFactors(squaredNorms, inverseClip, isFree)
  const out: Record<string, Tensor> = { unitLosses: losses as Tensor, squaredNorms }
  for (const name of names) {
    const total = weightedSum(parts.get(name) as GradientParts, factors, G * T)
    out[`d.${name}`] = reshape(total, (trainables[name] as Tensor).shape)
  }
  for (const { inputs, gradients } of records) dispose([inputs, gradients])
  return out
}

/** Names of the weights whose products are recorded. */
function productNames(config: ModelConfig, rank: number): Set<string> {
  const names = new Set<string>()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    names.add(routerName(layer))
    for (const projection of FFN_PROJECTIONS) {
      if (rank === 0) names.add(expertName(layer, PAIR_EXPERT, projection))
      else for (const factor of FACTORS) names.add(factorName(layer, PAIR_EXPERT, projection, factor))
    }
  }
  return names
}

/**
 * The gradient of every trainable as sums over rows. The recorded router has the row of the public expert, too, which is
 * frozen. The bias b of the expert is used as min(b, 0), so its gradient is the sum of those of the expert's logits
 * where b is at most 0.
 * @throws RangeError for a trainable without a record, which would be outside of the clip: a bug.
 */
function gradientParts(
  config: ModelConfig,
  trainables: Readonly<Record<string, Tensor>>,
  records: readonly ProductRecord[],
  rank: number,
): Map<string, GradientParts> {
  const parts = new Map<string, GradientParts>()
  const byName = new Map(records.map((record) => [record.name, record]))
  const record = (name: string): ProductRecord => {
    const found = byName.get(name)
    if (found === undefined) throw new RangeError(`the backward pass recorded nothing for ${name}`)
    return found
  }
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      if (rank === 0) {
        const name = expertName(layer, PAIR_EXPERT, projection)
        parts.set(name, { ...record(name), scale: 1 })
        continue
      }
      for (const factor of FACTORS) {
        const name = factorName(layer, PAIR_EXPERT, projection, factor)
        // The graph uses B times this scale.
        parts.set(name, {
          ...record(name),
          scale: factor === 'A' ? 1 : factorScale(config, projection, rank),
        })
      }
    }
    const { inputs, gradients } = record(routerName(layer))
    const N = gradients.shape[0] as number
    const ofExpert = slice(gradients, [0, PAIR_EXPERT], [N, 1])
    parts.set(routerName(layer), { inputs, gradients: ofExpert, scale: 1 })
    const isUsed = cast(lessEqual(trainables[biasName(layer)] as Tensor, scalar(0)), 'float32') // (1)
    const used = mul(ofExpert, isUsed)
    parts.set(biasName(layer), { inputs: ones([N, 1]), gradients: used, scale: 1 })
  }
  return parts
}
