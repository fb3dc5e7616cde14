/** Pages of other origins at the API. */
import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { type Api, createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { parseOrigin } from '../../src/serving/cors.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { backendOf, fixedEngine, post } from '../support/inference-api.ts'

const LISTED = 'https://chat.example.org'
const OTHERS = [
  'https://evil.example',
  'http://chat.example.org',
  `${LISTED}:8443`,
  `${LISTED}.evil.example`,
  'null',
]
const ROUTES = ['/v1/completions', '/v1/chat/completions', '/v1/models', '/tokenize', '/api/tags']

function serve(origins?: readonly string[]): Api {
  return createApp({
    backendFor: () => backendOf(fixedEngine()),
    callers: fixedCallers(['k'.repeat(32)]),
    isOwnHost: (host) => isLoopbackHost(host, 8080),
    now: () => 0,
    mount: (app) => app.get('/dashboard/page', (c) => c.text('page')),
    ...(origins === undefined ? {} : { origins }),
  })
}

function preflight(app: Api, path: string, origin: string, host = '127.0.0.1:8080') {
  const headers = {
    host,
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization,content-type,x-stainless-lang',
  }
  return app.request(`http://127.0.0.1:8080${path}`, { method: 'OPTIONS', headers }, {})
}
const allowed = ({ headers }: Response): string | null => headers.get('access-control-allow-origin')

describe('a page of a listed origin', () => {
  it('gets answers to preflights, without a key', async () => {
    const app = serve([LISTED])
    for (const path of ROUTES) {
      const response = await preflight(app, path, LISTED)
      expect([path, response.status, allowed(response)]).toEqual([path, 204, LISTED])
      expect(response.headers.get('access-control-allow-headers')).toContain('authorization')
      expect(response.headers.get('access-control-allow-methods')).toBe('GET,POST')
      expect(response.headers.get('access-control-allow-credentials')).toBeNull()
      expect(response.headers.get('vary')).toContain('Origin')
    }
  })

  it('may read answers, streams and refusals', async () => {
    const app = serve(['https://a.example', LISTED])
    const headers = { origin: LISTED }
    const answers = [
      await post(app, { prompt: 'Hi' }, { headers }),
      await post(app, { prompt: 'Hi', stream: true }, { headers }),
      await post(app, { prompt: 'Hi', n: 0 }, { headers }),
      await post(app, { prompt: 'Hi' }, { headers: { ...headers, authorization: '' } }),
    ]
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 400, 401])
    for (const answer of answers) {
      expect(allowed(answer)).toBe(LISTED)
      expect(answer.headers.get('access-control-expose-headers')).toContain('X-Request-Id')
      expect(answer.headers.get('x-request-id')).not.toBeNull()
    }
  })

  it('has no access to the dashboard and under another host', async () => {
    const app = serve([LISTED])
    expect(allowed(await preflight(app, '/dashboard/page', LISTED))).toBeNull()
    const elsewhere = await preflight(app, '/v1/models', LISTED, 'evil.example')
    expect([elsewhere.status, allowed(elsewhere)]).toEqual([403, null])
  })
})

describe('a page of another origin', () => {
  it.each(OTHERS)('is not allowed: %s', async (origin) => {
    const app = serve([LISTED])
    for (const path of ROUTES) {
      const response = await preflight(app, path, origin)
      expect([path, response.status, allowed(response)]).toEqual([path, 401, null])
    }
    const answer = await post(app, { prompt: 'Hi' }, { headers: { origin } })
    expect([allowed(answer), answer.headers.get('vary')]).toEqual([null, 'Origin'])
  })

  it('is not allowed if no origin is listed', async () => {
    for (const app of [serve(), serve([])]) {
      expect((await preflight(app, '/v1/completions', LISTED)).status).toBe(401)
      expect(allowed(await post(app, { prompt: 'Hi' }, { headers: { origin: LISTED } }))).toBeNull()
    }
  })
})

describe('an origin', () => {
  it.each([LISTED, 'http://localhost:3000', 'https://[::1]:8443'])('is accepted: %s', (text) => {
    expect(parseOrigin(text)).toBe(text)
  })

  it.each([
    '*',
    'null',
    '',
    'chat.example.org',
    `${LISTED}/`,
    `${LISTED}:443`,
    'https://Chat.example.org',
    'https://*.example.org',
    'https://user@chat.example.org',
    'file:///home',
    'ftp://chat.example.org',
  ])('is refused: %s', (text) => {
    expect(() => parseOrigin(text)).toThrow(/^--allow-origin: expected an origin/)
  })
})
