/**
 * Another OpenAI-compatible server as a serving engine. Implements protocols/inference-api, section "Upstream". Every
 * event of the upstream is checked before it is used. Does not know which experts may be used or who asks.
 */
import { expertLabels, statedExperts } from '../composition/attribution.ts'
import type { CompositionFile } from '../composition/composition-file.ts'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Piece, type ServingEngine, ServingError } from './engine.ts'
import { readEvents } from './event-reader.ts'
import type { InferenceRequest } from './openai.ts'
import { maxPromptCharacters, type PromptEncoder } from './prompt.ts'

export interface UpstreamInit {
  /** Ends with the version of the API, as in `http://127.0.0.1:8000/v1`. */
  readonly url: URL
  readonly apiKey?: string
  /** What the upstream serves. */
  readonly composition: CompositionFile
  /** Maximum number of tokens of prompt and answer together. */
  readonly contextLength: number
  readonly prompts: PromptEncoder
  /** @throws InputError `not-found` for a name that matches no expert. */
  readonly checkSelection: ServingEngine['checkSelection']
  /** Milliseconds without a byte from the upstream after which it has failed. Default: the limit `upstreamSilence`. */
  readonly silence?: number
  /** Called before a prompt is sent, with the name of the upstream and the bytes of the request's body. */
  readonly onPrompt?: (to: string, bytes: number) => void
}

/** Maximum number of characters of one event; honest events are far shorter. */
const MAX_EVENT = 65_536

/** @throws InputError `usage` unless it is an HTTP or HTTPS address without name, password and query. */
export function parseUpstreamUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const plain = url !== undefined && url.username === '' && url.password === '' && url.search === ''
  if (!plain || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new InputError(
      'usage',
      `--upstream: expected an address such as http://127.0.0.1:8000/v1, without name, password or query, got "${text.slice(0, 200)}"; the key goes into FLEXMESH_UPSTREAM_API_KEY`,
    )
  }
  return url
}

export function upstreamEngine(init: UpstreamInit): ServingEngine {
  const { composition, contextLength, prompts, checkSelection } = init
  return {
    composition: composition.composition,
    experts: expertLabels(composition),
    stated: statedExperts(composition),
    contextLength,
    maxPromptCharacters: maxPromptCharacters(prompts, contextLength),
    vocabularySize: prompts.vocabularySize,
    encode: (prompt, signal) => prompts.encode(prompt, signal),
    checkSelection,
    generate: (request, prompt, signal) => generate(init, request, prompt, signal),
    release: () => undefined, // The upstream holds the composition.
  }
}

async function* generate(
  init: UpstreamInit,
  request: InferenceRequest,
  prompt: Int32Array,
  signal: AbortSignal,
): AsyncGenerator<Piece, void, void> {
  const silence = new SilenceTimer(init.silence ?? limit('upstreamSilence'))
  const ended = new AbortController()
  try {
    const response = await ask(init, request, prompt, AbortSignal.any([signal, silence.signal, ended.signal]))
    let finish: Piece['finish']
    let tokens: number | undefined
    for await (const data of events(response, silence)) {
      const event = readEvent(data, init.composition.composition)
      finish = event.finish ?? finish
      tokens = event.tokens ?? tokens
      if (event.text !== '') yield { text: event.text }
    }
    if (finish === undefined) throw failed('ended its answer without a finish_reason')
    yield { text: '', finish, ...(tokens === undefined ? {} : { tokens }) }
  } catch (error) {
    if (silence.signal.aborted)
      throw new ServingError(504, 'upstream_timeout', `the upstream sent nothing for ${silence.ms / 1000} s`)
    if (signal.aborted || error instanceof ServingError) throw error
    throw failed('cannot be reached', error)
  } finally {
    silence.stop()
    ended.abort() // Closes the connection if the answer was not read to its end.
  }
}

