/** Names of an expert's tensors: those of a two-expert FlexOlmo checkpoint, in which the guest is expert 1. */

export const FFN_PROJECTIONS = ['gate', 'up', 'down'] as const
export type FfnProjection = (typeof FFN_PROJECTIONS)[number]

export function ffnTensorName(layer: number, projection: FfnProjection): string {
  return `model.layers.${layer}.mlp.experts.1.${projection}_proj.weight`
}

export const FACTORS = ['A', 'B'] as const
export type Factor = (typeof FACTORS)[number]

/** One factor of a difference B A of low rank, as PEFT names it. */
export function factorTensorName(layer: number, projection: FfnProjection, factor: Factor): string {
  return `model.layers.${layer}.mlp.experts.1.${projection}_proj.lora_${factor}.weight`
}

/** The expert's one row of the router. */
export function routerTensorName(layer: number): string {
  return `model.layers.${layer}.mlp.gate.weight`
}

export function biasTensorName(layer: number): string {
  return `model.layers.${layer}.mlp.expert_bias`
}

/** Share of each token of the vocabulary in the owner's text. */
export const STATISTICS_TOKENS = 'router_statistics.tokens'
