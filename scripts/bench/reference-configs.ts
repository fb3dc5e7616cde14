/** Shapes of the reference models S, M and L, which several benchmarks share. */
import type { ModelConfig } from '../../src/model/config.ts'

export type Size = 'S' | 'M' | 'L'

/** Maximum number of tokens in a prompt plus completion, and in a row of training. */
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
