/** How signed statements describe the public model: its files by role, its dimensions under Hugging Face names. */
import type { Fields } from './fields.ts'
import type { FileRef } from './file-ref.ts'

/** Names of the files that a public model may have or not, by role. */
export const OPTIONAL_FILE_NAMES = {
  generation: 'generation_config.json',
  'tokenizer-config': 'tokenizer_config.json',
  'chat-template': 'chat_template.jinja',
} as const

export const PUBLIC_FILE_ROLES = [
  'config',
  'tokenizer',
  'weights',
  'index',
  'replay',
  'generation',
  'tokenizer-config',
  'chat-template',
] as const

export interface PublicFile extends FileRef {
  readonly role: (typeof PUBLIC_FILE_ROLES)[number]
  readonly name: string
}

export interface ModelShape {
  readonly vocab_size: number
  readonly hidden_size: number
  readonly intermediate_size: number
  readonly num_hidden_layers: number
  readonly num_attention_heads: number
  readonly num_key_value_heads: number
  readonly max_position_embeddings: number
  readonly rope_theta: number
  /** In billionths: 1000 is 1e-6. */
  readonly rms_norm_eps_nano: number
}

const MAX_DIMENSION = 2 ** 24
const MAX_LAYERS = 1024

/** @throws FormatError `bad-field`. */
export function readModelShape(fields: Fields): ModelShape {
  const shape: ModelShape = {
    vocab_size: fields.uint('vocab_size', MAX_DIMENSION, 1),
    hidden_size: fields.uint('hidden_size', MAX_DIMENSION, 1),
    intermediate_size: fields.uint('intermediate_size', MAX_DIMENSION, 1),
    num_hidden_layers: fields.uint('num_hidden_layers', MAX_LAYERS, 1),
    num_attention_heads: fields.uint('num_attention_heads', MAX_DIMENSION, 1),
    num_key_value_heads: fields.uint('num_key_value_heads', MAX_DIMENSION, 1),
    max_position_embeddings: fields.uint('max_position_embeddings', MAX_DIMENSION, 1),
    rope_theta: fields.uint('rope_theta', Number.MAX_SAFE_INTEGER, 1),
    rms_norm_eps_nano: fields.uint('rms_norm_eps_nano', 10 ** 9, 1),
  }
  fields.end()
  return shape
}
