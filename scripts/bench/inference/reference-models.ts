/**
 * The reference models of the inference and composition benchmarks: shapes S, M and L, and seeded random
 * weights whose logits and routing are spread, so that greedy output does not hang on rounding. Knows no
 * engine and no files.
 */

import { mulberry32 } from '../../../src/lib/random.ts'
import { FFN_PROJECTIONS } from '../../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { type Expert, mixtureParams, type Param, publicShapes } from '../../../src/model/params.ts'

export type Size = 'S' | 'M' | 'L'
export const EXPERTS = 5
export const TOP_K = 2
/** Longest prompt plus completion that any server is set up for. */
export const CONTEXT = 512

const SHARED = { maxPositionEmbeddings: CONTEXT, ropeTheta: 500_000, rmsNormEps: 1e-6 }
export const CONFIGS: Readonly<Record<Size, ModelConfig>> = {
  S: {
    vocabSize: 4096,
    hiddenSize: 256,
    intermediateSize: 768,
    numHiddenLayers: 4,
    numAttentionHeads: 4,
    numKeyValueHeads: 4,
    ...SHARED,
  },
  M: {
    vocabSize: 8192,
    hiddenSize: 512,
    intermediateSize: 1408,
    numHiddenLayers: 8,
    numAttentionHeads: 8,
    numKeyValueHeads: 8,
    ...SHARED,
  },
  L: {
    vocabSize: 32_768,
    hiddenSize: 1024,
    intermediateSize: 2816,
    numHiddenLayers: 16,
    numAttentionHeads: 16,
    numKeyValueHeads: 16,
    ...SHARED,
  },
}

/** Logits of standard deviation 2: the best token stands out by far more than float32 rounding. */
const LOGIT_STD = 2

/** A mixture of `experts` in all, the public one included, under Hugging Face names. */
export function referenceMixture(config: ModelConfig, experts: number, seed: number): Map<string, Param> {
  const random = mulberry32(seed)
  const guests = Array.from({ length: experts - 1 }, () => referenceExpert(config, random))
  const rows = routerRows(config, random)
  return mixtureParams(config, referencePublicModel(config, random), rows, guests)
}

/** A dense public model; `random` gives numbers in [0, 1). */
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

/** An expert without a bias, as transformers has none. */
export function referenceExpert(config: ModelConfig, random: () => number): Expert {
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

/** Prompts that never repeat: a server may keep what it read of an earlier one. */
export function promptSource(config: ModelConfig, tokens: number, seed: number): () => Int32Array {
  const random = mulberry32(seed)
  return () => Int32Array.from({ length: tokens }, () => Math.floor(random() * config.vocabSize))
}

/** Bytes in float32 that the router lets one token read: attention, norms, top-k experts, router, head. */
export function activeBytes(config: ModelConfig, experts: number, topK: number): number {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L, vocabSize: V } = config
  const layer = 4 * C * C + topK * 3 * C * F + experts * C + 4 * C
  return 4 * (L * layer + C + V * C + C)
}

/** One row per layer; the residual stream grows from 1 on, so routing logits spread by 1 and more. */
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
