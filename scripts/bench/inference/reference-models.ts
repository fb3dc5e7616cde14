/**
 * Seeded random weights for the reference models of the inference and composition benchmarks. Logits and routing are
 * spread far enough that greedy output does not depend on rounding. Knows nothing about engines and files.
 */

import { mulberry32 } from '../../../src/lib/random.ts'
import { FFN_PROJECTIONS } from '../../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { type Expert, mixtureWeights, publicShapes } from '../../../src/model/params.ts'
import type { Param } from '../../../src/model/weights.ts'

/** Number of experts in a reference mixture, counting the public one. */
export const EXPERTS = 5
export const TOP_K = 2

/** Standard deviation of logits: large enough that the best token leads by far more than float32 rounding. */
const LOGIT_STD = 2

/** A mixture under Hugging Face names; `experts` counts the public one. */
export function referenceMixture(config: ModelConfig, experts: number, seed: number): Map<string, Param> {
  const random = mulberry32(seed)
  const guests = Array.from({ length: experts - 1 }, () => referenceExpert(config, random))
  const rows = routerRows(config, random)
  return mixtureWeights(config, referencePublicModel(config, random), rows, guests)
}

/** A dense public model; `random` returns numbers in [0, 1). */
export function referencePublicModel(config: ModelConfig, random: () => number): Map<string, Param> {
  const params = new Map<string, Param>()
  for (const [name, shape] of publicShapes(config)) {
    const size = shape.reduce((product, length) => product * length, 1)
    const width = shape.at(-1) as number
    if (name.includes('norm')) params.set(name, { shape, data: new Float32Array(size).fill(1) })
    else params.set(name, { shape, data: uniform(size, stdOf(name, width), random) })
  }
  return params
}

/** An expert without a router bias, which transformers cannot represent. */
export function referenceExpert(config: ModelConfig, random: () => number): Expert<Param> {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
  const ffn = new Map<string, Param>()
  for (let layer = 0; layer < L; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const shape = projection === 'down_proj' ? [C, F] : [F, C]
      const data = uniform(C * F, 1 / Math.sqrt(shape[1] as number), random)
      ffn.set(`${layer}.${projection}`, { shape, data })
    }
  }
  return { ffn, routerRows: routerRows(config, random), bias: undefined }
}

/** Returns a function whose prompts never repeat, since a server may cache earlier ones. */
export function promptSource(config: ModelConfig, tokens: number, seed: number): () => Int32Array {
  const random = mulberry32(seed)
  return () => Int32Array.from({ length: tokens }, () => Math.floor(random() * config.vocabSize))
}

/** Bytes of float32 weights that one token reads: attention, norms, top-k experts, router, head. */
export function activeBytes(config: ModelConfig, experts: number, topK: number): number {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L, vocabSize: V } = config
  const layer = 4 * C * C + topK * 3 * C * F + experts * C + 4 * C
  return 4 * (L * layer + C + V * C + C)
}

/** A router row (C) for each layer. The residual stream starts at deviation 1 and grows, and so do routing logits. */
export function routerRows(config: ModelConfig, random: () => number): Float32Array[] {
  const { hiddenSize: C, numHiddenLayers: L } = config
  return Array.from({ length: L }, () => uniform(C, 1 / Math.sqrt(C), random))
}

function stdOf(name: string, width: number): number {
  if (name === 'model.embed_tokens.weight') return 1
  return (name === 'lm_head.weight' ? LOGIT_STD : 1) / Math.sqrt(width)
}

function uniform(length: number, std: number, random: () => number): Float32Array {
  const scale = 2 * Math.sqrt(3) * std
  const values = new Float32Array(length)
  for (let i = 0; i < length; i++) values[i] = (random() - 0.5) * scale
  return values
}
