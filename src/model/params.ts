/**
 * Weights by name: names and shapes of the public model and of a mixture, and the concatenation of experts into a
 * mixture. Does not know tensor libraries or files.
 */
import {
  biasName,
  expertName,
  FACTORS,
  type Factor,
  FFN_PROJECTIONS,
  type FfnProjection,
  factorName,
  layerName,
  PUBLIC_EXPERT,
  routerName,
} from '../lib/tensor-names.ts'
import { keyValueWidth, type ModelConfig } from './config.ts'
import type { RouterStatistics } from './solved-router.ts'
import { type Param, type Params, requireWeight, type Weight } from './weights.ts'

/** Shape of a projection [out, in]. */
export function projectionShape(
  { hiddenSize: C, intermediateSize: F }: Pick<ModelConfig, 'hiddenSize' | 'intermediateSize'>,
  projection: FfnProjection,
): readonly [number, number] {
  return projection === 'down_proj' ? [C, F] : [F, C]
}

/** Shape of a factor of rank r: A [r, in], B [out, r]. */
export function factorShape(
  config: Pick<ModelConfig, 'hiddenSize' | 'intermediateSize'>,
  projection: FfnProjection,
  factor: Factor,
  rank: number,
): readonly [number, number] {
  const [out, width] = projectionShape(config, projection)
  return factor === 'A' ? [rank, width] : [out, rank]
}

/** Names and shapes of a dense public model (Olmo2ForCausalLM of Hugging Face transformers). */
export function publicShapes(config: ModelConfig): Map<string, readonly number[]> {
  const { vocabSize: V, hiddenSize: C, intermediateSize: F } = config
  const K = keyValueWidth(config)
  const shapes = new Map<string, readonly number[]>([['model.embed_tokens.weight', [V, C]]])
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const name of ['q', 'o']) shapes.set(layerName(layer, `self_attn.${name}_proj.weight`), [C, C])
    for (const name of ['k', 'v']) shapes.set(layerName(layer, `self_attn.${name}_proj.weight`), [K, C])
    shapes.set(layerName(layer, 'self_attn.q_norm.weight'), [C])
    shapes.set(layerName(layer, 'self_attn.k_norm.weight'), [K])
    shapes.set(layerName(layer, 'post_attention_layernorm.weight'), [C])
    shapes.set(layerName(layer, 'post_feedforward_layernorm.weight'), [C])
    shapes.set(layerName(layer, 'mlp.gate_proj.weight'), [F, C])
    shapes.set(layerName(layer, 'mlp.up_proj.weight'), [F, C])
    shapes.set(layerName(layer, 'mlp.down_proj.weight'), [C, F])
  }
  shapes.set('model.norm.weight', [C])
  shapes.set('lm_head.weight', [V, C])
  return shapes
}

/** Names and shapes of a mixture of E experts (FlexOlmoForCausalLM of transformers), which has no bias tensors. */
export function mixtureShapes(config: ModelConfig, E: number): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>()
  for (const [name, shape] of publicShapes(config)) {
    if (!name.includes('.mlp.')) shapes.set(name, shape)
    else for (let e = 0; e < E; e++) shapes.set(name.replace('.mlp.', `.mlp.experts.${e}.`), shape)
  }
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    shapes.set(routerName(layer), [E, config.hiddenSize])
  }
  return shapes
}

/** What one owner trains and publishes: an FFN, a router row and a bias per layer. */
export interface Expert<W extends Weight = Weight> {
  /**
   * At full rank: keys `${layer}.${projection}`, gate and up [F, C], down [C, F]. At rank r, where each weight is the
   * public one plus B A: keys `${layer}.${projection}.A` [r, in] and `.B` [out, r]. Never both.
   */
  readonly ffn: ReadonlyMap<string, W>
  /** One row [C] per layer. */
  readonly routerRows: readonly Float32Array[]
  /** One number per layer, used as min(b, 0); undefined if the expert has no bias. */
  readonly bias: Float32Array | undefined
  /** Router statistics, from which a node solves its gate; undefined if the owner does not publish them. */
  readonly statistics?: RouterStatistics | undefined
}

