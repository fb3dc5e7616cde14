/**
 * The routes of the dashboard: its files, its sessions, and what a page may do: run the node's commands, follow its
 * events, and ask for answers. Every request but those for files needs a session. Knows nothing about what the commands
 * do and how the page shows it.
 */

import { promisify } from 'node:util'
import { gzip, gzipSync } from 'node:zlib'
import type { Context } from 'hono'
import { deleteCookie, getCookie, setCookie } from 'hono/cookie'
import { limit } from '../lib/limits.ts'
import { linkSignals } from '../lib/linked-signal.ts'
import type { ApiEnv } from '../serving/api-env.ts'
import type { Answering, Api } from '../serving/app.ts'
import { EVENT_STREAM_LIMITS, EventStream } from '../serving/event-stream.ts'
import { readJson } from '../serving/json-body.ts'
import { Refusal } from '../serving/problem.ts'
import { record, text } from '../serving/request-fields.ts'
import type { Asset, Assets } from './assets.ts'
import type { EventLog } from './event-log.ts'
import type { CommandHandler, Jobs } from './jobs.ts'
import type { Role, Session, Sessions } from './sessions.ts'

/** A command that a page may run. */
export interface PageCommand {
  readonly handler: CommandHandler
  /** Whether it changes nothing with a request, so that readers may run it. */
  readonly isReadOnly: (request: unknown) => boolean
}

export interface DashboardInit {
  readonly assets: Assets
  readonly sessions: Sessions
  readonly events: EventLog
  readonly jobs: Jobs
  readonly commands: Readonly<Record<string, PageCommand>>
  /** Distinguishes the cookie from those of other nodes on this machine: cookies do not know ports. */
  readonly nodeId: string
  /** What the page shows of the node itself. */
  readonly about: () => Readonly<Record<string, unknown>>
  /** Aborts when the node stops; default: never. */
  readonly stopping?: AbortSignal
}

/** A request of the page itself carries this header. Pages of other origins cannot set it without a preflight. */
const PAGE_HEADER = 'x-flexmesh-page'
const MAX_NAME = 64
const MAX_LINK = 128

export function mountDashboard(app: Api, { answer, models }: Answering, init: DashboardInit): void {
  const { assets, sessions, events, jobs, commands } = init
  const cookie = `flexmesh-${init.nodeId}`
  let streams = 0

  app.get('/', (c) => {
    securityHeaders(c, assets.contentSecurityPolicy)
    c.header('Cache-Control', 'no-store')
    return send(c, assets.index)
  })
  app.get('/assets/*', (c) => {
    const asset = assets.files.get(c.req.path)
    if (asset === undefined) throw notFound(c)
    securityHeaders(c, assets.contentSecurityPolicy)
    // The tag is checked at every load: the files change with the version of the program.
    c.header('Cache-Control', 'no-cache')
    return send(c, asset)
  })

  app.post('/dashboard/session', async (c) => {
    requirePage(c)
    const body = record(await readJson(c.req.raw), 'body', 'a JSON object')
    const { secret, session } = await sessions.enter(text(body['link'], 'link', [1, MAX_LINK]))
    setCookie(c, cookie, secret, {
      httpOnly: true,
      sameSite: 'Strict',
      path: '/dashboard',
      maxAge: limit('dashboardSessionLifetime'),
    })
    return c.json({ ...session, ...init.about() })
  })

  app.use('/dashboard/*', async (c, next) => {
    if (c.req.path === '/dashboard/session' && c.req.method === 'POST') return next()
    const session = sessions.find(getCookie(c, cookie) ?? '')
    if (session === undefined) {
      throw new Refusal({
        status: 401,
        code: 'no_session',
        message: 'this page needs a link: run "flexmesh dashboard" on the machine of the node',
      })
    }
    if (c.req.method !== 'GET') requirePage(c)
    c.env.client?.authenticated('dashboard')
    c.set('session', session)
    c.header('Cache-Control', 'no-store')
    return next()
  })
  app.get('/dashboard/session', (c) => c.json({ ...sessionOf(c), ...init.about() }))
  app.delete('/dashboard/session', async (c) => {
    await sessions.end(getCookie(c, cookie) ?? '')
    deleteCookie(c, cookie, { path: '/dashboard' })
    return c.json({})
  })

  app.post('/dashboard/commands/:name', async (c) => {
    const request = await readJson(c.req.raw)
    const { handler, isReadOnly } = commandFor(commands, c.req.param('name'), request, sessionOf(c).role)
    const { signal, release } = linkSignals(c.req.raw.signal)
    try {
      const work = handler(request, signal)
      for (;;) {
        const step = await work.next()
        // Results of commands that act may hold a secret, such as a new key, whose compressed length would tell about it.
        if (step.done === true)
          return isReadOnly(request) ? json(c, step.value) : c.json(step.value as object)
      }
    } finally {
      release()
    }
  })
  app.get('/dashboard/jobs', (c) => c.json({ jobs: jobs.list() }))
  app.post('/dashboard/jobs', async (c) => {
    const body = record(await readJson(c.req.raw), 'body', 'a JSON object')
    const name = text(body['command'], 'command', [1, MAX_NAME])
    const { handler } = commandFor(commands, name, body['request'], sessionOf(c).role)
    return c.json(jobs.start(name, body['request'], handler))
  })
  app.delete('/dashboard/jobs/:id', (c) => {
    requireOperator(sessionOf(c).role)
    jobs.stop(c.req.param('id'))
    return c.json({})
  })

  app.get('/dashboard/events', (c) => {
    if (streams >= limit('dashboardStreams'))
      throw new Refusal({ status: 429, code: 'queue_full', message: 'too many pages follow the events' })
    streams++
    const stream = new EventStream(EVENT_STREAM_LIMITS)
    const write = (event: Parameters<typeof events.idOf>[0]): void =>
      stream.push(JSON.stringify({ at: event.at, ...event.event }), events.idOf(event))
    for (const event of events.after(c.req.header('last-event-id'))) write(event)
    const stop = events.follow(write)
    stream.comment()
    const end = (): void => stream.close()
    init.stopping?.addEventListener('abort', end, { once: true })
    const gone = linkSignals(c.req.raw.signal)
    gone.signal.addEventListener('abort', () => stream.leave(), { once: true })
    stream.signal.addEventListener(
      'abort',
      () => {
        stop()
        gone.release()
        init.stopping?.removeEventListener('abort', end)
        streams--
      },
      { once: true },
    )
    return c.body(stream.body, 200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' })
  })

  app.get('/dashboard/v1/models', (c) => models(c))
  app.post('/dashboard/v1/completions', (c) => answer(c, 'completion'))
  app.post('/dashboard/v1/chat/completions', (c) => answer(c, 'chat'))
}

/** @throws Refusal 404, 403. */
function commandFor(
  commands: DashboardInit['commands'],
  name: string,
  request: unknown,
  role: Role,
): PageCommand {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined)
    throw new Refusal({
      status: 404,
      code: 'not_found',
      message: `no command is named "${name.slice(0, MAX_NAME)}"`,
    })
  if (!command.isReadOnly(request)) requireOperator(role)
  return command
}

