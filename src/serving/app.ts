/**
 * The inference API as a function from Request to Response. Implements protocols/inference-api. Knows
 * neither sockets nor tensors: an engine is passed in.
 */
import { timingSafeEqual } from 'node:crypto'
import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { streamSSE } from 'hono/streaming'
import type { Selection } from '../composition/selection.ts'
import { sha256, utf8 } from '../lib/bytes.ts'
import { FlexMeshError, FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type InferenceRequest, parseRequest } from './openai.ts'
import { Queue, QueueFullError } from './queue.ts'

/** A part of an answer; the next token where nothing else is said. */
export interface Piece {
  readonly text: string
  /** Routing weight of each expert for this token, summing to 1, where the engine knows. */
  readonly shares?: Float32Array
  /** Tokens of the answer so far. */
  readonly tokens?: number
  /** With the last piece, why it is the last. */
  readonly finish?: 'stop' | 'length'
}

/** A composition that is ready to answer. */
export interface ServingEngine {
  readonly servedBy: 'node' | 'upstream'
  readonly composition: string
  /** Labels of the experts, public model first. */
  readonly experts: readonly { readonly institution: string; readonly expert: string }[]
  readonly contextLength: number
  countTokens(text: string): number
  /** @throws InputError `not-found` for an expert that is not composed. */
  checkSelection(request: InferenceRequest): void
  /** @throws ServingError. */
  generate(request: InferenceRequest, signal: AbortSignal): AsyncIterable<Piece>
}

/** Why a well-formed request is not answered now. */
export class ServingError extends Error {
  readonly status: 502 | 503 | 504
  readonly code: string

  constructor(status: 502 | 503 | 504, code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.status = status
    this.code = code
  }
}

export interface AppInit {
  /** Who answers a request with this selection of experts. @throws ServingError. */
  readonly engine: (selection: Selection) => ServingEngine | Promise<ServingEngine>
  /** Bearer tokens; requests without one of them are refused. */
  readonly apiKeys: readonly string[]
  /** Host header values that are served: what stops DNS rebinding. */
  readonly allowedHosts: () => readonly string[]
  /** Unix seconds. */
  readonly now: () => number
}

export const MODEL_NAME = 'flexmesh'

type Kind = 'completion' | 'chat'
/** Who computes an answer is who may be busy. */
type Queues = Readonly<Record<ServingEngine['servedBy'], Queue>>

export function createApp(init: AppInit): Hono {
  const app = new Hono()
  const queues: Queues = {
    node: new Queue(limit('servedStreams'), limit('queuedRequests')),
    upstream: new Queue(limit('upstreamStreams'), limit('queuedRequests')),
  }
  const keys = init.apiKeys.map((key) => sha256(utf8(key)))
  app.use(async (c, next) => {
    if (!init.allowedHosts().includes(c.req.header('host') ?? ''))
      return problem(c, 403, 'host_not_allowed', 'this Host is not served')
    return next()
  })
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.use('/v1/*', async (c, next) => {
    const given = sha256(utf8(/^Bearer (.+)$/.exec(c.req.header('authorization') ?? '')?.[1] ?? ''))
    if (!keys.some((key) => timingSafeEqual(key, given)))
      return problem(c, 401, 'invalid_api_key', 'give a valid API key as "Authorization: Bearer KEY"')
    return next()
  })
  app.use(
    '/v1/*',
    bodyLimit({
      maxSize: limit('bodyBytes'),
      onError: (c) => problem(c, 413, 'body_too_large', `the body may have ${limit('bodyBytes')} bytes`),
    }),
  )
  app.get('/v1/models', async (c) => {
    const { composition, experts, servedBy } = await init.engine({})
    return c.json({
      object: 'list',
      data: [
        {
          id: MODEL_NAME,
          object: 'model',
          created: init.now(),
          owned_by: 'consortium',
          flexmesh: { composition, served_by: servedBy, experts },
        },
      ],
    })
  })
  app.post('/v1/completions', (c) => respond(c, init, queues, 'completion'))
  app.post('/v1/chat/completions', (c) => respond(c, init, queues, 'chat'))
  app.notFound((c) => problem(c, 404, 'not_found', `${c.req.method} ${c.req.path} does not exist`))
  app.onError((error, c) => {
    const [status, code, message, param] = explain(error)
    return problem(c, status, code, message, param)
  })
  return app
}

