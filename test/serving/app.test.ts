import { describe, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { createApp, type ServingEngine } from '../../src/serving/app.ts'
import type { InferenceRequest } from '../../src/serving/openai.ts'
import { Queue, QueueFullError } from '../../src/serving/queue.ts'

const KEY = 'k'.repeat(32)
const HOST = '127.0.0.1:8080'
const WORDS = ['The ', 'quick ', 'brown ', 'fox ', 'END', ' jumps']

/** An engine that says six words; each is carried by the second expert by three quarters. */
function engine(seen: InferenceRequest[] = [], gate?: Promise<void>): ServingEngine {
  return {
    servedBy: 'node',
    composition: `sha256:${'a'.repeat(64)}`,
    experts: [
      { institution: 'public model', expert: 'public' },
      { institution: 'Alpha', expert: 'law' },
    ],
    contextLength: 32,
    countTokens: (text) => text.length,
    checkSelection: () => undefined,
    generate: async function* (request) {
      seen.push(request)
      await gate
      for (const text of WORDS.slice(0, request.maxTokens))
        yield { text, shares: Float32Array.of(0.25, 0.75) }
    },
  }
}

function app(of: ServingEngine = engine()) {
  return createApp({ engine: () => of, apiKeys: [KEY], allowedHosts: () => [HOST], now: () => 1_800_000_000 })
}

const post = (body: unknown, path = '/v1/completions', headers: Record<string, string> = {}, to = app()) =>
  to.request(`http://${HOST}${path}`, {
    method: 'POST',
    headers: { host: HOST, authorization: `Bearer ${KEY}`, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
const ask = { model: 'flexmesh', prompt: 'Hello' }
const codeOf = async (response: Response | Promise<Response>): Promise<[number, string]> => {
  const found = await response
  return [found.status, ((await found.json()) as { error: { code: string } }).error.code]
}

describe('the inference API', () => {
  it('completes, counts, and says who carried the answer', async () => {
    const response = await post({ ...ask, max_tokens: 3 })
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      object: 'text_completion',
      choices: [{ text: 'The quick brown ', finish_reason: 'length' }],
      usage: { prompt_tokens: 6, completion_tokens: 3, total_tokens: 9 },
      flexmesh: {
        experts: [
          { institution: 'public model', share: 0.25 },
          { institution: 'Alpha', share: 0.75 },
        ],
      },
    })
  })

  it('answers chats by the template', async () => {
    const seen: InferenceRequest[] = []
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hi' },
    ]
    const response = await post(
      { model: 'flexmesh', messages },
      '/v1/chat/completions',
      {},
      createApp({
        engine: () => ({ ...engine(seen), contextLength: 512 }),
        apiKeys: [KEY],
        allowedHosts: () => [HOST],
        now: () => 0,
      }),
    )
    expect(await response.json()).toMatchObject({
      choices: [{ message: { role: 'assistant' }, finish_reason: 'stop' }],
    })
    expect(seen[0]?.prompt).toBe('System: Be brief.\nUser: Hi\nAssistant:')
  })

  it('stops before a stop sequence, even one that comes in pieces', async () => {
    const text = async (stop: string): Promise<string> =>
      ((await (await post({ ...ask, stop })).json()) as { choices: { text: string }[] }).choices[0]?.text ??
      ''
    expect(await text('END')).toBe('The quick brown fox ')
    expect(await text('n fox')).toBe('The quick brow')
    expect(await text('nothing like it')).toBe(WORDS.join(''))
  })

  it('streams pieces, attribution, usage and an end', async () => {
    const response = await post({ ...ask, stream: true, stream_options: { include_usage: true } })
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const events = (await response.text())
      .split('\n\n')
      .filter(Boolean)
      .map((event) => event.replace('data: ', ''))
    expect(events.at(-1)).toBe('[DONE]')
    const chunks = events.slice(0, -1).map(
      (event) =>
        JSON.parse(event) as {
          choices: { text?: string; finish_reason: string | null }[]
          usage?: unknown
          flexmesh?: unknown
        },
    )
    expect(chunks.flatMap(({ choices }) => choices.map(({ text }) => text)).join('')).toBe(WORDS.join(''))
    expect(chunks.at(-1)?.usage).toEqual({ prompt_tokens: 6, completion_tokens: 6, total_tokens: 12 })
    expect(chunks.at(-2)).toMatchObject({
      choices: [{ finish_reason: 'stop' }],
      flexmesh: { experts: [{}, {}] },
    })
  })

  it('lists its one model', async () => {
    const response = await app().request(`http://${HOST}/v1/models`, {
      headers: { host: HOST, authorization: `Bearer ${KEY}` },
    })
    expect(await response.json()).toMatchObject({
      data: [{ id: 'flexmesh', flexmesh: { experts: [{}, { institution: 'Alpha' }] } }],
    })
  })

  it.each([
    ['no key', 401, 'invalid_api_key', post(ask, undefined, { authorization: '' })],
    [
      'another key',
      401,
      'invalid_api_key',
      post(ask, undefined, { authorization: `Bearer ${'x'.repeat(32)}` }),
    ],
    ['another host', 403, 'host_not_allowed', post(ask, undefined, { host: 'evil.example' })],
    ['another path', 404, 'not_found', post(ask, '/v1/embeddings')],
    ['another model', 404, 'model_not_found', post({ ...ask, model: 'gpt' })],
    [
      'a form',
      415,
      'bad_content_type',
      post('a=b', undefined, { 'content-type': 'application/x-www-form-urlencoded' }),
    ],
    ['no JSON', 400, 'not-json', post('{')],
    ['a field that is not supported', 400, 'bad-field', post({ ...ask, logit_bias: {} })],
    ['a prompt that is too long', 400, 'context_length_exceeded', post({ ...ask, prompt: 'x'.repeat(40) })],
    [
      'a body that is too large',
      413,
      'body_too_large',
      post({ ...ask, prompt: 'x'.repeat(limit('bodyBytes')) }),
    ],
  ] as const)('refuses %s: %s %s', async (_, status, code, response) => {
    expect(await codeOf(response)).toEqual([status, code])
  })

  it('tells those who come too late to a full queue to try again', async () => {
    let open: () => void = () => undefined
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    const busy = app(engine([], gate))
    const places = limit('servedStreams') + limit('queuedRequests')
    const waiting = Array.from({ length: places }, () => post(ask, undefined, {}, busy))
    expect(await codeOf(post(ask, undefined, {}, busy))).toEqual([429, 'queue_full'])
    open()
    for (const response of await Promise.all(waiting)) expect(response.status).toBe(200)
  })
})

describe('the queue', () => {
  it('serves in order and forgets only the one that gave up', async () => {
    const queue = new Queue(1, 3)
    const order: string[] = []
    const first = await queue.enter(AbortSignal.timeout(10_000))
    const leaver = new AbortController()
    const enter = (name: string, signal: AbortSignal): Promise<void> =>
      queue.enter(signal).then((release) => {
        order.push(name)
        release()
      })
    const gone = enter('gone', leaver.signal)
    const second = enter('second', AbortSignal.timeout(10_000))
    const third = enter('third', AbortSignal.timeout(10_000))
    await expect(queue.enter(AbortSignal.timeout(10_000))).rejects.toBeInstanceOf(QueueFullError)
    leaver.abort()
    await expect(gone).rejects.toBeDefined()
    first()
    await Promise.all([second, third])
    expect(order).toEqual(['second', 'third'])
  })
})
