/**
 * Implements protocols/expert-package (v1.0.0), section "Tensors": the closed set of tensors that a
 * package may hold. Names are those of a two-expert FlexOlmo checkpoint in which the guest is expert
 * 1. Everything else, attention and embeddings included, is not a package's to bring.
 */

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
  /** Whether it brings router statistics. */
  readonly statistics: boolean
}

const FFN_PROJECTIONS = ['gate', 'up', 'down'] as const
export type FfnProjection = (typeof FFN_PROJECTIONS)[number]

export function ffnTensorName(layer: number, projection: FfnProjection): string {
  return `model.layers.${layer}.mlp.experts.1.${projection}_proj.weight`
}

/** The expert's one row of the router. */
export function routerTensorName(layer: number): string {
  return `model.layers.${layer}.mlp.gate.weight`
}

export function biasTensorName(layer: number): string {
  return `model.layers.${layer}.mlp.expert_bias`
}

/** Mean outer product of features, upper triangle row by row. */
export const STATISTICS_SECOND = 'router_statistics.second'
/** Mean feature. */
export const STATISTICS_MEAN = 'router_statistics.mean'

/** Values of the upper triangle of a square matrix of this width. */
function triangle(C: number): number {
  return (C * (C + 1)) / 2
}

/** Every tensor of a package, by name; there are no others, and none may be missing. */
export function expertTensorNames(shape: ExpertShape): Map<string, ExpectedTensor> {
  const { layers, hidden_size: C, intermediate_size: F, bias, statistics } = shape
  const names = new Map<string, ExpectedTensor>()
  for (let layer = 0; layer < layers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const dimensions = projection === 'down' ? [C, F] : [F, C]
      names.set(ffnTensorName(layer, projection), { shape: dimensions, kind: 'ffn' })
    }
    names.set(routerTensorName(layer), { shape: [1, C], kind: 'router' })
    if (bias) names.set(biasTensorName(layer), { shape: [1], kind: 'bias' })
  }
  if (statistics) {
    names.set(STATISTICS_SECOND, { shape: [triangle(C)], kind: 'statistics' })
    names.set(STATISTICS_MEAN, { shape: [C], kind: 'statistics' })
  }
  return names
}

/** Tensors in one layer. */
export function tensorsPerLayer(bias: boolean): number {
  return FFN_PROJECTIONS.length + (bias ? 2 : 1)
}

/** Bytes of all tensors together; `elementBytes` is that of the ffn tensors. */
export function expertDataBytes(shape: ExpertShape, elementBytes: number): number {
  const { layers, hidden_size: C, intermediate_size: F, bias, statistics } = shape
  const perLayer = FFN_PROJECTIONS.length * C * F * elementBytes + 4 * C + (bias ? 4 : 0)
  return layers * perLayer + (statistics ? 4 * (triangle(C) + C) : 0)
}
