/** Random models on which our engine and transformers must agree, with every kind of shape of published models. */

import { bf16FromFloat32, float32FromBf16 } from '../../src/lib/float-formats.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { mixtureShapes, publicShapes } from '../../src/model/params.ts'
import type { Param } from '../../src/model/weights.ts'

export interface ParityCase {
  readonly name: string
  readonly config: ModelConfig
  /** Number of experts of a FlexOlmoForCausalLM; 0 for a dense Olmo2ForCausalLM. */
  readonly experts: number
  readonly topK: number
  readonly dtype: 'F32' | 'BF16'
  /** Dtype of the experts other than the public one. */
  readonly guests: 'F32' | 'BF16'
  readonly seed: number
}

/** Range of weights, so that logits differ by more than rounding and softmax does not saturate. */
const SPREAD = 0.35
const CONTEXT = 96
/** Number of tokens in the prompt, and in the continuation. */
export const PROMPT_TOKENS = 16
export const NEW_TOKENS = 64

function config(
  V: number,
  C: number,
  F: number,
  L: number,
  H: number,
  J: number,
  theta: number,
): ModelConfig {
  return {
    vocabSize: V,
    hiddenSize: C,
    intermediateSize: F,
    numHiddenLayers: L,
    numAttentionHeads: H,
    numKeyValueHeads: J,
    maxPositionEmbeddings: CONTEXT,
    ropeTheta: theta,
    rmsNormEps: theta === 500_000 ? 1e-6 : 1e-5,
  }
}

type Dtype = ParityCase['dtype']
type Row = [ModelConfig, experts: number, topK: number, dtype: Dtype, guests?: Dtype]

const ROWS: Readonly<Record<string, Row>> = {
  dense: [config(67, 32, 24, 2, 4, 4, 500_000), 0, 1, 'F32'],
  'dense-grouped-bf16': [config(101, 48, 40, 2, 6, 2, 10_000), 0, 1, 'BF16'],
  'one-expert': [config(61, 32, 24, 2, 2, 2, 500_000), 1, 1, 'F32'],
  'pair-all': [config(71, 32, 24, 2, 4, 4, 500_000), 2, 2, 'F32'],
  'pair-bf16-top1': [config(73, 32, 24, 2, 4, 2, 500_000), 2, 1, 'BF16'],
  'three-top2': [config(97, 48, 20, 3, 6, 3, 10_000), 3, 2, 'F32'],
  'four-one-key-head': [config(89, 32, 24, 2, 4, 1, 500_000), 4, 3, 'F32', 'BF16'],
  'five-bf16-top2': [config(103, 64, 16, 2, 4, 4, 1_000_000), 5, 2, 'BF16'],
  'seven-all': [config(83, 32, 16, 1, 4, 2, 500_000), 7, 7, 'F32'],
  'eight-top4-bf16': [config(109, 32, 16, 3, 2, 1, 500_000), 8, 4, 'BF16'],
}

export const CASES: readonly ParityCase[] = Object.entries(ROWS).map(
  ([name, [shape, experts, topK, dtype, guests = dtype]], i) => ({
    name,
    config: shape,
    experts,
    topK,
    dtype,
    guests,
    seed: 40 + i,
  }),
)

/** Dtype of a tensor as in an exported composition, where router rows are always F32. */
export function dtypeOf({ dtype, guests }: ParityCase, name: string): Dtype {
  if (name.endsWith('mlp.gate.weight')) return 'F32'
  return /\.experts\.[1-9]/.test(name) ? guests : dtype
}

export function shapesOf({ config: shape, experts }: ParityCase): Map<string, readonly number[]> {
  return experts === 0 ? publicShapes(shape) : mixtureShapes(shape, experts)
}

/** Weights of a case from its seed, rounded to their dtype. */
export function weightsOf(task: ParityCase): Map<string, Param> {
  const random = mulberry32(task.seed)
  const params = new Map<string, Param>()
  for (const [name, shape] of shapesOf(task)) {
    const data = Float32Array.from(
      { length: shape.reduce((a, b) => a * b, 1) },
      () => (2 * random() - 1) * SPREAD + (name.includes('norm') ? 1 : 0),
    )
    params.set(name, {
      shape,
      data: dtypeOf(task, name) === 'BF16' ? float32FromBf16(bf16FromFloat32(data)) : data,
    })
  }
  return params
}

export function promptOf({ config: { vocabSize }, seed }: ParityCase): Int32Array {
  const random = mulberry32(1000 + seed)
  return Int32Array.from({ length: PROMPT_TOKENS }, () => Math.floor(random() * vocabSize))
}
