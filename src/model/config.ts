/**
 * Shape of a model, and the Hugging Face `config.json` that carries it. The only place where
 * snake_case meets camelCase. Knows no files and no tensors.
 */

import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import type { ModelShape } from '../lib/model-shape.ts'

export interface ModelConfig {
  /** V: rows of the embedding and of the head. */
  readonly vocabSize: number
  /** C: width of the residual stream. */
  readonly hiddenSize: number
  /** F: inner width of one FFN. */
  readonly intermediateSize: number
  /** L. */
  readonly numHiddenLayers: number
  /** H; C must be a multiple of it. */
  readonly numAttentionHeads: number
  /** Heads of keys and values; H is a multiple of it. Fewer than H is grouped-query attention. */
  readonly numKeyValueHeads: number
  /** Longest sequence that the model was meant for. */
  readonly maxPositionEmbeddings: number
  readonly ropeTheta: number
  readonly rmsNormEps: number
}

const MAX_DIMENSION = 1 << 24

/**
 * Read the `config.json` of an `Olmo2ForCausalLM` (or FlexOlmo) directory.
 * @throws FormatError `bad-field`; InputError `not-a-model` for an architecture that is not OLMo-2.
 */
export function configFromHuggingFace(json: unknown): ModelConfig {
  const fields = new Fields(json, 'config.json')
  const type = fields.text('model_type', 40)
  if (type !== 'olmo2' && type !== 'flex_olmo') {
    throw new InputError(
      'not-a-model',
      `config.json: expected model_type olmo2, got ${type}; a public model is an Olmo2ForCausalLM directory`,
    )
  }
  const heads = fields.uint('num_attention_heads', 4096, 1)
  const record = json as Record<string, unknown>
  if (record['tie_word_embeddings'] === true) {
    throw new InputError('not-a-model', 'config.json: tie_word_embeddings must be false')
  }
  const rope = record['rope_parameters'] as Record<string, unknown> | undefined
  const theta = rope?.['rope_theta'] ?? record['rope_theta'] ?? 500_000
  const eps = record['rms_norm_eps'] ?? 1e-6
  if (typeof theta !== 'number' || typeof eps !== 'number' || !(theta > 0) || !(eps > 0)) {
    throw new InputError('not-a-model', 'config.json: rope_theta and rms_norm_eps must be positive numbers')
  }
  return checked({
    vocabSize: fields.uint('vocab_size', MAX_DIMENSION, 1),
    hiddenSize: fields.uint('hidden_size', MAX_DIMENSION, 1),
    intermediateSize: fields.uint('intermediate_size', MAX_DIMENSION, 1),
    numHiddenLayers: fields.uint('num_hidden_layers', 1024, 1),
    numAttentionHeads: heads,
    numKeyValueHeads:
      record['num_key_value_heads'] == null ? heads : fields.uint('num_key_value_heads', heads, 1),
    maxPositionEmbeddings: fields.uint('max_position_embeddings', MAX_DIMENSION, 1),
    ropeTheta: theta,
    rmsNormEps: eps,
  })
}

/** What `config.json` of a public model says; the inverse of `configFromHuggingFace`. */
export function configToHuggingFace(config: ModelConfig): Record<string, unknown> {
  return {
    architectures: ['Olmo2ForCausalLM'],
    model_type: 'olmo2',
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    max_position_embeddings: config.maxPositionEmbeddings,
    rope_theta: config.ropeTheta,
    rms_norm_eps: config.rmsNormEps,
    hidden_act: 'silu',
    attention_bias: false,
    attention_dropout: 0,
    tie_word_embeddings: false,
    bos_token_id: null,
    eos_token_id: 0,
    pad_token_id: 0,
    torch_dtype: 'bfloat16',
  }
}

export function configToShape(config: ModelConfig): ModelShape {
  return {
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    max_position_embeddings: config.maxPositionEmbeddings,
    rope_theta: Math.round(config.ropeTheta),
    rms_norm_eps_nano: Math.round(config.rmsNormEps * 1e9),
  }
}

/** Serving's attention takes heads of whole groups of channels. */
const HEAD_SIZE_MULTIPLE = 8

function checked(config: ModelConfig): ModelConfig {
  const { hiddenSize, numAttentionHeads } = config
  if (hiddenSize % (HEAD_SIZE_MULTIPLE * numAttentionHeads) !== 0) {
    throw new InputError(
      'not-a-model',
      `config.json: hidden_size ${hiddenSize} must be a multiple of ${HEAD_SIZE_MULTIPLE} times num_attention_heads ${numAttentionHeads}`,
    )
  }
  if (config.numAttentionHeads % config.numKeyValueHeads !== 0) {
    throw new InputError(
      'not-a-model',
      `config.json: num_attention_heads ${config.numAttentionHeads} must be a multiple of num_key_value_heads ${config.numKeyValueHeads}`,
    )
  }
  return config
}

/** D: width of one head. */
export function headSize(config: ModelConfig): number {
  return config.hiddenSize / config.numAttentionHeads
}

/** K: width of all keys, or of all values, of one token. */
export function keyValueWidth(config: ModelConfig): number {
  return config.numKeyValueHeads * headSize(config)
}