/** Rank of the difference from the public FFN; 0 for an expert of full rank. */
export function expertRank(expert: Pick<Expert, 'ffn'>): number {
  return expert.ffn.get('0.gate_proj.A')?.shape[0] ?? 0
}

/** Names and weights of one projection of an expert: its weight, or its two factors. */
function projectionWeights<W extends Weight>(
  expert: Expert<W>,
  layer: number,
  index: number,
  projection: FfnProjection,
): [string, W][] {
  const key = `${layer}.${projection}`
  if (expertRank(expert) === 0) return [[expertName(layer, index, projection), expertFfn(expert, key)]]
  return FACTORS.map((factor) => [
    factorName(layer, index, projection, factor),
    expertFfn(expert, `${key}.${factor}`),
  ])
}

/** An entry of `Expert.ffn`. @throws RangeError if the expert lacks it: a bug of the caller. */
export function expertFfn<W extends Weight>(expert: Pick<Expert<W>, 'ffn'>, key: string): W {
  const weight = expert.ffn.get(key)
  if (weight === undefined) throw new RangeError(`expert lacks ${key}`)
  return weight
}

/** Indices of the experts, of E, that `weights` holds as low-rank differences from the public FFN. */
export function lowRankExperts(weights: ReadonlyMap<string, unknown>, E: number): ReadonlySet<number> {
  const experts = Array.from({ length: E }, (_, e) => e)
  return new Set(experts.filter((e) => weights.has(factorName(0, e, 'gate_proj', 'A'))))
}

/** A parameter by name. @throws RangeError if it is missing: a bug of the caller. */
export function requireParam(params: Params, name: string): Param {
  const param = params.get(name)
  if (param === undefined) throw new RangeError(`parameter ${name} is missing`)
  return param
}

/**
 * Weights of a FlexOlmo mixture, by concatenation of the public model and the experts (FlexOlmo paper, section
 * 3.3.2). Nothing is averaged and no weight is read; only router rows and biases are copied, and low-rank experts remain
 * factors. Expert 0 is the public FFN.
 * @param publicRows router row [C] of the public expert in each layer
 * @param experts the other experts, in the order of the mixture
 */
export function mixtureWeights<W extends Weight = Weight>(
  config: ModelConfig,
  publicModel: ReadonlyMap<string, W>,
  publicRows: readonly Float32Array[],
  experts: readonly Expert<W>[],
): Map<string, W | Param> {
  const { hiddenSize: C } = config
  const weights = new Map<string, W | Param>()
  for (const [name, weight] of publicModel) {
    if (!name.includes('.mlp.')) weights.set(name, weight)
  }
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      weights.set(
        expertName(layer, PUBLIC_EXPERT, projection),
        requireWeight(publicModel, layerName(layer, `mlp.${projection}.weight`)),
      )
      experts.forEach((expert, index) => {
        for (const [name, weight] of projectionWeights(expert, layer, index + 1, projection)) {
          weights.set(name, weight)
        }
      })
    }
    const rows = new Float32Array((experts.length + 1) * C)
    rows.set(publicRows[layer] as Float32Array, 0)
    const bias = new Float32Array(experts.length + 1)
    experts.forEach((expert, index) => {
      rows.set(expert.routerRows[layer] as Float32Array, (index + 1) * C)
      bias[index + 1] = expert.bias?.[layer] ?? 0
    })
    weights.set(routerName(layer), { shape: [experts.length + 1, C], data: rows })
    weights.set(biasName(layer), { shape: [experts.length + 1], data: bias })
  }
  return weights
}

/**
 * Router rows of the public expert, which are zero in every layer. Softmax depends only on differences of logits, so a
 * row r_i beside a zero row routes exactly like r_i + r_pub beside r_pub. With r_pub fixed at zero, the rows of all
 * members share one coordinate system, and no tensor has to be agreed on (FlexOlmo paper, section
 * 3.3.1 and appendix D).
 */
export function zeroRows(config: ModelConfig): Float32Array[] {
  return Array.from({ length: config.numHiddenLayers }, () => new Float32Array(config.hiddenSize))
}
