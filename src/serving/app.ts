/**
 * The inference API as a function from Request to Response: routes, access, sizes and the queue of each backend.
 * Implements protocols/inference-api. Knows nothing about sockets and models.
 */
import { timingSafeEqual } from 'node:crypto'
import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { streamSSE } from 'hono/streaming'
import type { Selection } from '../composition/selection.ts'
import { sha256, utf8 } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { type Run, streamedAnswer, wholeAnswer } from './answer.ts'
import { type Backend, type ServingEngine, ServingError } from './engine.ts'
import { type InferenceRequest, MODEL_NAME, parseRequest, type RequestKind } from './openai.ts'
import { type Problem, problemBody, problemOf, Refusal } from './problem.ts'
import { promptCharacters } from './prompt.ts'
import { Queue, QueueFullError } from './queue.ts'

export interface AppInit {
  /** The backend that answers a request with this selection of experts. */
  readonly backendFor: (selection: Selection) => Backend
  /** Bearer tokens; a request without one of them is refused. */
  readonly apiKeys: readonly string[]
  /** Values of the Host header that are served; others are refused, which stops DNS rebinding. */
  readonly allowedHosts: () => readonly string[]
  /** Unix seconds. */
  readonly now: () => number
  /** Receives failures of the node and of an upstream, never prompts or answers. Default: no log. */
  readonly log?: Log
}

export function createApp(init: AppInit): Hono {
  const app = new Hono()
  const api = new Api(init)
  const keys = init.apiKeys.map((key) => sha256(utf8(key)))
  app.use(async (c, next) => {
    if (!init.allowedHosts().includes(c.req.header('host') ?? ''))
      return refuse(c, { status: 403, code: 'host_not_allowed', message: 'this Host is not served' })
    return next()
  })
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.use('/v1/*', async (c, next) => {
    const key = /^Bearer (.+)$/.exec(c.req.header('authorization') ?? '')?.[1]
    const hash = sha256(utf8(key ?? ''))
    if (key === undefined || !keys.some((known) => timingSafeEqual(known, hash))) {
      // RFC 9110, section 15.5.2: a 401 response must name the scheme.
      c.header('WWW-Authenticate', 'Bearer')
      const message = 'give a valid API key as "Authorization: Bearer KEY"'
      return refuse(c, { status: 401, code: 'invalid_api_key', message })
    }
    return next()
  })
  const maxSize = limit('bodyBytes')
  const message = `the body may have at most ${maxSize} bytes`
  const onError = (c: Context): Response => refuse(c, { status: 413, code: 'body_too_large', message })
  app.use('/v1/*', bodyLimit({ maxSize, onError }))
  app.get('/v1/models', (c) => api.models(c))
  app.post('/v1/completions', (c) => api.respond(c, 'completion'))
  app.post('/v1/chat/completions', (c) => api.respond(c, 'chat'))
  app.notFound((c) =>
    refuse(c, { status: 404, code: 'not_found', message: `${c.req.method} ${c.req.path} does not exist` }),
  )
  app.onError((error, c) => {
    api.report(error, c.req.raw.signal)
    return refuse(c, problemOf(error))
  })
  return app
}

function refuse(c: Context, problem: Problem): Response {
  return c.json(problemBody(problem), problem.status)
}

/** A request that has left the queue. */
interface Admission {
  /** The composition that answers it. */
  readonly engine: ServingEngine
  /** Token ids, starting with the end of text. */
  readonly prompt: Int32Array
  /** Let go of the composition and of the place in the queue. Called after the generation has ended. */
  readonly end: () => void
}

class Api {
  readonly #init: AppInit
  readonly #log: Log
  /** One queue per backend, since each has its own capacity. */
  readonly #queues: Readonly<Record<Backend['servedBy'], Queue>>

