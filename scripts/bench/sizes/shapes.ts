/** Shapes of the models that the benchmark of sizes measures. Knows no weights. */
import type { ModelConfig } from '../../../src/model/config.ts'

/** Names of the shapes, from the smallest to the largest. */
export const SHAPE_NAMES = ['tiny', '200M', '1B', '7B'] as const
export type ShapeName = (typeof SHAPE_NAMES)[number]

const SHARED = { vocabSize: 100_352, maxPositionEmbeddings: 4096, ropeTheta: 500_000, rmsNormEps: 1e-6 }

export const SHAPES: Readonly<Record<ShapeName, ModelConfig>> = {
  /** Runs through the whole benchmark in seconds. Its vocabulary is larger than the sample tokenizer's, as in the others. */
  tiny: {
    ...SHARED,
    vocabSize: 8192,
    maxPositionEmbeddings: 512,
    hiddenSize: 256,
    intermediateSize: 768,
    numHiddenLayers: 4,
    numAttentionHeads: 4,
    numKeyValueHeads: 4,
  },
  '200M': {
    ...SHARED,
    hiddenSize: 640,
    intermediateSize: 2304,
    numHiddenLayers: 12,
    numAttentionHeads: 10,
    numKeyValueHeads: 10,
  },
  /** allenai/OLMo-2-0425-1B. */
  '1B': {
    ...SHARED,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numHiddenLayers: 16,
    numAttentionHeads: 16,
    numKeyValueHeads: 16,
  },
  /** allenai/OLMo-2-1124-7B. */
  '7B': {
    ...SHARED,
    hiddenSize: 4096,
    intermediateSize: 11_008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 32,
  },
}