type Status = 400 | 401 | 403 | 404 | 413 | 415 | 429 | 500 | 502 | 503 | 504
type Problem = readonly [status: Status, code: string, message: string, param?: string | undefined]

function explain(error: unknown): Problem {
  if (error instanceof QueueFullError) return [429, 'queue_full', 'too many requests wait; try again soon']
  if (error instanceof ServingError) return [error.status, error.code, error.message]
  if (error instanceof FormatError)
    return [400, error.code, error.message, String(error.fields['param'] ?? '') || undefined]
  if (error instanceof FlexMeshError) return [400, error.code, error.message]
  return [500, 'internal', 'something failed inside the node']
}

/** The OpenAI error shape. */
function problemBody([status, code, message, param]: Problem): unknown {
  const type =
    status === 401
      ? 'authentication_error'
      : status === 429
        ? 'rate_limit_error'
        : status >= 500
          ? 'server_error'
          : 'invalid_request_error'
  return { error: { message, type, param: param ?? null, code } }
}

function problem(c: Context, status: Status, code: string, message: string, param?: string): Response {
  return c.json(problemBody([status, code, message, param]), status)
}

async function respond(c: Context, init: AppInit, queues: Queues, kind: Kind): Promise<Response> {
  if (!/^application\/json\b/i.test(c.req.header('content-type') ?? ''))
    return problem(c, 415, 'bad_content_type', 'send application/json')
  let body: unknown
  try {
    body = JSON.parse(await c.req.text())
  } catch {
    return problem(c, 400, 'not-json', 'the body is not JSON')
  }
  const request = parseRequest(body, kind)
  if (request.model !== MODEL_NAME)
    return problem(
      c,
      404,
      'model_not_found',
      `model "${request.model}" does not exist; "${MODEL_NAME}" does`,
      'model',
    )
  const { include, exclude } = request
  const engine = await init.engine({ include, exclude })
  engine.checkSelection(request)
  const promptTokens = engine.countTokens(request.prompt) + 1
  if (promptTokens >= engine.contextLength) {
    return problem(
      c,
      400,
      'context_length_exceeded',
      `the prompt has ${promptTokens} tokens, the model reads ${engine.contextLength - 1}`,
      'prompt',
    )
  }
  const id = `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${crypto.randomUUID()}`
  const run: Run = { engine, request, kind, id, created: init.now(), promptTokens }
  const release = await queues[engine.servedBy].enter(c.req.raw.signal)
  if (request.stream) return await streamAnswer(c, run, release)
  try {
    return c.json(await wholeAnswer(run, c.req.raw.signal))
  } finally {
    release()
  }
}

interface Run {
  readonly engine: ServingEngine
  readonly request: InferenceRequest
  readonly kind: Kind
  readonly id: string
  readonly created: number
  readonly promptTokens: number
}

interface Tally {
  tokens: number
  finish: 'stop' | 'length'
  readonly shares: Float64Array
}

