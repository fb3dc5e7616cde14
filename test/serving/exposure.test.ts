/** The API for other machines: which options open it, who may connect, and what needs a key there. */
import '../../src/lib/node20.ts'
import { readFile, writeFile } from 'node:fs/promises'
import { request as plainRequest } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { type ExposureOptions, parseExposure } from '../../src/serving/exposure.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { type RunningServer, startServer } from '../../src/serving/server.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { backendOf, fixedEngine } from '../support/inference-api.ts'

const TLS = fileURLToPath(new URL('../fixtures/tls/', import.meta.url))
const tlsCert = join(TLS, 'cert.pem')
const tlsKey = join(TLS, 'key.pem')
const KEY = 'k'.repeat(32)
const NAME = 'llm.example.org'

const servers: RunningServer[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})
afterAll(cleanUp)

describe('options that would open the API are refused', () => {
  it.each<[string, ExposureOptions, string]>([
    ['without TLS', { listenApi: '0.0.0.0', allowedHosts: [NAME] }, 'other machines could read prompts'],
    [
      'without TLS on one address',
      { listenApi: '10.0.0.5:443' },
      'give --tls-cert and --tls-key, or --trusted-proxy',
    ],
    ['without a key', { listenApi: '0.0.0.0', tlsCert }, '--tls-cert and --tls-key belong together'],
    ['without a certificate', { listenApi: '0.0.0.0', tlsKey }, '--tls-cert and --tls-key belong together'],
    ['without an address', { tlsCert, tlsKey }, '--tls-cert needs --listen-api'],
    [
      'for a proxy without an address',
      { trustedProxies: ['10.0.0.5'] },
      '--trusted-proxy needs --listen-api',
    ],
    ['on every address without a name', { listenApi: '[::]:8443', tlsCert, tlsKey }, 'give --allowed-host'],
    ['on a name', { listenApi: 'example.org', tlsCert, tlsKey }, '--listen-api: expected an IP address'],
    ['on no port', { listenApi: '10.0.0.5:x', tlsCert, tlsKey }, '--listen-api: expected an IP address'],
    ['on a port out of range', { listenApi: '10.0.0.5:65536', tlsCert, tlsKey }, '--listen-api: expected'],
    [
      'for everybody as a proxy',
      { listenApi: '10.0.0.5', trustedProxies: ['0.0.0.0/0'] },
      '--trusted-proxy: expected',
    ],
    [
      'for a proxy by name',
      { listenApi: '10.0.0.5', trustedProxies: ['proxy'] },
      '--trusted-proxy: expected',
    ],
    [
      'for a wrong block',
      { listenApi: '10.0.0.5', trustedProxies: ['10.0.0.0/33'] },
      '--trusted-proxy: expected',
    ],
    ['under a name with a port', { allowedHosts: [`${NAME}:443`] }, '--allowed-host: expected a name'],
    ['under a URL', { allowedHosts: [`https://${NAME}`] }, '--allowed-host: expected a name'],
    ['under a pattern', { allowedHosts: ['*.example.org'] }, '--allowed-host: expected a name'],
    ['with a missing file', { listenApi: '10.0.0.5', tlsCert: '/missing', tlsKey }, '/missing'],
    ['with files that were swapped', { listenApi: '10.0.0.5', tlsCert: tlsKey, tlsKey: tlsCert }, 'in PEM'],
  ])('%s', async (_, options, message) => {
    await expect(parseExposure(options)).rejects.toThrow(message)
  })

  it('with a certificate that is damaged', async () => {
    const broken = join(await folder(), 'cert.pem')
    await writeFile(broken, (await readFile(tlsCert, 'utf8')).slice(0, 200))
    await expect(parseExposure({ listenApi: '10.0.0.5', tlsCert: broken, tlsKey })).rejects.toThrow(
      `--tls-cert ${broken} and --tls-key ${tlsKey}: expected a certificate and its key in PEM`,
    )
  })
})

