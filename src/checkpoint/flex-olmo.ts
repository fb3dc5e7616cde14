/**
 * What every exported FlexOlmo folder contains: tensors of the public model under mixture names, and the small files
 * that loaders need. Does not know who owns an expert.
 */

import type { FloatDtype } from '../lib/float-formats.ts'
import { OPTIONAL_FILE_NAMES } from '../lib/model-shape.ts'
import { mixtureName } from '../lib/tensor-names.ts'
import { type MixtureFacts, mixtureToHuggingFace } from '../model/config.ts'
import { CONFIG_FILE, readTokenizer, TOKENIZER_FILE } from './model-directory.ts'
import type { PublicModelFiles } from './public-model.ts'
import type { NamedTensor } from './tensor-file.ts'

const DTYPE_NAMES: Readonly<Record<FloatDtype, MixtureFacts['dtype']>> = {
  F32: 'float32',
  BF16: 'bfloat16',
  F16: 'float16',
}

/** Every tensor of the public model under its mixture name, with its bytes unchanged. */
export function publicTensors(model: PublicModelFiles): NamedTensor[] {
  return Array.from(model.tensors, ([name, { weight }]) => ({ name: mixtureName(name), weight }))
}

/** Tensors sorted by layer, so that a reader finds those of a layer together. */
export function byLayer(tensors: readonly NamedTensor[]): NamedTensor[] {
  const layerOf = ({ name }: NamedTensor): number => {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1]
    return layer !== undefined ? Number(layer) : name.startsWith('model.embed') ? -1 : Number.MAX_SAFE_INTEGER
  }
  return [...tensors].sort((a, b) => layerOf(a) - layerOf(b))
}

/**
 * The config, tokenizer and generation files, and the chat template, by name. They keep the members of the public model's
 * files, and list every token that ends a text.
 * @throws InputError `not-a-model`.
 */
export async function modelFilesOf(
  model: PublicModelFiles,
  facts: Pick<MixtureFacts, 'experts' | 'topK'>,
): Promise<Map<string, string | Uint8Array>> {
  const { dir, config, endsOfText, instruct } = model
  const dtype = DTYPE_NAMES[model.tensors.get('model.embed_tokens.weight')?.dtype ?? 'F32']
  const [endOfText] = endsOfText
  const generation = {
    pad_token_id: endOfText,
    ...instruct.generation,
    eos_token_id: endsOfText.length === 1 ? endOfText : endsOfText,
  }
  const files = new Map<string, string | Uint8Array>([
    [CONFIG_FILE, json(mixtureToHuggingFace(config, { ...facts, endsOfText, dtype }))],
    [TOKENIZER_FILE, await readTokenizer(dir)],
    [OPTIONAL_FILE_NAMES['tokenizer-config'], json(tokenizerConfig(model))],
    [OPTIONAL_FILE_NAMES.generation, json(generation)],
  ])
  const template = instruct.bytes.get(OPTIONAL_FILE_NAMES['chat-template'])
  if (template !== undefined) files.set(OPTIONAL_FILE_NAMES['chat-template'], template)
  return files
}

/**
 * The tokenizer config of the public model without members that would load code. If the model has none, one with the
 * members that loaders need.
 */
function tokenizerConfig({ config, tokenizer, instruct }: PublicModelFiles): Record<string, unknown> {
  if (Object.keys(instruct.tokenizer).length > 0) {
    const { auto_map: _, ...kept } = instruct.tokenizer
    return kept
  }
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    eos_token: tokenizer.endOfTextName,
    pad_token: tokenizer.endOfTextName,
    model_max_length: config.maxPositionEmbeddings,
    clean_up_tokenization_spaces: false,
  }
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
