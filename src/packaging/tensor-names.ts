/**
 * Implements protocols/expert-package (v1.0.0), section "Tensors": the closed set of tensors that a
 * package may hold. Names are those of a two-expert FlexOlmo checkpoint in which the guest is expert
 * 1. Everything else, attention and embeddings included, is not a package's to bring.
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

/** `ffn` tensors travel in the manifest's dtype, everything that routes always in F32. */
export type TensorKind = 'ffn' | 'router' | 'bias' | 'statistics'

export interface ExpectedTensor {
  readonly shape: readonly number[]
  readonly kind: TensorKind
}

/** The part of a manifest's `expert` that fixes names and shapes. */
export interface ExpertShape {
  readonly layers: number
  readonly hidden_size: number
  readonly intermediate_size: number
  readonly bias: boolean
  /**
   * Of an expert whose FFN is the public one plus a difference of this rank, 1 to the smaller of hidden and
   * intermediate size; absent where whole FFNs travel.
   */
  readonly rank?: number
  /** Tokens of the vocabulary that its router statistics count; 0 without them. */
  readonly statisticsTokens: number
}

/** Every tensor of a package, by name; there are no others, and none may be missing. */
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

/** Tensors in one layer. */
export function tensorsPerLayer({ bias, rank }: Pick<ExpertShape, 'bias' | 'rank'>): number {
  return FFN_PROJECTIONS.length * (rank === undefined ? 1 : FACTORS.length) + (bias ? 2 : 1)
}

/** Bytes of all tensors together; `elementBytes` is that of the ffn tensors. */
export function expertDataBytes(shape: ExpertShape, elementBytes: number): number {
  const { layers, hidden_size: C, intermediate_size: F, bias, rank, statisticsTokens } = shape
  const values = rank === undefined ? C * F : rank * (C + F)
  const perLayer = FFN_PROJECTIONS.length * values * elementBytes + 4 * C + (bias ? 4 : 0)
  return layers * perLayer + 4 * statisticsTokens
}
