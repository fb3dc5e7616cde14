import '../../src/lib/node20.ts'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadAssets } from '../../src/dashboard/assets.ts'
import { Dashboard } from '../../src/dashboard/dashboard.ts'
import type { CommandHandler } from '../../src/dashboard/jobs.ts'
import type { Role } from '../../src/dashboard/sessions.ts'
import { limit } from '../../src/lib/limits.ts'
import { type Api, createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { backendOf, fixedEngine, refusalOf } from '../support/inference-api.ts'

const HOST = '127.0.0.1:8080'
const ORIGIN = `http://${HOST}`
const NOW = 1_800_000_000

let dir: string
let now: number

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flexmesh-dashboard-'))
  now = NOW
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const sessionsFile = (): string => join(dir, 'sessions.json')

/** Works until it is interrupted; yields one step. */
const endless: CommandHandler = async function* (_request, signal) {
  yield { stage: 'plan', bytes: 3 }
  yield { stage: 'step', step: 1, loss: 2 }
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  throw signal.reason
}
const COMMANDS: Readonly<Record<string, CommandHandler>> = {
  look: async function* (request) {
    return { result: { looked: request } }
  },
  act: async function* () {
    return { result: 'acted' }
  },
  train: endless,
}

interface Page {
  readonly app: Api
  readonly dashboard: Dashboard
}

async function open(): Promise<Page> {
  const dashboard = await Dashboard.open({
    sessions: sessionsFile(),
    now: () => now,
    onUnexpected: (_command, error) => {
      throw error
    },
  })
  const mount = await dashboard.routes({
    peerId: 'peer',
    commands: COMMANDS,
    isReadOnly: (name) => name === 'look',
    about: () => ({ institution: 'Alpha' }),
  })
  const app = createApp({
    backendFor: () => backendOf(fixedEngine()),
    callers: fixedCallers(['k'.repeat(32)]),
    isOwnHost: (host) => isLoopbackHost(host, 8080),
    now: () => now,
    mount,
  })
  return { app, dashboard }
}

type Headers = Readonly<Record<string, string>>
const OWN: Headers = { host: HOST, 'content-type': 'application/json', 'x-flexmesh-page': '1' }

async function ask(app: Api, method: string, path: string, body?: unknown, headers: Headers = {}) {
  return app.request(
    `${ORIGIN}${path}`,
    {
      method,
      headers: { ...OWN, ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    },
    {},
  )
}

const secretOf = (dashboard: Dashboard, role: Role = 'operator'): string =>
  new URL(dashboard.link(ORIGIN, role)).hash.replace('#enter=', '')

/** Spends a link. @returns the header with the cookie of the session */
async function entered({ app, dashboard }: Page, role: Role = 'operator'): Promise<Headers> {
  const response = await ask(app, 'POST', '/dashboard/session', { link: secretOf(dashboard, role) })
  expect(response.status).toBe(200)
  const [cookie = ''] = (response.headers.get('set-cookie') ?? '').split(';')
  return { cookie }
}

describe('the files of the dashboard', () => {
  it('are served to everybody, and allow scripts of this node only', async () => {
    const { app } = await open()
    const page = await ask(app, 'GET', '/')
    expect(page.headers.get('content-type')).toContain('text/html')
    const policy = page.headers.get('content-security-policy') ?? ''
    expect(policy).toMatch(/default-src 'none'/)
    expect(policy).not.toMatch(/unsafe/)
    const paths = ['/assets/app.js', '/assets/style.css', '/assets/vendor/preact.mjs', '/assets/try-page.js']
    for (const path of paths) expect([path, (await ask(app, 'GET', path)).status]).toEqual([path, 200])
  })

  it('have less than 150 KB over the wire, with all pages and libraries', async () => {
    const { app } = await open()
    const { files } = await loadAssets()
    const paths = ['/', ...files.keys()]
    expect(paths).toContain('/assets/vendor/uplot.js')
    let bytes = 0
    for (const path of paths) {
      const response = await ask(app, 'GET', path, undefined, { 'accept-encoding': 'gzip' })
      expect([path, response.status]).toEqual([path, 200])
      bytes += (await response.arrayBuffer()).byteLength
    }
    expect(bytes).toBeLessThan(150_000)
  })

  it('outside of the table are not found', async () => {
    const { app } = await open()
    const paths = ['/assets/index.html', '/assets/../package.json', '/assets/%2e%2e/jobs.ts', '/assets/']
    for (const path of paths) expect([path, (await ask(app, 'GET', path)).status]).toEqual([path, 404])
  })

  it('are asked for again only if they have changed', async () => {
    const { app } = await open()
    const etag = (await ask(app, 'GET', '/assets/app.js')).headers.get('etag') ?? ''
    expect((await ask(app, 'GET', '/assets/app.js', undefined, { 'if-none-match': etag })).status).toBe(304)
  })
})

describe('a link', () => {
  it('opens one session, once', async () => {
    const { app, dashboard } = await open()
    const link = secretOf(dashboard)
    const first = await ask(app, 'POST', '/dashboard/session', { link })
    expect(await first.json()).toMatchObject({ role: 'operator', institution: 'Alpha' })
    expect(first.headers.get('set-cookie')).toMatch(/HttpOnly.*SameSite=Strict/)
    expect(await refusalOf(await ask(app, 'POST', '/dashboard/session', { link }))).toEqual([
      400,
      'not-found',
    ])
  })

  it('expires', async () => {
    const { app, dashboard } = await open()
    const link = secretOf(dashboard)
    now += limit('dashboardLinkLifetime') + 1
    expect(await refusalOf(await ask(app, 'POST', '/dashboard/session', { link }))).toEqual([
      400,
      'not-found',
    ])
  })
})

describe('a session', () => {
  it('is needed for everything but the files', async () => {
    const { app } = await open()
    const asks: [string, string][] = [
      ['GET', '/dashboard/session'],
      ['GET', '/dashboard/events'],
      ['GET', '/dashboard/jobs'],
      ['GET', '/dashboard/v1/models'],
      ['POST', '/dashboard/commands/look'],
      ['POST', '/dashboard/jobs'],
      ['POST', '/dashboard/v1/chat/completions'],
    ]
    for (const [method, path] of asks) {
      for (const headers of [
        {},
        { cookie: `flexmesh-x=${'0'.repeat(64)}` },
        { authorization: `Bearer ${'k'.repeat(32)}` },
      ]) {
        const response = await ask(app, method, path, method === 'POST' ? {} : undefined, headers)
        expect([path, ...(await refusalOf(response))]).toEqual([path, 401, 'no_session'])
      }
    }
  })

  it('outlives a restart of the node, and its file holds no secret', async () => {
    const cookie = await entered(await open())
    const { app } = await open()
    expect((await ask(app, 'GET', '/dashboard/session', undefined, cookie)).status).toBe(200)
    const secret = cookie['cookie']?.split('=')[1] ?? ''
    expect(secret).toMatch(/^[0-9a-f]{64}$/)
    expect(await readFile(sessionsFile(), 'utf8')).not.toContain(secret)
    expect((await stat(sessionsFile())).mode & 0o077).toBe(0)
  })

  it('ends after its time, and when its person leaves', async () => {
    const page = await open()
    const [one, two] = [await entered(page), await entered(page)]
    await ask(page.app, 'DELETE', '/dashboard/session', undefined, one)
    expect((await ask(page.app, 'GET', '/dashboard/session', undefined, one)).status).toBe(401)
    expect((await ask(page.app, 'GET', '/dashboard/session', undefined, two)).status).toBe(200)
    now += limit('dashboardSessionLifetime') + 1
    expect((await ask(page.app, 'GET', '/dashboard/session', undefined, two)).status).toBe(401)
  })

  it('does not help the page of another origin', async () => {
    const page = await open()
    const cookie = await entered(page)
    const foreign: Headers[] = [
      { ...cookie, 'sec-fetch-site': 'cross-site' },
      { ...cookie, 'sec-fetch-site': 'same-site' },
    ]
    for (const headers of foreign) {
      const response = await ask(page.app, 'POST', '/dashboard/commands/act', {}, headers)
      expect(await refusalOf(response)).toEqual([403, 'wrong_origin'])
    }
    const form = await page.app.request(
      `${ORIGIN}/dashboard/commands/act`,
      { method: 'POST', headers: { host: HOST, 'content-type': 'text/plain', ...cookie }, body: '{}' },
      {},
    )
    expect(await refusalOf(form)).toEqual([403, 'wrong_origin'])
  })

  it('of a reader may look and not act', async () => {
    const page = await open()
    const cookie = await entered(page, 'reader')
    const look = await ask(page.app, 'POST', '/dashboard/commands/look', { a: 1 }, cookie)
    expect(await look.json()).toEqual({ result: { looked: { a: 1 } } })
    const asks: [string, string, unknown?][] = [
      ['POST', '/dashboard/commands/act', {}],
      ['POST', '/dashboard/jobs', { command: 'train', request: {} }],
      ['DELETE', '/dashboard/jobs/x'],
    ]
    for (const [method, path, body] of asks)
      expect(await refusalOf(await ask(page.app, method, path, body, cookie))).toEqual([403, 'read_only'])
  })
})

describe('a page', () => {
  it('runs commands, and is told about unknown ones', async () => {
    const page = await open()
    const cookie = await entered(page)
    expect(await (await ask(page.app, 'POST', '/dashboard/commands/act', {}, cookie)).json()).toEqual({
      result: 'acted',
    })
    for (const name of ['nothing', 'constructor', '__proto__'])
      expect((await ask(page.app, 'POST', `/dashboard/commands/${name}`, {}, cookie)).status).toBe(404)
  })

  it('starts a command that goes on without it, sees its steps, and stops it', async () => {
    const page = await open()
    const cookie = await entered(page)
    const started = await ask(
      page.app,
      'POST',
      '/dashboard/jobs',
      { command: 'train', request: { name: 'a' } },
      cookie,
    )
    const { id } = (await started.json()) as { id: string }
    const list = async (): Promise<unknown[]> =>
      (
        (await (await ask(page.app, 'GET', '/dashboard/jobs', undefined, cookie)).json()) as {
          jobs: unknown[]
        }
      ).jobs
    expect(await list()).toMatchObject([
      {
        command: 'train',
        request: { name: 'a' },
        state: 'running',
        stages: { plan: { bytes: 3 }, step: { loss: 2 } },
        points: [{ step: 1, loss: 2 }],
      },
    ])
    await ask(page.app, 'DELETE', `/dashboard/jobs/${id}`, undefined, cookie)
    expect(await list()).toMatchObject([{ state: 'stopped' }])
  })

  it('gets answers as the API gives them', async () => {
    const page = await open()
    const cookie = await entered(page)
    const request = { model: 'flexmesh', prompt: 'Hello', max_tokens: 2, token_shares: true }
    const answer = await ask(page.app, 'POST', '/dashboard/v1/completions', request, cookie)
    expect(await answer.json()).toMatchObject({
      choices: [{ text: 'The quick ' }],
      flexmesh: { tokens: [{ text: 'The ', shares: [0.25, 0.75] }, { text: 'quick ' }] },
    })
  })

  it('that connects again gets the events that it has missed, each once', async () => {
    const page = await open()
    const cookie = await entered(page)
    for (const event of ['one', 'two']) page.dashboard.add({ event })
    const read = async (last: Headers, count: number): Promise<{ id: string; event: string }[]> => {
      const abort = new AbortController()
      const response = await page.app.request(
        `${ORIGIN}/dashboard/events`,
        { headers: { ...OWN, ...cookie, ...last }, signal: abort.signal },
        {},
      )
      const found: { id: string; event: string }[] = []
      let text = ''
      for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        text += Buffer.from(bytes).toString()
        found.length = 0
        for (const [, id = '', data = '{}'] of text.matchAll(/id: (\S+)\ndata: (.+)\n\n/g))
          found.push({ id, event: (JSON.parse(data) as { event: string }).event })
        if (found.length >= count) break
      }
      abort.abort()
      return found
    }
    const first = await read({}, 2)
    expect(first.map(({ event }) => event)).toEqual(['one', 'two'])
    page.dashboard.add({ event: 'three' })
    const again = await read({ 'last-event-id': first[1]?.id ?? '' }, 1)
    expect(again.map(({ event }) => event)).toEqual(['three'])
    const afterRestart = await read({ 'last-event-id': 'other-2' }, 3)
    expect(afterRestart.map(({ event }) => event)).toEqual(['one', 'two', 'three'])
  })
})