/** Text pieces up to a stop sequence; what might begin one is held back until it is clear. */
async function* pieces(run: Run, tally: Tally, signal: AbortSignal): AsyncGenerator<string, void, void> {
  const { stop, maxTokens } = run.request
  const longest = Math.max(0, ...stop.map((s) => s.length - 1))
  let held = ''
  let finish: Piece['finish']
  for await (const piece of run.engine.generate(run.request, signal)) {
    tally.tokens = piece.tokens ?? tally.tokens + 1
    finish = piece.finish
    piece.shares?.forEach((share, i) => {
      tally.shares[i] = (tally.shares[i] as number) + share
    })
    held += piece.text
    const at = Math.min(...stop.map((s) => held.indexOf(s)).filter((i) => i >= 0))
    if (Number.isFinite(at)) {
      yield held.slice(0, at)
      return
    }
    if (held.length > longest) {
      yield held.slice(0, held.length - longest)
      held = held.slice(held.length - longest)
    }
  }
  tally.finish = finish ?? (tally.tokens >= maxTokens ? 'length' : 'stop')
  yield held
}

function newTally(run: Run): Tally {
  return { tokens: 0, finish: 'stop', shares: new Float64Array(run.engine.experts.length) }
}

async function wholeAnswer(run: Run, signal: AbortSignal): Promise<unknown> {
  const tally = newTally(run)
  let text = ''
  for await (const piece of pieces(run, tally, signal)) text += piece
  const choice =
    run.kind === 'chat'
      ? { index: 0, message: { role: 'assistant', content: text } }
      : { index: 0, text, logprobs: null }
  return {
    id: run.id,
    object: run.kind === 'chat' ? 'chat.completion' : 'text_completion',
    created: run.created,
    model: MODEL_NAME,
    choices: [{ ...choice, finish_reason: tally.finish }],
    usage: usage(run, tally),
    flexmesh: attribution(run, tally),
  }
}

/** Answers with an error status as long as nothing was said; later the error is the last event. */
async function streamAnswer(c: Context, run: Run, release: () => void): Promise<Response> {
  const object = run.kind === 'chat' ? 'chat.completion.chunk' : 'text_completion'
  const chunk = (rest: unknown): string =>
    JSON.stringify({ id: run.id, object, created: run.created, model: MODEL_NAME, ...(rest as object) })
  const abort = new AbortController()
  const tally = newTally(run)
  const texts = pieces(run, tally, AbortSignal.any([c.req.raw.signal, abort.signal]))
  let coming: IteratorResult<string>
  try {
    coming = await texts.next()
  } catch (error) {
    release()
    throw error
  }
  return streamSSE(c, async (sse) => {
    sse.onAbort(() => abort.abort())
    const send = (data: string): Promise<void> => sse.writeSSE({ data })
    try {
      for (; coming.done !== true; coming = await texts.next()) {
        if (coming.value === '') continue
        const text = coming.value
        const choice = run.kind === 'chat' ? { index: 0, delta: { content: text } } : { index: 0, text }
        await send(chunk({ choices: [{ ...choice, finish_reason: null }] }))
      }
      const end = run.kind === 'chat' ? { index: 0, delta: {} } : { index: 0, text: '' }
      const last = { choices: [{ ...end, finish_reason: tally.finish }], flexmesh: attribution(run, tally) }
      await send(chunk(last))
      if (run.request.includeUsage) await send(chunk({ choices: [], usage: usage(run, tally) }))
      await send('[DONE]')
    } catch (error) {
      if (!abort.signal.aborted) await send(JSON.stringify(problemBody(explain(error))))
    } finally {
      release()
      await texts.return()
    }
  })
}

function usage(run: Run, tally: Tally): Record<string, number> {
  return {
    prompt_tokens: run.promptTokens,
    completion_tokens: tally.tokens,
    total_tokens: run.promptTokens + tally.tokens,
  }
}

/** Which institutions' experts carried what share of the answer; shares, where known, sum to 1. */
function attribution(run: Run, tally: Tally): unknown {
  const { composition, servedBy, experts } = run.engine
  const total = tally.shares.reduce((a, b) => a + b, 0)
  const share = (i: number): number => (total === 0 ? 0 : (tally.shares[i] as number) / total)
  return {
    composition,
    served_by: servedBy,
    experts: experts.map((label, i) => (servedBy === 'node' ? { ...label, share: share(i) } : label)),
  }
}
