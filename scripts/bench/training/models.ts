/**
 * The reference models of the training benchmark: synthetic weights, a batch, and the useful arithmetic of one step.
 * Knows nothing about engines and peers.
 */

import { mulberry32 } from '../../../src/lib/random.ts'
import { mixtureName } from '../../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { publicShapes } from '../../../src/model/params.ts'
import { initialPublicModel } from '../../../src/training/dense.ts'
import { initialTrainables, trainableShapes } from '../../../src/training/pair.ts'
import { CONFIGS } from '../reference-configs.ts'

export interface Reference {
  readonly config: ModelConfig
  /** Number of rows in a batch, and of tokens in a row. */
  readonly B: number
  readonly T: number
  /** Number of steps in a round, chosen so that a round takes seconds. */
  readonly stepsPerRound: number
}

export const REFERENCES = {
  S: { config: CONFIGS.S, B: 16, T: 256, stepsPerRound: 4 },
  M: { config: CONFIGS.M, B: 4, T: 512, stepsPerRound: 2 },
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

/** Random weights and tokens, the same for every contestant. */
export async function referenceWork({ config, B, T }: Reference): Promise<Work> {
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
  const trainables = await initialTrainables(config, publicModel, rows)
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

/**
 * Floating-point operations that one step needs at least: matrix products only, two for every multiply-add. For N
 * tokens, width C, FFN width F, vocabulary V, L layers and sequences of T tokens:
 * - forward, in each layer: 8NC² (q, k, v, o) + 2·6NCF (two FFNs) + 2NTC (causal half of scores and mixing);
 * - backward through frozen weights: the same products once more, for gradients of activations only; without q, k, v,
 *   o, scores and FFN 0 of layer 0, since nothing below them is trained (FFN 1 of layer 0 needs no gradient of its
 *   input);
 * - backward through attention: twice its forward; trained FFNs: their weights' gradients, 6NCF;
 * - the head: 2NCV forward, 2NCV backward.
 */
export function usefulFlops({ config, B, T }: Reference): number {
  const { hiddenSize: C, intermediateSize: F, vocabSize: V, numHiddenLayers: L } = config
  const N = B * T
  const attention = 8 * N * C * C
  const scores = 2 * N * T * C
  const ffn = 6 * N * C * F
  const forward = L * (attention + scores + 2 * ffn) + 2 * N * C * V
  const inputs = (L - 1) * (attention + 2 * scores + 2 * ffn) + 2 * N * C * V
  // In layer 0 the gradient passes back through the trained FFN's down projection.
  const layer0 = 2 * N * C * F
  return forward + inputs + layer0 + L * ffn
}
