/**
 * The inference API as a function from Request to Response: hosts, keys and routes. Implements protocols/inference-api.
 * Knows nothing about sockets and models.
 */
import { type Context, Hono, type MiddlewareHandler } from 'hono'
import { FlexMeshError } from '../lib/errors.ts'
import { linkSignals } from '../lib/linked-signal.ts'
import { apiKeyHash } from '../store/api-keys.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { type ApiEnv, requestId } from './api-env.ts'
import type { Callers } from './callers.ts'
import { Completions } from './completions.ts'
import { allowOrigins } from './cors.ts'
import { Embeddings } from './embeddings.ts'
import { type Backend, type Needs, ServingError } from './engine.ts'
import { EVENT_STREAM_LIMITS, type EventStreamLimits } from './event-stream.ts'
import { hostName } from './host.ts'
import { readJson } from './json-body.ts'
import { type ModelCard, modelCards, modelNotFound } from './models.ts'
import { ollamaModel, ollamaTags, ollamaVersion, parseOllamaShow } from './ollama.ts'
import { problemBody, problemOf, Refusal } from './problem.ts'
import { QueueFullError } from './queue.ts'
import type { Route } from './request-checks.ts'
import { parseDetokenize, parseTokenize, Tokenization, type TokenizationInit } from './tokenization.ts'

export interface AppInit {
  /** The backend that answers a request with this selection of experts. */
  readonly backendFor: (needs: Needs) => Backend
  /** Who may ask; a request without a valid key is refused. */
  readonly callers: Callers
  /** Whether a Host header names this server; others are refused, which stops DNS rebinding. */
  readonly isOwnHost: (host: string | undefined) => boolean
  /**
   * Names under which other machines ask, as `hostName` returns them: directly, or through a proxy. Such requests need a key
   * on every route, and get no routes of `mount`. Default: none.
   */
  readonly outsideHosts?: readonly string[]
  /** Unix seconds. */
  readonly now: () => number
  /** Default: those of src/lib/limits.ts. */
  readonly streamLimits?: EventStreamLimits
  /** Counts answers, and gives the text of `/metrics`. Default: there is no such route. */
  readonly metrics?: Metrics
  /** Why the node cannot do its work now, for `/readyz`; empty if it can. Default: it can. */
  readonly obstacles?: () => Promise<readonly string[]>
  /** Tokenizes texts for `/tokenize` and `/detokenize`. Default: there are no such routes. */
  readonly tokenization?: TokenizationInit
  /** Origins whose web pages may read the answers. Default: none. */
  readonly origins?: readonly string[]
  /** Adds routes of its own, with its own rules who may ask. They are served under the same hosts. */
  readonly mount?: (app: Api, answering: Answering) => void
  /** Receives failures of the node and of an upstream, never prompts or answers. Default: no log. */
  readonly log?: Log
}

export type Api = Hono<ApiEnv>

const KEYED_PATHS = ['/v1/*', '/tokenize', '/detokenize', '/api/tags', '/api/show']
/** Paths of the dashboard, which asks for a session instead of a key. */
const LOCAL_PATHS = /^\/(?:$|assets(?:\/|$)|dashboard(?:\/|$))/
/** Paths that pages of listed origins may ask. */
const SHARED_PATHS = ['/v1/*', '/tokenize', '/detokenize', '/api/*']

/** Hex digits of the SHA-256 of a key that name it. */
const KEY_NAME_LENGTH = 12

/** The answers of the API, for routes that decide themselves who may ask. */
export interface Answering {
  answer(c: Context<ApiEnv>, route: Route): Promise<Response>
  models(c: Context<ApiEnv>): Promise<Response>
}