/** @throws Refusal 403. */
function requireOperator(role: Role): void {
  if (role === 'operator') return
  throw new Refusal({
    status: 403,
    code: 'read_only',
    message: 'this link may only look; "flexmesh dashboard" without --read-only prints one that may also act',
  })
}

/** Refuses requests that pages of other origins made. @throws Refusal 403. */
function requirePage(c: Context<ApiEnv>): void {
  const site = c.req.header('sec-fetch-site')
  if (c.req.header(PAGE_HEADER) !== undefined && (site === undefined || site === 'same-origin')) return
  throw new Refusal({ status: 403, code: 'wrong_origin', message: 'only the page of this node may ask this' })
}

function sessionOf(c: Context<ApiEnv>): Session {
  return c.get('session')
}

function notFound(c: Context<ApiEnv>): Refusal {
  return new Refusal({ status: 404, code: 'not_found', message: `${c.req.path} does not exist` })
}

function securityHeaders(c: Context<ApiEnv>, contentSecurityPolicy: string): void {
  c.header('Content-Security-Policy', contentSecurityPolicy)
  c.header('X-Content-Type-Options', 'nosniff')
  c.header('Referrer-Policy', 'no-referrer')
  c.header('Cross-Origin-Opener-Policy', 'same-origin')
  c.header('Cross-Origin-Resource-Policy', 'same-origin')
}

/** Responses that are shorter are not compressed, bytes. */
const COMPRESSED_BYTES = 1024

/** A JSON response, compressed if it is long: a roster of a thousand members has a third of a megabyte. */
async function json(c: Context<ApiEnv>, value: unknown): Promise<Response> {
  const text = JSON.stringify(value)
  c.header('Content-Type', 'application/json')
  c.header('Vary', 'Accept-Encoding')
  if (text.length < COMPRESSED_BYTES || !takesGzip(c)) return c.body(text)
  c.header('Content-Encoding', 'gzip')
  return c.body(new Uint8Array(await promisify(gzip)(text)))
}

function takesGzip(c: Context<ApiEnv>): boolean {
  return /\bgzip\b/.test(c.req.header('accept-encoding') ?? '')
}

function send(c: Context<ApiEnv>, { type, body, etag }: Asset): Response {
  c.header('ETag', etag)
  if (c.req.header('if-none-match') === etag) return c.body(null, 304)
  c.header('Content-Type', type)
  if (!takesGzip(c)) return c.body(new Uint8Array(body))
  c.header('Content-Encoding', 'gzip')
  c.header('Vary', 'Accept-Encoding')
  return c.body(new Uint8Array(gzipSync(body)))
}
