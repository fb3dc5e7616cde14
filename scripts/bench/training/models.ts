/**
 * The reference models of the training benchmark, their synthetic weights and batch, and the useful
 * arithmetic of one step. Knows no engine and no peer.
 */

import { mulberry32 } from '../../../src/lib/random.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { publicShapes } from '../../../src/model/params.ts'
import { initialPublicModel } from '../../../src/training/dense.ts'
import { initialTrainables, trainableShapes } from '../../../src/training/pair.ts'

export interface Reference {
  readonly config: ModelConfig
  /** Rows of a batch and tokens of a row. */
  readonly B: number
  readonly T: number
  /** Steps of one round, so that rounds take seconds. */
  readonly stepsPerRound: number
}

const SHARED = { maxPositionEmbeddings: 512, ropeTheta: 500_000, rmsNormEps: 1e-6 }

export const REFERENCES = {
  S: {
    config: {
      ...SHARED,
      vocabSize: 4096,
      hiddenSize: 256,
      intermediateSize: 768,
      numHiddenLayers: 4,
      numAttentionHeads: 4,
      numKeyValueHeads: 4,
    },
    B: 16,
    T: 256,
    stepsPerRound: 4,
  },
  M: {
    config: {
      ...SHARED,
      vocabSize: 8192,
      hiddenSize: 512,
      intermediateSize: 1408,
      numHiddenLayers: 8,
      numAttentionHeads: 8,
      numKeyValueHeads: 8,
    },
    B: 4,
    T: 512,
    stepsPerRound: 2,
  },
} as const satisfies Readonly<Record<string, Reference>>

export type ReferenceName = keyof typeof REFERENCES

const SEED = 1

export interface Work {
  /** Frozen tensors first, then trainable ones, under pair names. */
  readonly tensors: readonly {
    readonly name: string
    readonly shape: readonly number[]
    readonly data: Float32Array
  }[]
  readonly trainable: readonly string[]
  /** (B * T) each. */
  readonly ids: Int32Array
  readonly labels: Int32Array
}

/** Random weights and tokens, the same for everybody. */
export function referenceWork({ config, B, T }: Reference): Work {
  const random = mulberry32(SEED)
  const shapes = publicShapes(config)
  const publicModel = new Map(
    [...initialPublicModel(config, random)].map(([name, data]) => [
      name,
      { shape: shapes.get(name) as readonly number[], data },
    ]),
  )
  const rows = Array.from({ length: config.numHiddenLayers }, () =>
    Float32Array.from({ length: config.hiddenSize }, () => (random() - 0.5) * 0.1),
  )
  const trainables = initialTrainables(config, publicModel, rows)
  const trainedShapes = trainableShapes(config)
  const tensors = [...publicModel].map(([name, { shape, data }]) => ({
    name: mixtureName(name),
    shape,
    data,
  }))
  for (const [name, data] of trainables) {
    tensors.push({ name, shape: trainedShapes.get(name) as readonly number[], data })
  }
  const token = (): number => Math.floor(random() * config.vocabSize)
  return {
    tensors,
    trainable: [...trainables.keys()],
    ids: Int32Array.from({ length: B * T }, token),
    labels: Int32Array.from({ length: B * T }, token),
  }
}

/** The public FFN under its name as expert 0 of the pair; every other name as it is. */
function mixtureName(name: string): string {
  return name.replace('.mlp.', '.mlp.experts.0.')
}

/** Back to the public model's own names. */
export function publicName(name: string): string {
  return name.replace('.mlp.experts.0.', '.mlp.')
}

/**
 * Floating-point operations that one step cannot do without, matrix products only, two for every
 * multiply-add. For N tokens, width C, FFN width F, vocabulary V, L layers and sequences of T:
 * forward, per layer: 8NC² (q, k, v, o) + 2·6NCF (two FFNs) + 2NTC (causal half of scores and mixing);
 * backward through frozen weights is gradients of activations only: the same products once more, without
 * q, k, v, o, scores and FFN 0 of layer 0, below which nothing is trained (its FFN 1 needs no gradient
 * of its input); attention's backward takes twice its forward; trained FFNs add their weights'
 * gradients, 6NCF. The head: 2NCV forward, 2NCV backward.
 */
export function usefulFlops({ config, B, T }: Reference): number {
  const { hiddenSize: C, intermediateSize: F, vocabSize: V, numHiddenLayers: L } = config
  const N = B * T
  const attention = 8 * N * C * C
  const scores = 2 * N * T * C
  const ffn = 6 * N * C * F
  const forward = L * (attention + scores + 2 * ffn) + 2 * N * C * V
  const inputs = (L - 1) * (attention + 2 * scores + 2 * ffn) + 2 * N * C * V
  // In layer 0 the trained FFN's gradient still passes back through its down projection.
  const layer0 = 2 * N * C * F
  return forward + inputs + layer0 + L * ffn
}