describe('options that open the API', () => {
  it.each<[string, ExposureOptions, object | undefined, string[]]>([
    ['no options', {}, undefined, []],
    ['a proxy on this machine', { allowedHosts: ['LLM.Example.org.'] }, undefined, [NAME]],
    [
      'TLS on one address',
      { listenApi: '10.0.0.5', tlsCert, tlsKey },
      { host: '10.0.0.5', port: 8443 },
      ['10.0.0.5'],
    ],
    [
      'a proxy on another machine',
      { listenApi: '[::]:80', trustedProxies: ['10.0.0.0/24'], allowedHosts: [NAME] },
      { host: '::', port: 80 },
      [NAME],
    ],
    [
      'loopback without TLS',
      { listenApi: '127.0.0.1:9000' },
      { host: '127.0.0.1', port: 9000 },
      ['127.0.0.1'],
    ],
  ])('%s', async (_, options, listener, hosts) => {
    const exposure = await parseExposure(options)
    expect(exposure.hosts).toEqual(hosts)
    if (listener === undefined) expect(exposure.listener).toBe(undefined)
    else expect(exposure.listener).toMatchObject(listener)
  })

  it('admit the listed proxies only, also where their addresses have the form of IPv6', async () => {
    const trustedProxies = ['10.0.0.0/24', '192.168.1.1', 'fd00::/8']
    const { listener } = await parseExposure({ listenApi: '10.1.0.1', trustedProxies })
    const admitted = ['10.0.0.7', '::ffff:10.0.0.7', '192.168.1.1', 'fd12::1']
    const others = ['10.0.1.7', '::ffff:10.0.1.7', '192.168.1.2', '::1', '127.0.0.1', '']
    expect(admitted.map((address) => listener?.isClient(address))).toEqual(admitted.map(() => true))
    expect(others.map((address) => listener?.isClient(address))).toEqual(others.map(() => false))
  })
})

/** Starts the API on a free port of this machine as other machines would reach it, and on loopback. */
async function open(options: ExposureOptions): Promise<{ outside: RunningServer; local: RunningServer }> {
  const { hosts, listener } = await parseExposure({ ...options, listenApi: '127.0.0.1:0' })
  let port = 0
  const app = createApp({
    backendFor: () => backendOf(fixedEngine()),
    callers: fixedCallers([KEY]),
    isOwnHost: (host) => isLoopbackHost(host, port),
    outsideHosts: hosts,
    now: () => 0,
    metrics: new Metrics({
      version: '1',
      state: async () => ({
        membersConnected: 0,
        membersAway: 0,
        packages: {},
        freeBytes: 0,
        attention: { bad: 0, warn: 0 },
      }),
    }),
    origins: ['https://a.example'],
    mount: (routes) => {
      routes.get('/', (c) => c.text('page'))
      routes.get('/dashboard/session', (c) => c.text('session'))
    },
  })
  const local = await startServer(app, 0)
  servers.push(local)
  port = local.port
  const outside = await startServer(app, 0, undefined, undefined, listener)
  servers.push(outside)
  return { outside, local }
}

interface Asked {
  readonly port: number
  readonly path: string
  readonly method?: string
  readonly host?: string
  readonly key?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly isPlain?: boolean
}