  constructor(init: AppInit) {
    this.#init = init
    this.#log = init.log ?? SILENT
    this.#queues = {
      node: new Queue(limit('servedStreams'), limit('queuedRequests')),
      upstream: new Queue(limit('upstreamStreams'), limit('queuedRequests')),
    }
  }

  async models(c: Context): Promise<Response> {
    const backend = this.#init.backendFor({})
    const engine = await backend.acquire()
    const { composition, experts } = engine
    engine.release()
    return c.json({
      object: 'list',
      data: [
        {
          id: MODEL_NAME,
          object: 'model',
          created: this.#init.now(),
          owned_by: 'consortium',
          flexmesh: { composition, served_by: backend.servedBy, experts },
        },
      ],
    })
  }

  async respond(c: Context, kind: RequestKind): Promise<Response> {
    if (!/^application\/json\b/i.test(c.req.header('content-type') ?? ''))
      return refuse(c, { status: 415, code: 'bad_content_type', message: 'send application/json' })
    let body: unknown
    try {
      body = JSON.parse(await c.req.text())
    } catch {
      return refuse(c, { status: 400, code: 'not-json', message: 'the body is not JSON' })
    }
    const request = parseRequest(body, kind)
    if (request.model !== MODEL_NAME) {
      const message = `model "${request.model}" does not exist; "${MODEL_NAME}" does`
      return refuse(c, { status: 404, code: 'model_not_found', message, param: 'model' })
    }
    const { signal } = c.req.raw
    const backend = this.#init.backendFor(request)
    await precheck(backend, request, kind)
    const { engine, prompt, end } = await this.#admit(backend, request, kind, signal)
    const id = `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${crypto.randomUUID()}`
    const { servedBy } = backend
    const run = { engine, servedBy, request, kind, id, created: this.#init.now(), prompt }
    if (request.stream) return await this.#stream(c, run, end)
    try {
      return c.json(await wholeAnswer(run, signal))
    } finally {
      end()
    }
  }

  /**
   * Wait for a place in the queue, then hold the composition that is served at that moment: it may be another one than
   * when the request arrived.
   */
  async #admit(
    backend: Backend,
    request: InferenceRequest,
    kind: RequestKind,
    signal: AbortSignal,
  ): Promise<Admission> {
    const leave = await this.#queues[backend.servedBy].enter(signal)
    let engine: ServingEngine | undefined
    const end = (): void => {
      engine?.release()
      leave()
    }
    try {
      engine = await backend.acquire()
      engine.checkSelection(request)
      requireCharacters(engine, request, kind)
      const prompt = await engine.encode(request.prompt, signal)
      if (prompt.length >= engine.contextLength)
        throw tooLong(
          kind,
          `the prompt has ${prompt.length} tokens, the maximum is ${engine.contextLength - 1}`,
        )
      return { engine, prompt, end }
    } catch (error) {
      end()
      throw error
    }
  }

  /** An error before the first event has an HTTP status; a later one is the last event. */
  async #stream(c: Context, run: Run, end: () => void): Promise<Response> {
    const gone = new AbortController()
    const signal = AbortSignal.any([c.req.raw.signal, gone.signal])
    const events = streamedAnswer(run, signal)
    let event: IteratorResult<string, void>
    try {
      event = await events.next()
    } catch (error) {
      end()
      throw error
    }
    return streamSSE(c, async (sse) => {
      sse.onAbort(() => gone.abort())
      try {
        for (; event.done !== true; event = await events.next()) await sse.writeSSE({ data: event.value })
      } catch (error) {
        this.report(error, signal)
        if (!signal.aborted) await sse.writeSSE({ data: JSON.stringify(problemBody(problemOf(error))) })
      } finally {
        // The place is free only after the generation has ended.
        await events.return()
        end()
      }
    })
  }

  /** Log a failure of the node or of an upstream. Faults of the request are not logged, nor that the client left. */
  report(error: unknown, signal: AbortSignal): void {
    if (signal.aborted || error instanceof QueueFullError || error instanceof FlexMeshError) return
    if (error instanceof Refusal) return
    if (error instanceof ServingError) {
      const code = systemCode(error)
      this.#log.warn(`a request was not answered${code === undefined ? '' : ` (${code})`}`, error)
    } else this.#log.error('a request failed', error)
  }
}

/** Code of the error of the system or of TLS that caused an error, such as ECONNREFUSED. */
function systemCode(error: Error): string | undefined {
  if ('code' in error && typeof error.code === 'string' && !(error instanceof ServingError)) return error.code
  return error.cause instanceof Error ? systemCode(error.cause) : undefined
}

/** Refuses what can be refused before a request waits. @throws InputError `not-found`; ServingError; Refusal. */
async function precheck(backend: Backend, request: InferenceRequest, kind: RequestKind): Promise<void> {
  const engine = await backend.acquire()
  try {
    engine.checkSelection(request)
    requireCharacters(engine, request, kind)
  } finally {
    engine.release()
  }
}

/** Bounds the work of the tokenizer. @throws Refusal `context_length_exceeded`. */
function requireCharacters(engine: ServingEngine, { prompt }: InferenceRequest, kind: RequestKind): void {
  const characters = promptCharacters(prompt)
  const { maxPromptCharacters: max, contextLength } = engine
  if (characters > max)
    throw tooLong(
      kind,
      `the prompt has ${characters} characters; the context of ${contextLength} tokens holds at most ${max}`,
    )
}

function tooLong(kind: RequestKind, message: string): Refusal {
  const param = kind === 'chat' ? 'messages' : 'prompt'
  return new Refusal({ status: 400, code: 'context_length_exceeded', message, param })
}
