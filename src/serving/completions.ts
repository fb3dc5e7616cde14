/**
 * Answers to completions and chats: from a request body, through the queue of its backend, to a response. Implements
 * protocols/inference-api, sections "Order of work", "Answers" and "Streams". Knows nothing about routes, keys and
 * models.
 */
import '../lib/node20.ts'
import type { Context } from 'hono'
import type { ExpertLabel } from '../composition/attribution.ts'
import { limit } from '../lib/limits.ts'
import { linkSignals } from '../lib/linked-signal.ts'
import type { Carried } from '../store/api-usage.ts'
import { type Metrics, UNMETERED } from '../telemetry/metrics.ts'
import { type EncodedPrompt, type Run, streamedAnswer, wholeAnswer } from './answer.ts'
import type { ApiEnv } from './api-env.ts'
import type { Backend, Needs, ServingEngine } from './engine.ts'
import { EventStream, type EventStreamLimits } from './event-stream.ts'
import { readJson } from './json-body.ts'
import { resolveRequest } from './models.ts'
import { type InferenceRequest, isTokenPrompt, parseRequest } from './openai.ts'
import { problemBody, problemOf } from './problem.ts'
import { Queue } from './queue.ts'
import { checkRequest, precheck, promptsOf, type Route, tooManyTokens } from './request-checks.ts'
import { streamedResponse, wholeResponse } from './responses-answer.ts'
import { parseResponsesRequest } from './responses-request.ts'

export interface CompletionsInit {
  /** The backend that answers a request with this selection of experts. */
  readonly backendFor: (needs: Needs) => Backend
  /** Unix seconds. */
  readonly now: () => number
  readonly streamLimits: EventStreamLimits
  /** Counts answers. Default: nobody counts. */
  readonly metrics?: Metrics | undefined
  /** Receives an error after the headers of a stream. */
  readonly report: (error: unknown, c: Context<ApiEnv>) => void
}

const ID_PREFIX = { completion: 'cmpl-', chat: 'chatcmpl-', responses: 'resp_' } as const

/** A request that has left the queue. */
interface Admission {
  readonly run: Run
  /** Let go of the composition and of the place in the queue. Called after the generation has ended. */
  readonly end: () => void
}

export class Completions {
  readonly #init: CompletionsInit
  /** One queue per backend, since each has its own capacity. */
  readonly #queues: Readonly<Record<Backend['servedBy'], Queue>>

