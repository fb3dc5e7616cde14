/**
 * Another OpenAI-compatible server as a serving engine. Implements protocols/inference-api, section "Upstream". Every
 * event of the upstream is checked before it is used (upstream-events.ts). Does not know which experts may be used or who asks.
 */
import { expertLabels, statedExperts } from '../composition/attribution.ts'
import type { TokenScore } from '../composition/composed-model.ts'
import type { CompositionFile } from '../composition/composition-file.ts'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Piece, type ServingEngine, ServingError } from './engine.ts'
import { readEvents } from './event-reader.ts'
import type { InferenceRequest } from './openai.ts'
import { maxPromptCharacters, type PromptEncoder } from './prompt.ts'
import { failed, readEvent, type UpstreamEvent } from './upstream-events.ts'
import type { Vocabulary } from './vocabulary.ts'

export interface UpstreamInit {
  /** Ends with the version of the API, as in `http://127.0.0.1:8000/v1`. */
  readonly url: URL
  readonly apiKey?: string
  /** What the upstream serves. */
  readonly composition: CompositionFile
  /** Maximum number of tokens of prompt and answer together. */
  readonly contextLength: number
  readonly prompts: PromptEncoder
  readonly vocabulary: Vocabulary
  /** @throws InputError `not-found` for a name that matches no expert. */
  readonly checkSelection: ServingEngine['checkSelection']
  /** Milliseconds without a byte from the upstream after which it has failed. Default: the limit `upstreamSilence`. */
  readonly silence?: number
  /** Called before a prompt is sent, with the name of the upstream and the bytes of the request's body. */
  readonly onPrompt?: (to: string, bytes: number) => void
}

/** Maximum number of characters of one event without log-probabilities; honest events are far shorter. */
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
  const { composition, contextLength, prompts, vocabulary, checkSelection } = init
  return {
    composition: composition.composition,
    experts: expertLabels(composition),
    stated: statedExperts(composition),
    contextLength,
    maxPromptCharacters: maxPromptCharacters(prompts, contextLength),
    vocabularySize: prompts.vocabularySize,
    vocabulary,
    turnEnds: prompts.turnEnds,
    encode: (prompt, signal) => prompts.encode(prompt, signal),
    checkSelection,
    generate: (request, prompt, signal) => generate(init, request, prompt, signal),
    embed: () => Promise.reject(failed('computes no embeddings')),
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
    const pieces = request.logprobs === undefined ? textPieces : scoredPieces
    yield* pieces(init, eventsOf(init, request, response, silence), request, prompt)
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

async function* eventsOf(
  { composition: { composition } }: UpstreamInit,
  { logprobs }: InferenceRequest,
  response: Response,
  silence: SilenceTimer,
): AsyncGenerator<UpstreamEvent, void, void> {
  // An event with the scores of a prompt is as long as the prompt.
  const longest = logprobs === undefined ? MAX_EVENT : limit('upstreamAnswerBytes')
  for await (const data of events(response, silence, longest)) yield readEvent(data, composition)
}

/** Why an answer ends, and how many tokens it has, from its events. @throws ServingError if they do not tell the first. */
class Ending {
  #finish: Piece['finish']
  #tokens: number | undefined

  add({ finish, tokens }: UpstreamEvent): void {
    this.#finish = finish ?? this.#finish
    this.#tokens = tokens ?? this.#tokens
  }

  piece(text: string): Piece {
    if (this.#finish === undefined) throw failed('ended its answer without a finish_reason')
    return { text, finish: this.#finish, ...(this.#tokens === undefined ? {} : { tokens: this.#tokens }) }
  }
}

type Pieces = (
  init: UpstreamInit,
  events: AsyncIterable<UpstreamEvent>,
  request: InferenceRequest,
  prompt: Int32Array,
) => AsyncGenerator<Piece, void, void>

const textPieces: Pieces = async function* (_, events) {
  const ending = new Ending()
  for await (const event of events) {
    ending.add(event)
    if (event.text !== '') yield { text: event.text }
  }
  yield ending.piece('')
}

/** The tokens of an answer one by one. Their text is decoded here, since an event names its tokens by their ids. */
const scoredPieces: Pieces = async function* ({ vocabulary }, events, { echo, logprobs, maxTokens }, prompt) {
  const ending = new Ending()
  const text = vocabulary.decodeStream()
  const prompts: TokenScore[] = []
  const ofPrompt = echo ? prompt.length : 0
  let seen = 0
  for await (const event of events) {
    ending.add(event)
    if (event.text !== '' && event.scores.length === 0) throw failed('sent text without log-probabilities')
    for (const { id, logprob, top } of event.scores) {
      const at = seen++
      const score = { id, logprob: logprob ?? 0, top: top.slice(0, logprobs) }
      if (at < ofPrompt) {
        if (id !== prompt[at]) throw failed('scored another prompt than it was sent')
        if (at > 0) prompts.push(score)
        if (seen === ofPrompt) yield { text: '', tokens: 0, prompt: { cachedTokens: 0, scores: prompts } }
      } else if (maxTokens > 0) yield { text: text.push(id), score }
    }
  }
  if (seen < ofPrompt) throw failed('did not score the prompt')
  yield maxTokens > 0 ? ending.piece(text.flush()) : { text: '', tokens: 0, finish: 'length' }
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
    // An answer without tokens is asked for with one, because some servers refuse 0.
    max_tokens: Math.max(1, Math.min(request.maxTokens, contextLength - prompt.length)),
    temperature: request.temperature,
    top_p: request.topP,
    seed: request.seed,
    ...(request.stop.length === 0 ? {} : { stop: request.stop }),
    ...(request.presencePenalty === 0 ? {} : { presence_penalty: request.presencePenalty }),
    ...(request.frequencyPenalty === 0 ? {} : { frequency_penalty: request.frequencyPenalty }),
    ...(request.logitBias.size === 0 ? {} : { logit_bias: Object.fromEntries(request.logitBias) }),
    ...(request.logprobs === undefined
      ? {}
      : { logprobs: request.logprobs, return_tokens_as_token_ids: true, echo: request.echo }),
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
async function* events(
  response: Response,
  silence: SilenceTimer,
  longest: number,
): AsyncGenerator<string, void, void> {
  try {
    for await (const data of readEvents(boundedBytes(response, silence), longest)) {
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
