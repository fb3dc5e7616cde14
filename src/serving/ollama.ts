/**
 * The answers to which clients of Ollama look before they use a server through the OpenAI API: its version, its models,
 * and one model. Implements protocols/inference-api, section "Clients of Ollama". Knows nothing about routes and keys.
 */
import type { ModelCard } from './models.ts'
import { bad, record, text } from './request-fields.ts'

/**
 * The release of Ollama whose routes these are. Clients compare it with the oldest that they support, as VS Code does
 * with 0.6.4, so it is not the version of this program.
 */
const OLLAMA_VERSION = '0.6.4'
const ARCHITECTURE = 'flexolmo'
const MAX_MODEL_CHARACTERS = 200

/** The body of `/api/version`. */
export function ollamaVersion(): object {
  return { version: OLLAMA_VERSION }
}

/** The body of `/api/tags`. */
export function ollamaTags(cards: readonly ModelCard[]): object {
  return {
    models: cards.map((card) => ({
      name: card.id,
      model: card.id,
      modified_at: timeOf(card),
      // The weights lie in several packages, and experts share those of the public model.
      size: 0,
      digest: card.root.replace(/^sha256:/, ''),
      details: detailsOf(card),
    })),
  }
}

/** The name in the body of `/api/show`; older clients send it as `name`. @throws FormatError `bad-field` */
export function parseOllamaShow(body: unknown): string {
  const { model, name } = record(body, 'body', 'a JSON object')
  const given = model ?? name
  if (given === undefined || given === null) throw bad('model', 'the id of a model')
  return text(given, 'model', [1, MAX_MODEL_CHARACTERS])
}

/** The body of the answer of `/api/show`. */
export function ollamaModel(card: ModelCard): object {
  return {
    modelfile: '',
    parameters: '',
    template: '',
    modified_at: timeOf(card),
    details: detailsOf(card),
    model_info: {
      'general.architecture': ARCHITECTURE,
      'general.basename': card.id,
      [`${ARCHITECTURE}.context_length`]: card.max_model_len,
    },
    // Neither tools nor images.
    capabilities: ['completion', 'tools'],
  }
}

function timeOf({ created }: ModelCard): string {
  return new Date(created * 1000).toISOString()
}

function detailsOf({ parent }: ModelCard): object {
  return {
    parent_model: parent ?? '',
    format: 'safetensors',
    family: ARCHITECTURE,
    families: [ARCHITECTURE],
    parameter_size: '',
    quantization_level: '',
  }
}
