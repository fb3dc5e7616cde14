/** The models of the benchmark of sizes: shapes and experts, and the arithmetic of their bytes. Measures nothing. */

import type { WeightFormat } from '../../../src/inference/weight-format.ts'
import { heldWeightBytes, vocabularyFormat } from '../../../src/inference/weight-plan.ts'
import { matrixBytes } from '../../../src/kernels/matrix-format.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { publicShapes } from '../../../src/model/params.ts'
import { SHAPES, type ShapeName } from './shapes.ts'

export const MODEL_NAMES = ['tiny', '200M', '1B', '7B', '7x7B'] as const
export type ModelName = (typeof MODEL_NAMES)[number]
/** Measured unless --models names others. */
export const DEFAULT_MODELS: readonly ModelName[] = ['1B', '7B']

/** Maximum number of experts that compute a token: the default of `start`. */
export const TOP_K = 4
export const LOW_RANK = 64

export interface ModelPlan {
  readonly name: ModelName
  readonly config: ModelConfig
  /** Rank of each expert; undefined for a whole one. */
  readonly experts: readonly (number | undefined)[]
  readonly formats: readonly WeightFormat[]
  /** Steps of `train`; 0 where models of this size are trained elsewhere. */
  readonly steps: number
  readonly newTokens: number
  readonly rounds: number
  /** Disk that the model needs, where others are not known to fit, bytes. */
  readonly disk: number
}

const WHOLE = undefined
const FORMATS: readonly WeightFormat[] = ['int8', 'int4', 'bf16']
const SPEED = { newTokens: 32, rounds: 3, formats: FORMATS }

export const PLANS: Readonly<Record<ModelName, ModelPlan>> = {
  tiny: plan('tiny', 'tiny', { experts: [WHOLE, WHOLE, WHOLE], steps: 12, rounds: 1, newTokens: 8 }),
  '200M': plan('200M', '200M', { experts: [WHOLE, WHOLE, WHOLE], steps: 4 }),
  '1B': plan('1B', '1B', { experts: [WHOLE, WHOLE, WHOLE], steps: 4 }),
  '7B': plan('7B', '7B', { experts: [WHOLE, WHOLE, LOW_RANK], steps: 0 }),
  '7x7B': plan('7x7B', '7B', {
    experts: Array.from({ length: 6 }, () => WHOLE),
    steps: 0,
    formats: ['int4'],
    disk: 90e9,
  }),
}

function plan(
  name: ModelName,
  shape: ShapeName,
  own: Pick<ModelPlan, 'experts' | 'steps'> & Partial<ModelPlan>,
): ModelPlan {
  const config = SHAPES[shape]
  return { ...SPEED, disk: 3 * publicBytes(config), ...own, name, config }
}

/** Bytes of the public model in BF16. */
export function publicBytes(config: ModelConfig): number {
  let values = 0
  for (const shape of publicShapes(config).values()) values += shape.reduce((product, n) => product * n, 1)
  return 2 * values
}

/** Bytes of an expert's file in BF16. */
export function expertBytes(config: ModelConfig, rank: number | undefined): number {
  return 2 * expertValues(config, rank)
}

function expertValues(
  { hiddenSize: C, intermediateSize: F, numHiddenLayers: L }: ModelConfig,
  rank?: number,
): number {
  return L * 3 * (rank === undefined ? C * F : rank * (C + F))
}

/** Bytes of all matrices that serving holds in a format. */
export function weightBytes({ config, experts }: ModelPlan, format: WeightFormat): number {
  return heldWeightBytes({ config, ranks: ranksOf(experts) }, format)
}

/**
 * Bytes of the matrices that one token reads at least: all but the embedding, of which it reads one row, and experts
 * beyond the first TOP_K.
 */
export function activeBytes({ config, experts }: ModelPlan, format: WeightFormat): number {
  const ranks = ranksOf(experts).slice(0, TOP_K)
  const { vocabSize, hiddenSize } = config
  return (
    heldWeightBytes({ config, ranks }, format) - matrixBytes(vocabularyFormat(format), vocabSize, hiddenSize)
  )
}

/** Ranks of all experts, the public one first; 0 for whole ones. */
function ranksOf(experts: ModelPlan['experts']): number[] {
  return [0, ...experts.map((rank) => rank ?? 0)]
}