async function ask(
  init: UpstreamInit,
  request: InferenceRequest,
  prompt: Int32Array,
  signal: AbortSignal,
): Promise<Response> {
  const { url, apiKey, composition, contextLength } = init
  const body = JSON.stringify({
    model: composition.composition,
    prompt: Array.from(prompt),
    max_tokens: Math.min(request.maxTokens, contextLength - prompt.length),
    temperature: request.temperature,
    top_p: request.topP,
    seed: request.seed,
    ...(request.stop.length === 0 ? {} : { stop: request.stop }),
    ...(request.presencePenalty === 0 ? {} : { presence_penalty: request.presencePenalty }),
    ...(request.frequencyPenalty === 0 ? {} : { frequency_penalty: request.frequencyPenalty }),
    ...(request.logitBias.size === 0 ? {} : { logit_bias: Object.fromEntries(request.logitBias) }),
    stream: true,
    stream_options: { include_usage: true },
  })
  init.onPrompt?.(url.origin, Buffer.byteLength(body))
  const response = await fetch(new URL(`${url.pathname.replace(/\/$/, '')}/completions`, url), {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'text/event-stream',
      'accept-encoding': 'identity',
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
    },
    body,
    redirect: 'error',
    signal,
  })
  if (response.status === 404) {
    throw failed(`does not serve composition ${composition.composition}; serve its export under that name`)
  }
  if (response.status !== 200) throw failed(`answered with status ${response.status}`)
  if (!/^text\/event-stream\b/i.test(response.headers.get('content-type') ?? ''))
    throw failed('did not answer with server-sent events')
  return response
}

/** Data of every event up to `[DONE]` or the end of the response. */
async function* events(response: Response, silence: SilenceTimer): AsyncGenerator<string, void, void> {
  try {
    for await (const data of readEvents(boundedBytes(response, silence), MAX_EVENT)) {
      if (data === '[DONE]') return
      yield data
    }
  } catch (error) {
    if (error instanceof RangeError) throw failed(`sent ${error.message}`)
    throw error
  }
}

/** The body of a response. Restarts the timer with every chunk. */
async function* boundedBytes(
  response: Response,
  silence: SilenceTimer,
): AsyncGenerator<Uint8Array, void, void> {
  let size = 0
  for await (const bytes of response.body ?? []) {
    silence.restart()
    size += (bytes as Uint8Array).length
    if (size > limit('upstreamAnswerBytes'))
      throw failed(`sent more than ${limit('upstreamAnswerBytes')} bytes`)
    yield bytes as Uint8Array
  }
}

/** The members of an event that are used. */
interface Event {
  readonly text: string
  readonly finish?: 'stop' | 'length'
  readonly tokens?: number
}

/** @param model digest of the composition that was asked for. @throws ServingError for any other event. */
function readEvent(data: string, model: string): Event {
  let value: unknown
  try {
    value = JSON.parse(data)
  } catch (cause) {
    throw failed('sent an event that is not JSON', cause)
  }
  const event = record(value)
  if (event['error'] !== undefined) throw failed('ended its answer with an error')
  if (event['model'] !== model) throw failed(`answered for another composition than ${model}`)
  const choices = event['choices']
  if (!Array.isArray(choices) || choices.length > 1)
    throw failed('sent an event whose choices are not a list of at most one choice')
  const choice = record(choices[0] ?? { text: '' })
  const { text, finish_reason: reason } = choice
  if (typeof text !== 'string') throw failed('sent an event without text')
  if (reason !== undefined && reason !== null && reason !== 'stop' && reason !== 'length')
    throw failed('sent a finish_reason other than stop and length')
  const usage = event['usage'] ?? undefined
  const tokens = usage === undefined ? undefined : record(usage)['completion_tokens']
  if (tokens !== undefined && (!Number.isSafeInteger(tokens) || (tokens as number) < 0))
    throw failed('sent a number of tokens that is not a whole number')
  return {
    text,
    ...(typeof reason === 'string' ? { finish: reason } : {}),
    ...(tokens === undefined ? {} : { tokens: tokens as number }),
  }
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw failed('sent an event that is not a completion')
  return value as Record<string, unknown>
}

function failed(what: string, cause?: unknown): ServingError {
  return new ServingError(502, 'upstream_failed', `the upstream ${what}`, cause)
}

/** Aborts its signal when it has not been restarted for `ms` milliseconds. */
class SilenceTimer {
  readonly ms: number
  readonly #abort = new AbortController()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(ms: number) {
    this.ms = ms
    this.restart()
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  restart(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#abort.abort(), this.ms)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}
