/**
 * Vectors of texts, in the shape of OpenAI's `/v1/embeddings`. Implements protocols/inference-api, section "Embeddings".
 * Knows nothing about routes, keys and weights.
 */
import type { Selection } from '../composition/selection.ts'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Metrics, UNMETERED } from '../telemetry/metrics.ts'
import type { Caller } from './callers.ts'
import type { Backend, Needs, ServingEngine } from './engine.ts'
import { readJson } from './json-body.ts'
import { resolveRequest } from './models.ts'
import { isTokenPrompt, readExperts, readModel, readPrompts, type TokenPrompt } from './openai.ts'
import { Refusal } from './problem.ts'
import { Queue } from './queue.ts'
import { bad, record, shown, text } from './request-fields.ts'
import { checkUnsupported } from './unsupported.ts'

export interface EmbeddingsRequest extends Selection {
  readonly model: string
  readonly inputs: readonly (string | TokenPrompt)[]
  /** Whether a vector is sent as the base64 of its 32-bit floats, little endian. */
  readonly isBase64: boolean
  /** Names of members that have no effect. */
  readonly ignored: readonly string[]
}

const KNOWN = ['model', 'input', 'encoding_format', 'dimensions', 'user', 'experts']
const MAX_USER_CHARACTERS = 1024

/** @throws FormatError `bad-field`; `fields.param` is the name of the wrong member. */
export function parseEmbeddings(body: unknown): EmbeddingsRequest {
  const value = record(body, 'body', 'a JSON object')
  const ignored = Object.entries(value)
    .filter(([name, given]) => !KNOWN.includes(name) && checkUnsupported(name, given))
    .map(([name]) => shown(name))
  const { encoding_format: format, dimensions, user } = value
  if (dimensions !== undefined && dimensions !== null)
    throw bad('dimensions', 'nothing, because a part of a vector of this model stands for nothing')
  if (format !== undefined && format !== null && format !== 'float' && format !== 'base64')
    throw bad('encoding_format', 'float or base64')
  if (user !== undefined && user !== null) text(user, 'user', [0, MAX_USER_CHARACTERS])
  return {
    model: readModel(value['model']),
    inputs: readPrompts(value['input'], 'input'),
    isBase64: format === 'base64',
    ...readExperts(value['experts']),
    ignored,
  }
}

export interface EmbeddingsInit {
  readonly backendFor: (needs: Needs) => Backend
  readonly metrics?: Metrics | undefined
}

export class Embeddings {
  readonly #init: EmbeddingsInit
  /** One request at a time, beside those that generate text. */
  readonly #queue = new Queue(1, limit('queuedRequests'))

  constructor(init: EmbeddingsInit) {
    this.#init = init
  }

  /** @throws Refusal; FlexMeshError; QueueFullError; ServingError; the reason why the request was aborted. */
  async respond(raw: Request, caller: Caller | undefined, onReceived: () => void): Promise<object> {
    const { backendFor } = this.#init
    const body = await readJson(raw)
    onReceived()
    const request = await resolveRequest(parseEmbeddings(body), caller, (needs) =>
      backendFor({ ...needs, isEmbedding: true }),
    )
    const meter = this.#init.metrics?.request() ?? UNMETERED
    const { signal } = raw
    let engine: ServingEngine | undefined
    let leave: (() => void) | undefined
    try {
      leave = await this.#queue.enter(signal)
      engine = await backendFor({ ...request, isEmbedding: true }).acquire()
      const answer = await this.#answer(engine, request, signal)
      meter.admitted(answer.tokens)
      caller?.used(answer.tokens, 0, [])
      meter.ended('stop')
      return answer.body
    } catch (error) {
      meter.ended(signal.aborted ? 'abort' : 'error')
      throw error
    } finally {
      engine?.release()
      leave?.()
    }
  }

  async #answer(
    engine: ServingEngine,
    request: EmbeddingsRequest,
    signal: AbortSignal,
  ): Promise<{ body: object; tokens: number }> {
    const { model, inputs, isBase64, ignored } = request
    checkSelection(engine, request)
    const data: object[] = []
    let tokens = 0
    for (const [index, input] of inputs.entries()) {
      const ids = await tokensOf(engine, input, signal)
      tokens += ids.length
      const vector = unit(await engine.embed(request, ids, signal))
      data.push({ object: 'embedding', index, embedding: isBase64 ? base64(vector) : Array.from(vector) })
    }
    const body = {
      object: 'list',
      data,
      model,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
      flexmesh: {
        composition: engine.composition,
        served_by: 'node',
        ...(ignored.length === 0 ? {} : { ignored }),
        experts: engine.experts,
      },
    }
    return { body, tokens }
  }
}

function checkSelection(engine: ServingEngine, selection: Selection): void {
  try {
    engine.checkSelection(selection)
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    throw new Refusal({ status: 400, code: error.code, message: error.message, param: 'experts' })
  }
}

async function tokensOf(
  engine: ServingEngine,
  input: string | TokenPrompt,
  signal: AbortSignal,
): Promise<Int32Array> {
  if (typeof input === 'string' && input.length > engine.maxPromptCharacters)
    throw tooLong(engine, `${input.length} characters`)
  const ids = isTokenPrompt(input) ? input.tokens : await engine.encode(input, signal)
  if (ids.length > engine.contextLength) throw tooLong(engine, `${ids.length} tokens`)
  const foreign = ids.find((id) => id >= engine.vocabularySize)
  if (foreign !== undefined)
    throw bad(
      'input',
      `token ids of the vocabulary, which are less than ${engine.vocabularySize}, got ${foreign}`,
    )
  return ids
}

function tooLong({ contextLength }: ServingEngine, what: string): Refusal {
  return new Refusal({
    status: 400,
    code: 'context_length_exceeded',
    message: `an input has ${what}, but the context holds ${contextLength} tokens`,
    param: 'input',
  })
}

/** The vector of length 1 in the same direction. */
function unit(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))
  return length === 0 ? vector : vector.map((value) => value / length)
}

function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(4 * vector.length)
  vector.forEach((value, i) => void bytes.writeFloatLE(value, 4 * i))
  return bytes.toString('base64')
}
