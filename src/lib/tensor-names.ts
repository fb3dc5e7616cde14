/**
 * Names of tensors in Hugging Face checkpoints of Olmo2 and FlexOlmo; packages use the names of a two-expert FlexOlmo
 * checkpoint. Knows no shapes and no values.
 */

/** Index of the public expert in every mixture; experts of members follow. */
export const PUBLIC_EXPERT = 0
/** Index of the owner's expert in a pair and in a package. */
export const PAIR_EXPERT = 1

export const FFN_PROJECTIONS = ['gate_proj', 'up_proj', 'down_proj'] as const
export type FfnProjection = (typeof FFN_PROJECTIONS)[number]

/** The two factors of a low-rank difference B A: A [r, in] reads, B [out, r] writes. */
export const FACTORS = ['A', 'B'] as const
export type Factor = (typeof FACTORS)[number]

export function layerName(layer: number, rest: string): string {
  return `model.layers.${layer}.${rest}`
}

export function expertName(layer: number, expert: number, projection: FfnProjection): string {
  return layerName(layer, `mlp.experts.${expert}.${projection}.weight`)
}

/** A factor under the name that PEFT gives it, in place of the weight. */
export function factorName(layer: number, expert: number, projection: FfnProjection, factor: Factor): string {
  return layerName(layer, `mlp.experts.${expert}.${projection}.lora_${factor}.weight`)
}

/** The router: one row per expert; in a package, the one row of its expert. */
export function routerName(layer: number): string {
  return layerName(layer, 'mlp.gate.weight')
}

/** One non-positive number per expert; Hugging Face checkpoints lack it (negative bias, FlexOlmo paper 3.3.2). */
export function biasName(layer: number): string {
  return layerName(layer, 'mlp.expert_bias')
}

/** Share of each token of the vocabulary in the owner's text; packages only. */
export const STATISTICS_TOKENS = 'router_statistics.tokens'

/** The mixture name of a tensor of the public model: its FFN is expert 0. */
export function mixtureName(name: string): string {
  return name.replace('.mlp.', `.mlp.experts.${PUBLIC_EXPERT}.`)
}

/** The inverse of `mixtureName`. */
export function denseName(name: string): string {
  return name.replace(`.mlp.experts.${PUBLIC_EXPERT}.`, '.mlp.')
}
