/**
 * Implements protocols/expert-package (v1.0.0), section "Tensors": the closed set of tensors that a package may hold.
 * Their names are those of a two-expert FlexOlmo checkpoint in which the published expert is expert 1. A package may
 * not bring anything else, such as attention or embeddings. Knows no values.
 */
import {
  biasName,
  expertName,
  FACTORS,
  FFN_PROJECTIONS,
  factorName,
  PAIR_EXPERT,
  routerName,
  STATISTICS_TOKENS,
} from '../lib/tensor-names.ts'

/** `ffn` tensors are stored in the manifest's dtype, all others in F32. */
export type TensorKind = 'ffn' | 'router' | 'bias' | 'statistics'

export interface ExpectedTensor {
  readonly shape: readonly number[]
  readonly kind: TensorKind
}

/** The part of a manifest's `expert` that determines names and shapes. */
export interface ExpertShape {
  readonly layers: number
  readonly hidden_size: number
  readonly intermediate_size: number
  readonly bias: boolean
  /**
   * Rank of the difference from the public FFN, 1 to the smaller of hidden and intermediate size; absent if the
   * package holds whole FFNs.
   */
  readonly rank?: number
  /** Size of the vocabulary that its router statistics cover; 0 without statistics. */
  readonly statisticsTokens: number
}

/** Every tensor of a package, by name. A package holds all of them and no others. */
export function expertTensorNames(shape: ExpertShape): Map<string, ExpectedTensor> {
  const { layers, hidden_size: C, intermediate_size: F, bias, rank, statisticsTokens } = shape
  const names = new Map<string, ExpectedTensor>()
  for (let layer = 0; layer < layers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const [out, width] = projection === 'down_proj' ? [C, F] : [F, C]
      if (rank === undefined) {
        names.set(expertName(layer, PAIR_EXPERT, projection), { shape: [out, width], kind: 'ffn' })
      } else {
        names.set(factorName(layer, PAIR_EXPERT, projection, 'A'), { shape: [rank, width], kind: 'ffn' })
        names.set(factorName(layer, PAIR_EXPERT, projection, 'B'), { shape: [out, rank], kind: 'ffn' })
      }
    }
    names.set(routerName(layer), { shape: [1, C], kind: 'router' })
    if (bias) names.set(biasName(layer), { shape: [1], kind: 'bias' })
  }
  if (statisticsTokens > 0) {
    names.set(STATISTICS_TOKENS, { shape: [statisticsTokens], kind: 'statistics' })
  }
  return names
}

/** Number of tensors per layer. */
export function tensorsPerLayer({ bias, rank }: Pick<ExpertShape, 'bias' | 'rank'>): number {
  return FFN_PROJECTIONS.length * (rank === undefined ? 1 : FACTORS.length) + (bias ? 2 : 1)
}

/** Bytes of all tensors together. @param elementBytes bytes per element of the FFN tensors. */
export function expertDataBytes(shape: ExpertShape, elementBytes: number): number {
  const { layers, hidden_size: C, intermediate_size: F, bias, rank, statisticsTokens } = shape
  const values = rank === undefined ? C * F : rank * (C + F)
  const perLayer = FFN_PROJECTIONS.length * values * elementBytes + 4 * C + (bias ? 4 : 0)
  return layers * perLayer + 4 * statisticsTokens
}