  constructor(init: CompletionsInit) {
    this.#init = init
    this.#queues = {
      node: new Queue(limit('servedStreams'), limit('queuedRequests')),
      upstream: new Queue(limit('upstreamStreams'), limit('queuedRequests')),
    }
  }

  /** @throws Refusal; FlexMeshError; QueueFullError; ServingError; the reason why the request was aborted. */
  async respond(c: Context<ApiEnv>, route: Route): Promise<Response> {
    const body = await readJson(c.req.raw)
    c.env.client?.received()
    const request = await resolveRequest(parseBody(body, route), c.get('caller'), this.#init.backendFor)
    const backend = this.#init.backendFor(request)
    await precheck(backend, request, route)
    if (request.stream) return this.#stream(c, backend, request, route)
    const { signal, release } = linkSignals(c.req.raw.signal)
    try {
      const { run, end } = await this.#admit(backend, request, route, signal, c)
      try {
        return c.json(await wholeOf(run, this.#init.now, signal))
      } finally {
        end()
      }
    } finally {
      release()
    }
  }

  /**
   * Wait for a place in the queue, then hold the composition that is served at that moment: it may be another one than
   * when the request arrived. Then encode the prompt.
   */
  async #admit(
    backend: Backend,
    request: InferenceRequest,
    route: Route,
    signal: AbortSignal,
    c: Context<ApiEnv>,
  ): Promise<Admission> {
    const meter = this.#init.metrics?.request() ?? UNMETERED
    const leave = await this.#queues[backend.servedBy].enter(signal).catch((error: unknown) => {
      meter.ended(signal.aborted ? 'abort' : 'error')
      throw error
    })
    let engine: ServingEngine | undefined
    const end = (): void => {
      engine?.release()
      leave()
    }
    try {
      engine = await backend.acquire()
      checkRequest(engine, request, route)
      const prompts: EncodedPrompt[] = []
      for (const prompt of promptsOf(request)) {
        const tokens = isTokenPrompt(prompt) ? prompt.tokens : await engine.encode(prompt, signal)
        signal.throwIfAborted()
        if (tokens.length >= engine.contextLength) throw tooManyTokens(engine, route, tokens.length)
        prompts.push({ prompt, tokens })
      }
      const promptTokens = prompts.reduce((sum, { tokens }) => sum + tokens.length, 0)
      const caller = c.get('caller')
      const id = `${ID_PREFIX[route]}${crypto.randomUUID()}`
      const { servedBy } = backend
      const { experts } = engine
      meter.admitted(promptTokens)
      const isChat = route !== 'completion'
      const run: Run = {
        engine,
        servedBy,
        request: isChat ? { ...request, stop: [...request.stop, ...engine.turnEnds] } : request,
        kind: isChat ? 'chat' : 'completion',
        id,
        created: this.#init.now(),
        prompts,
        scope: caller?.name ?? '',
        meter,
        anotherPlace: () => this.#queues[servedBy].tryEnter(),
        onGenerated: (tokens, shares) => {
          c.env.client?.generated(tokens)
          caller?.used(promptTokens, tokens, carriedBy(experts, tokens, shares))
        },
      }
      return { run, end }
    } catch (error) {
      meter.ended(signal.aborted ? 'abort' : 'error')
      end()
      throw error
    }
  }

  /** Sends the headers with the first event, or after `streamHeadersDelay`. An earlier error is thrown. */
  async #stream(
    c: Context<ApiEnv>,
    backend: Backend,
    request: InferenceRequest,
    route: Route,
  ): Promise<Response> {
    const stream = new EventStream(this.#init.streamLimits)
    const gone = linkSignals(c.req.raw.signal)
    gone.signal.addEventListener('abort', () => stream.leave(), { once: true })
    stream.signal.addEventListener('abort', () => c.env.client?.drop(), { once: true })
    const { signal } = linkSignals(gone.signal, stream.signal)
    const first = Promise.withResolvers<void>()
    const work = this.#produce(backend, request, route, stream, signal, c, first.resolve)
    const delay = setTimeout(() => {
      stream.comment()
      first.resolve()
    }, limit('streamHeadersDelay'))
    try {
      await Promise.race([first.promise, work])
    } catch (error) {
      stream.discard()
      gone.release()
      throw error
    } finally {
      clearTimeout(delay)
    }
    void this.#finish(work, c, stream, signal).finally(gone.release)
    return c.body(stream.body, 200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache',
      // Asks proxies such as nginx to pass events on as they arrive.
      'X-Accel-Buffering': 'no',
    })
  }

  /** Ends a stream after its last event, which is the error if the answer failed. */
  async #finish(
    work: Promise<void>,
    c: Context<ApiEnv>,
    stream: EventStream,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await work
      stream.close()
    } catch (error) {
      if (!signal.aborted) this.#init.report(error, c)
      stream.close(JSON.stringify(problemBody(problemOf(error))))
    }
  }

  /** Computes a streamed answer. @param onEvent called before each event */
  async #produce(
    backend: Backend,
    request: InferenceRequest,
    route: Route,
    stream: EventStream,
    signal: AbortSignal,
    c: Context<ApiEnv>,
    onEvent: () => void,
  ): Promise<void> {
    const { run, end } = await this.#admit(backend, request, route, signal, c)
    try {
      for await (const { data, name } of eventsOf(run, this.#init.now, signal)) {
        onEvent()
        await stream.send(data, name)
      }
    } finally {
      // The place is free only after the generation has ended.
      end()
    }
  }
}

/** @throws FormatError `bad-field`, `too-large` */
function parseBody(body: unknown, route: Route): InferenceRequest {
  return route === 'responses' ? parseResponsesRequest(body) : parseRequest(body, route)
}

function wholeOf(run: Run, now: () => number, signal: AbortSignal): Promise<object> {
  return run.request.repeated === undefined ? wholeAnswer(run, signal) : wholeResponse(run, now, signal)
}

/** The events of a streamed answer. Those of a response have a name. */
async function* eventsOf(
  run: Run,
  now: () => number,
  signal: AbortSignal,
): AsyncGenerator<{ data: string; name?: string }, void, void> {
  if (run.request.repeated === undefined) for await (const data of streamedAnswer(run, signal)) yield { data }
  else {
    for await (const event of streamedResponse(run, now, signal))
      yield { data: JSON.stringify(event), name: event.type }
    yield { data: '[DONE]' }
  }
}

/** The tokens of an answer by the institutions of the experts that carried them. */
function carriedBy(experts: readonly ExpertLabel[], tokens: number, shares: readonly number[]): Carried[] {
  const sums = new Map<string, number>()
  for (const [e, { institution }] of experts.entries()) {
    const own = tokens * (shares[e] ?? 0)
    if (own > 0) sums.set(institution, (sums.get(institution) ?? 0) + own)
  }
  return [...sums].map(([institution, sum]) => ({ institution, tokens: sum }))
}