export function createApp(init: AppInit): Api {
  const app: Api = new Hono<ApiEnv>()
  const log = init.log ?? SILENT
  const completions = new Completions({
    backendFor: init.backendFor,
    now: init.now,
    streamLimits: init.streamLimits ?? EVENT_STREAM_LIMITS,
    metrics: init.metrics,
    report: (error, c) => report(log, error, c),
  })
  const { outsideHosts = [] } = init
  const isOutsideHost = (host: string | undefined): boolean => outsideHosts.includes(hostName(host) ?? '')
  const authenticate = async (c: Context<ApiEnv>): Promise<void> => {
    // RFC 9110, section 11.1: the scheme is compared without regard to case.
    const key = /^Bearer +(.+)$/i.exec(c.req.header('authorization') ?? '')?.[1]
    c.set('caller', await init.callers.find(key))
    c.env.client?.authenticated(`API key ${apiKeyHash(key ?? '').slice(0, KEY_NAME_LENGTH)}`)
  }
  app.use(async (c, next) => {
    const id = requestId()
    c.set('requestId', id)
    c.env.client?.identified(id)
    c.header('X-Request-Id', id)
    const host = c.req.header('host')
    const isLocal = c.env.isOutside !== true && init.isOwnHost(host)
    if (!isLocal && !isOutsideHost(host))
      throw new Refusal({ status: 403, code: 'host_not_allowed', message: 'this Host is not served' })
    c.set('isOutside', !isLocal)
    return next()
  })
  const { origins = [] } = init
  if (origins.length > 0) for (const path of SHARED_PATHS) app.use(path, allowOrigins(origins))
  app.use(async (c, next) => {
    if (!c.get('isOutside')) return next()
    await authenticate(c)
    if (LOCAL_PATHS.test(c.req.path)) return c.notFound()
    return next()
  })
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.get('/readyz', async (c) => {
    const reasons = (await init.obstacles?.()) ?? []
    return reasons.length === 0 ? c.json({ status: 'ok' }) : c.json({ status: 'not ready', reasons }, 503)
  })
  const requireKey: MiddlewareHandler<ApiEnv> = async (c, next) => {
    if (!c.get('isOutside')) await authenticate(c)
    return next()
  }
  for (const path of KEYED_PATHS) app.use(path, requireKey)
  const { metrics } = init
  if (metrics !== undefined) {
    app.get('/metrics', requireKey, async (c) =>
      c.body(await metrics.text(), 200, { 'Content-Type': metrics.contentType }),
    )
  }
  const cards = (c: Context<ApiEnv>): Promise<ModelCard[]> =>
    modelCards(init.backendFor, c.get('caller'), init.now())
  const cardOf = async (c: Context<ApiEnv>, name: string): Promise<ModelCard> => {
    const card = (await cards(c)).find(({ id }) => id === name)
    if (card === undefined) throw modelNotFound(name)
    return card
  }
  const models = async (c: Context<ApiEnv>): Promise<Response> =>
    c.json({ object: 'list', data: await cards(c) })
  app.get('/v1/models', models)
  // The id of an expert's model has slashes, which some clients send unescaped.
  app.get('/v1/models/:model{.+}', async (c) => c.json(await cardOf(c, c.req.param('model'))))
  app.post('/v1/completions', (c) => completions.respond(c, 'completion'))
  app.post('/v1/chat/completions', (c) => completions.respond(c, 'chat'))
  const embeddings = new Embeddings({ backendFor: init.backendFor, metrics: init.metrics })
  app.post('/v1/embeddings', async (c) =>
    c.json(await embeddings.respond(c.req.raw, c.get('caller'), () => c.env.client?.received())),
  )
  app.post('/v1/responses', (c) => completions.respond(c, 'responses'))
  app.get('/api/version', (c) => c.json(ollamaVersion()))
  app.get('/api/tags', async (c) => c.json(ollamaTags(await cards(c))))
  app.post('/api/show', async (c) => {
    const name = parseOllamaShow(await readJson(c.req.raw))
    c.env.client?.received()
    return c.json(ollamaModel(await cardOf(c, name)))
  })
  if (init.tokenization !== undefined) addTokenRoutes(app, new Tokenization(init.tokenization), cardOf)
  init.mount?.(app, { answer: (c, route) => completions.respond(c, route), models })
  app.notFound((c) =>
    refuse(
      c,
      new Refusal({
        status: 404,
        code: 'not_found',
        message: `${c.req.method} ${c.req.path} does not exist`,
      }),
    ),
  )
  app.onError((error, c) => {
    report(log, error, c)
    return refuse(c, error)
  })
  return app
}

/** @param requireModel throws unless the caller may use the model of this id */
function addTokenRoutes(
  app: Api,
  tokenization: Tokenization,
  requireModel: (c: Context<ApiEnv>, id: string) => Promise<unknown>,
): void {
  const read = async <T extends { readonly model?: string }>(
    c: Context<ApiEnv>,
    parse: (body: unknown) => T,
  ): Promise<T> => {
    const body = await readJson(c.req.raw)
    c.env.client?.received()
    const request = parse(body)
    if (request.model !== undefined) await requireModel(c, request.model)
    return request
  }
  app.post('/tokenize', async (c) => {
    const request = await read(c, parseTokenize)
    const { signal, release } = linkSignals(c.req.raw.signal)
    try {
      return c.json(await tokenization.tokenize(request, signal))
    } finally {
      release()
    }
  })
  app.post('/detokenize', async (c) => c.json(tokenization.detokenize(await read(c, parseDetokenize))))
}

function refuse(c: Context<ApiEnv>, error: unknown): Response {
  const problem = problemOf(error)
  return c.json(problemBody(problem), problem.status, problem.headers)
}

/** Log a failure of the node or of an upstream. Faults of the request are not logged, nor that the client left. */
function report(log: Log, error: unknown, c: Context<ApiEnv>): void {
  const isOfRequest =
    error instanceof QueueFullError || error instanceof FlexMeshError || error instanceof Refusal
  if (c.req.raw.signal.aborted || isOfRequest) return
  const ofRequest = log.request(c.get('requestId'))
  if (error instanceof ServingError) {
    const code = systemCode(error)
    ofRequest.warn(`a request was not answered${code === undefined ? '' : ` (${code})`}`, error)
  } else ofRequest.error('a request failed', error)
}

/** Code of the error of the system or of TLS that caused an error, such as ECONNREFUSED. */
function systemCode(error: Error): string | undefined {
  if ('code' in error && typeof error.code === 'string' && !(error instanceof ServingError)) return error.code
  return error.cause instanceof Error ? systemCode(error.cause) : undefined
}
