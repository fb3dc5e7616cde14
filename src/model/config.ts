/**
 * Shape of a model, and its conversion from and to a Hugging Face `config.json`. The only place that translates between
 * snake_case and camelCase. Does not read files and does not know tensors.
 */

import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import type { ModelShape } from '../lib/model-shape.ts'

/** Shape of an OLMo-2 model; the capital letters name these numbers in shapes everywhere. */
export interface ModelConfig {
  /** V: number of tokens, the rows of the embedding and of the head. */
  readonly vocabSize: number
  /** C: width of the residual stream. */
  readonly hiddenSize: number
  /** F: inner width of one FFN. */
  readonly intermediateSize: number
  /** L: number of blocks. */
  readonly numHiddenLayers: number
  /** H: number of query heads; C is a multiple of it. */
  readonly numAttentionHeads: number
  /** Number of key and value heads; H is a multiple of it. Fewer than H means grouped-query attention. */
  readonly numKeyValueHeads: number
  /** Longest sequence that the model is meant for. */
  readonly maxPositionEmbeddings: number
  readonly ropeTheta: number
  readonly rmsNormEps: number
}

const MAX_DIMENSION = 1 << 24
const NANO = 1e9
/** Supported model types, with the defaults of transformers for members that config.json leaves out. */
const DEFAULTS: Readonly<Record<string, { readonly ropeTheta: number; readonly rmsNormEps: number }>> = {
  olmo2: { ropeTheta: 10_000, rmsNormEps: 1e-5 },
  flex_olmo: { ropeTheta: 500_000, rmsNormEps: 1e-6 },
}
/** Members that select another forward pass, with the only value supported here. */
const FIXED = [
  ['tie_word_embeddings', false],
  ['attention_bias', false],
  ['hidden_act', 'silu'],
  ['norm_topk_prob', false],
] as const

/**
 * Reads the `config.json` of an `Olmo2ForCausalLM` (or FlexOlmo) directory.
 * @throws FormatError `bad-field`; InputError `not-a-model` for an architecture that is not OLMo-2.
 */
export function configFromHuggingFace(json: unknown): ModelConfig {
  const fields = new Fields(json, 'config.json')
  const type = fields.text('model_type', 40)
  const defaults = DEFAULTS[type]
  if (defaults === undefined) {
    throw new InputError(
      'not-a-model',
      `config.json: expected model_type olmo2, got ${type}; a public model is an Olmo2ForCausalLM directory`,
    )
  }
  const heads = fields.uint('num_attention_heads', 4096, 1)
  const record = json as Record<string, unknown>
  for (const [name, expected] of FIXED) {
    if ((record[name] ?? expected) !== expected) {
      throw new InputError(
        'not-a-model',
        `config.json: expected ${name} ${expected}, got ${JSON.stringify(record[name])}; OLMo-2 blocks support no other value`,
      )
    }
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
    ropeTheta: ropeTheta(record, defaults.ropeTheta),
    rmsNormEps: positive(record['rms_norm_eps'] ?? defaults.rmsNormEps, 'rms_norm_eps'),
  })
}

/**
 * Base of the rotary angles, from `rope_parameters: {rope_theta, rope_type}` or, in older files, `rope_theta` and
 * `rope_scaling`.
 * @param otherwise default of the model type
 * @throws InputError `not-a-model` for scaled rotary embeddings.
 */
function ropeTheta(record: Readonly<Record<string, unknown>>, otherwise: number): number {
  const parameters = (record['rope_parameters'] ?? {}) as Readonly<Record<string, unknown>>
  const scaling = (record['rope_scaling'] ?? {}) as Readonly<Record<string, unknown>>
  const type = parameters['rope_type'] ?? scaling['rope_type'] ?? scaling['type'] ?? 'default'
  if (type !== 'default') {
    throw new InputError(
      'not-a-model',
      `config.json: rotary embeddings of type ${JSON.stringify(type)} are not supported, only "default"; use a model without rope scaling`,
    )
  }
  return positive(parameters['rope_theta'] ?? record['rope_theta'] ?? otherwise, 'rope_theta')
}

function positive(value: unknown, name: string): number {
  if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value)) {
    throw new InputError(
      'not-a-model',
      `config.json: expected ${name} to be a positive number, got ${JSON.stringify(value)}`,
    )
  }
  return value
}

/**
 * Members of the `config.json` of a public model; the inverse of `configFromHuggingFace`. Leaves out attention_dropout:
 * transformers requires the fraction 0.0, which JSON.stringify writes as 0, and assumes 0.0 when it is missing.
 */
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
    tie_word_embeddings: false,
    bos_token_id: null,
    eos_token_id: 0,
    pad_token_id: 0,
    torch_dtype: 'bfloat16',
  }
}

/** Members of the config.json of an exported mixture that the public model does not determine. */
export interface MixtureFacts {
  /** Number of experts, the public one included. */
  readonly experts: number
  readonly topK: number
  /** Ids of the tokens that end a text; the first one separates documents. */
  readonly endsOfText: readonly number[]
  readonly dtype: 'float32' | 'bfloat16' | 'float16'
}

/** Members of the `config.json` of a `FlexOlmoForCausalLM`. */
export function mixtureToHuggingFace(config: ModelConfig, facts: MixtureFacts): Record<string, unknown> {
  return {
    ...configToHuggingFace(config),
    architectures: ['FlexOlmoForCausalLM'],
    model_type: 'flex_olmo',
    num_experts: facts.experts,
    num_experts_per_tok: facts.topK,
    norm_topk_prob: false,
    output_router_logits: false,
    eos_token_id: facts.endsOfText.length === 1 ? facts.endsOfText[0] : facts.endsOfText,
    pad_token_id: facts.endsOfText[0],
    torch_dtype: facts.dtype,
  }
}

/**
 * The shape as statements carry it.
 * @throws InputError `not-a-model` for a number that cannot be stored in a statement, which has integers only.
 */
export function configToShape(config: ModelConfig): ModelShape {
  const epsNano = config.rmsNormEps * NANO
  if (!Number.isSafeInteger(config.ropeTheta) || !(Math.abs(epsNano - Math.round(epsNano)) < 1e-6)) {
    throw new InputError(
      'not-a-model',
      `config.json: rope_theta ${config.ropeTheta} must be an integer and rms_norm_eps ${config.rmsNormEps} a multiple of 1e-9, because a charter carries them as integers`,
    )
  }
  return {
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    max_position_embeddings: config.maxPositionEmbeddings,
    rope_theta: config.ropeTheta,
    rms_norm_eps_nano: Math.round(epsNano),
  }
}

/** The attention of serving supports only heads of a multiple of this many channels. */
const HEAD_SIZE_MULTIPLE = 8

/** The config itself. @throws InputError `not-a-model` for head numbers or sizes that are not supported. */
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

/** K: width of the keys of one token over all heads; the values have the same width. */
export function keyValueWidth(config: ModelConfig): number {
  return config.numKeyValueHeads * headSize(config)
}
