import '../../src/lib/node20.ts'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/lib/bytes.ts'
import { type Api, createApp } from '../../src/serving/app.ts'
import { KeptCallers } from '../../src/serving/callers.ts'
import { type ApiKey, createApiKey, revokeApiKey } from '../../src/store/api-keys.ts'
import { ApiUsage, readApiUsage } from '../../src/store/api-usage.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { backendOf, CHARACTERS, fixedEngine, refusalOf } from '../support/inference-api.ts'

const HOST = '127.0.0.1:8080'
const OPERATOR = 'fm-operator'
const DAY = 86_400
/** Noon in UTC. */
const NOON = 20_000 * DAY + DAY / 2
/** Every route that answers only to a key, with a body that would be answered. */
const ROUTES: readonly (readonly [method: string, path: string, body?: object])[] = [
  ['GET', '/v1/models'],
  ['GET', '/v1/models/flexmesh'],
  ['GET', '/v1/anything'],
  ['GET', '/metrics'],
  ['GET', '/api/tags'],
  ['POST', '/api/show', {}],
  ['POST', '/tokenize', { prompt: 'Hello' }],
  ['POST', '/detokenize', { tokens: [72] }],
  ['POST', '/v1/embeddings', { input: 'Hello' }],
  ['POST', '/v1/responses', { input: 'Hello', max_output_tokens: 2 }],
  ['POST', '/v1/responses', { input: 'Hello', stream: true }],
  ['POST', '/v1/completions', { prompt: 'Hello', max_tokens: 2 }],
  ['POST', '/v1/completions', { prompt: 'Hello', max_tokens: 2, stream: true }],
  ['POST', '/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 }],
  ['POST', '/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }], stream: true }],
]

let dir: string
let now: number
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flexmesh-keys-'))
  now = NOON
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const keysFile = (): string => join(dir, 'api-keys.json')
const create = (name: string, more: Partial<ApiKey> = {}): Promise<string> =>
  createApiKey(keysFile(), now, { name, ...more })

/** Routes that name the model of an expert, or its institution, with a body that would be answered. */
const OTHERS = 'flexmesh/Beta/medicine'
const NAMING: typeof ROUTES = [
  ['GET', `/v1/models/${OTHERS}`],
  ['GET', `/v1/models/${encodeURIComponent(OTHERS)}`],
  ['POST', '/api/show', { model: OTHERS }],
  ['POST', '/tokenize', { prompt: 'Hello', model: OTHERS }],
  ['POST', '/detokenize', { tokens: [72], model: OTHERS }],
  ...['/v1/completions', '/v1/chat/completions'].flatMap((path) =>
    [
      { model: OTHERS },
      { experts: { include: ['Beta'] } },
      { experts: { include: ['medicine', 'Alpha'] } },
    ].flatMap((naming) =>
      [false, true].map((stream) => {
        const prompt = path.includes('chat')
          ? { messages: [{ role: 'user', content: 'Hi' }] }
          : { prompt: 'Hi' }
        return ['POST', path, { ...prompt, ...naming, stream, max_tokens: 2 }] as const
      }),
    ),
  ),
]

async function open(): Promise<{ app: Api; usage: ApiUsage; includes: unknown[] }> {
  const usage = await ApiUsage.open(join(dir, 'usage.json'))
  const includes: unknown[] = []
  const engine = fixedEngine({
    experts: [
      { institution: 'public model', expert: 'public' },
      { institution: 'Alpha', expert: 'law' },
      { institution: 'Beta', expert: 'medicine' },
    ],
    stated: [
      { institution: 'public model', expert: 'public' },
      { institution: 'Alpha', expert: 'law', package: digestOf(Uint8Array.of(1)) },
      { institution: 'Beta', expert: 'medicine', package: digestOf(Uint8Array.of(2)) },
    ],
    checkSelection: ({ include }) => void includes.push(include),
  })
  const app = createApp({
    backendFor: () => backendOf(engine),
    callers: new KeptCallers({ operatorKey: OPERATOR, path: keysFile(), usage, now: () => now }),
    isOwnHost: (host) => host === HOST,
    now: () => now,
    tokenization: {
      prompts: {
        longestToken: 1,
        vocabularySize: 256,
        turnEnds: [],
        encode: async () => Int32Array.of(0, 72),
      },
      vocabulary: CHARACTERS,
      contextLength: 32,
    },
    metrics: new Metrics({ version: '0', state: () => Promise.reject(new Error('not asked')) }),
  })
  return { app, usage, includes }
}

function ask(app: Api, key: string | undefined, [method, path, body]: (typeof ROUTES)[number]) {
  const headers = {
    host: HOST,
    'content-type': 'application/json',
    ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
  }
  const init = {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify({ model: 'flexmesh', ...body }) }),
  }
  return Promise.resolve(app.request(`http://${HOST}${path}`, init, {}))
}
const complete = (app: Api, key: string, more: object = {}): Promise<Response> =>
  ask(app, key, ['POST', '/v1/completions', { prompt: 'Hello', max_tokens: 2, ...more }])