/** Status of an answer, over TLS unless `isPlain`. */
async function status({
  port,
  path,
  method = 'GET',
  host = NAME,
  key,
  headers,
  isPlain,
}: Asked): Promise<number> {
  const options = {
    port,
    path,
    method,
    agent: false,
    headers: { host, ...headers, ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
  }
  const ca = await readFile(tlsCert)
  return new Promise((resolve, reject) => {
    const asked =
      isPlain === true
        ? plainRequest({ ...options, host: '127.0.0.1' })
        : tlsRequest({ ...options, host: '127.0.0.1', servername: 'localhost', ca })
    asked.on('response', (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    asked.on('error', reject)
    asked.end()
  })
}

describe('the API for other machines', () => {
  const ROUTES = [
    ['GET', '/v1/models'],
    ['GET', '/v1/models/flexmesh'],
    ['POST', '/v1/completions'],
    ['POST', '/v1/chat/completions'],
    ['GET', '/healthz'],
    ['GET', '/readyz'],
    ['GET', '/metrics'],
    ['GET', '/api/version'],
    ['GET', '/'],
    ['GET', '/dashboard/session'],
    ['GET', '/unknown'],
  ] as const

  it('answers no route without a key', async () => {
    const { outside } = await open({ tlsCert, tlsKey, allowedHosts: [NAME] })
    for (const [method, path] of ROUTES) {
      for (const key of [undefined, 'wrong'])
        expect([path, await status({ port: outside.port, method, path, ...(key && { key }) })]).toEqual([
          path,
          401,
        ])
    }
  })

  it('answers its routes with a key, and has no dashboard', async () => {
    const { outside } = await open({ tlsCert, tlsKey, allowedHosts: [NAME] })
    const found: Record<string, number> = {}
    for (const [method, path] of ROUTES.filter(([one]) => one === 'GET'))
      found[path] = await status({ port: outside.port, method, path, key: KEY })
    expect(found).toEqual({
      '/v1/models': 200,
      '/v1/models/flexmesh': 200,
      '/healthz': 200,
      '/readyz': 200,
      '/metrics': 200,
      '/api/version': 200,
      '/': 404,
      '/dashboard/session': 404,
      '/unknown': 404,
    })
  })

  it('answers under its own names only', async () => {
    const { outside } = await open({ tlsCert, tlsKey, allowedHosts: [NAME] })
    const ask = (host: string) => status({ port: outside.port, path: '/v1/models', host, key: KEY })
    for (const host of [NAME, `${NAME}:443`, 'LLM.example.org', `127.0.0.1:${outside.port}`])
      expect([host, await ask(host)]).toEqual([host, 200])
    for (const host of ['evil.example', 'localhost', `a.${NAME}`])
      expect([host, await ask(host)]).toEqual([host, 403])
  })

  it('speaks TLS only, if it has a certificate', async () => {
    const { outside } = await open({ tlsCert, tlsKey, allowedHosts: [NAME] })
    await expect(status({ port: outside.port, path: '/healthz', isPlain: true })).rejects.toThrow()
  })

  it('answers preflights of listed origins, which have no key', async () => {
    const { outside } = await open({ tlsCert, tlsKey, allowedHosts: [NAME] })
    const ask = (origin: string) =>
      status({ port: outside.port, path: '/v1/models', method: 'OPTIONS', headers: { origin } })
    expect([await ask('https://a.example'), await ask('https://b.example')]).toEqual([204, 401])
  })

  it('closes connections that do not come from a listed proxy', async () => {
    const listed = await open({ trustedProxies: ['127.0.0.0/8'], allowedHosts: [NAME] })
    const asked = { path: '/v1/models', key: KEY, isPlain: true }
    expect(await status({ ...asked, port: listed.outside.port })).toBe(200)
    const others = await open({ trustedProxies: ['10.0.0.0/24'], allowedHosts: [NAME] })
    await expect(status({ ...asked, port: others.outside.port })).rejects.toThrow()
  })
})

it('a proxy on this machine that passes the name on gets the same rules', async () => {
  const { local } = await open({ allowedHosts: [NAME] })
  const ask = (path: string, host: string, key?: string) =>
    status({ port: local.port, path, host, isPlain: true, ...(key === undefined ? {} : { key }) })
  expect(await ask('/healthz', NAME)).toBe(401)
  expect(await ask('/healthz', NAME, KEY)).toBe(200)
  expect(await ask('/', NAME, KEY)).toBe(404)
  expect(await ask('/healthz', `127.0.0.1:${local.port}`)).toBe(200)
  expect(await ask('/', `127.0.0.1:${local.port}`)).toBe(200)
  expect(await ask('/healthz', 'other.example')).toBe(403)
})
