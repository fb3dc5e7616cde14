/** The shape of the small public model and of every model in the paper's tables. */
import type { ModelConfig } from '../../src/model/config.ts'

export const SMALL_CONFIG: ModelConfig = {
  vocabSize: 4096,
  hiddenSize: 192,
  intermediateSize: 512,
  numHiddenLayers: 4,
  numAttentionHeads: 6,
  numKeyValueHeads: 6,
  maxPositionEmbeddings: 512,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}