describe('every route with a key that is', () => {
  const refused: readonly (readonly [string, () => Promise<string | undefined>, number])[] = [
    ['missing', async () => undefined, 401],
    ['empty', async () => ' ', 401],
    ['wrong', async () => `fm-${'0'.repeat(48)}`, 401],
    [
      'the digest of a valid one',
      async () => {
        await create('a')
        return /"hash":"([0-9a-f]+)"/.exec(await readFile(keysFile(), 'utf8'))?.[1]
      },
      401,
    ],
    [
      'expired',
      async () => {
        const key = await create('a', { expiresAt: now + DAY })
        now += DAY
        return key
      },
      401,
    ],
    [
      'revoked',
      async () => {
        const key = await create('a')
        await revokeApiKey(keysFile(), 'a')
        return key
      },
      401,
    ],
  ]
  it.each(refused)('%s is refused', async (_, keyOf, status) => {
    const key = await keyOf()
    const { app } = await open()
    for (const route of ROUTES)
      expect([...route, (await ask(app, key, route)).status]).toEqual([...route, status])
  })

  it('over its quota is refused until midnight UTC', async () => {
    const key = await create('a', { tokensPerDay: 16 })
    const { app } = await open()
    expect((await complete(app, key)).status).toBe(200) // 6 tokens of the prompt and 2 of the answer.
    expect((await complete(app, key)).status).toBe(200)
    for (const route of ROUTES) {
      const response = await ask(app, key, route)
      expect([...route, ...(await refusalOf(response))]).toEqual([...route, 429, 'quota_exceeded'])
      expect(response.headers.get('retry-after')).toBe(String(DAY / 2))
    }
    expect((await complete(app, OPERATOR)).status).toBe(200)
    now += DAY / 2
    expect((await complete(app, key)).status).toBe(200)
  })
})

describe('a key', () => {
  it('that is revoked while the node runs ends at once, and a new one begins at once', async () => {
    const { app } = await open()
    const first = await create('first')
    expect((await complete(app, first)).status).toBe(200)
    await revokeApiKey(keysFile(), 'first')
    expect((await complete(app, first)).status).toBe(401)
    expect((await complete(app, await create('second'))).status).toBe(200)
  })

  it('is on disk as a digest, readable by its owner only', async () => {
    const key = await create('a')
    expect(await readFile(keysFile(), 'utf8')).not.toContain(key)
    expect((await stat(keysFile())).mode & 0o077).toBe(0)
  })

  it.each([
    ['a name that is taken', 'a', 'exists'],
    ['an empty name', '', 'usage'],
    ['a name with a space', 'a b', 'usage'],
    ['a path', '../a', 'usage'],
  ])('cannot have %s', async (_, name, code) => {
    await create('a')
    await expect(create(name)).rejects.toMatchObject({ code })
  })
})

describe('a key for some experts', () => {
  it('answers with these only', async () => {
    const { app, includes } = await open()
    expect((await complete(app, await create('a', { experts: ['Alpha'] }))).status).toBe(200)
    expect(new Set(includes.map((include) => JSON.stringify(include)))).toEqual(new Set(['["Alpha"]']))
  })

  it.each([
    ['another institution', { include: ['Beta'] }],
    ['another expert beside its own', { include: ['Alpha', 'medicine'] }],
    ['a package by its digest', { include: [`sha256:${'a'.repeat(64)}`] }],
  ])('may not name %s', async (_, experts) => {
    const { app } = await open()
    const key = await create('a', { experts: ['Alpha'] })
    for (const stream of [false, true]) {
      const response = await complete(app, key, { experts, stream })
      expect(await refusalOf(response)).toEqual([403, 'expert_not_allowed'])
    }
  })

  it.each(NAMING.map((route) => ({ route })))(
    'gets no answer from an expert of another institution: $route',
    async ({ route }) => {
      const { app, includes } = await open()
      const key = await create('a', { experts: ['Alpha'] })
      expect([403, 404]).toContain((await ask(app, key, route)).status)
      // The same request of the operator is answered.
      expect((await ask(app, OPERATOR, route)).status).toBe(200)
      expect(includes.length > 0).toBe(route[1].includes('completions'))
    },
  )

  it('answers with the public model when its expert is not in use any more', async () => {
    const { app, includes } = await open()
    expect((await complete(app, await create('a', { experts: ['Gamma'] }))).status).toBe(200)
    expect(includes).toContainEqual([])
  })
})

describe('what the API has served', () => {
  it('is read from a file of an earlier version, which does not split it by institution', async () => {
    const day = { day: '2026-11-28', key: 'library', requests: 1, promptTokens: 6, generatedTokens: 2 }
    await writeFile(join(dir, 'usage.json'), JSON.stringify({ days: [day] }))
    expect(await readApiUsage(join(dir, 'usage.json'))).toEqual([{ ...day, carried: [] }])
  })

  it('is counted by key and day, and kept over a restart', async () => {
    const first = await open()
    const key = await create('library')
    await complete(first.app, key)
    await complete(first.app, OPERATOR)
    now += DAY
    await (await complete(first.app, key, { stream: true })).text()
    await first.usage.flush(now)
    const { usage } = await open()
    expect([
      usage.tokens(NOON, 'library'),
      usage.tokens(NOON, 'operator'),
      usage.tokens(now, 'library'),
    ]).toEqual([8, 8, 8])
    // The public model carries a quarter of each token, and Alpha the rest.
    const carried = [
      { institution: 'public model', tokens: 0.5 },
      { institution: 'Alpha', tokens: 1.5 },
    ]
    expect((await readApiUsage(join(dir, 'usage.json'))).map((entry) => entry.carried)).toEqual([
      carried,
      carried,
      carried,
    ])
    const text = await readFile(join(dir, 'usage.json'), 'utf8')
    for (const secret of ['Hello', key, 'quick']) expect(text).not.toContain(secret)
  })
})
