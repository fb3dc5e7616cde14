import '../../src/lib/node20.ts'
import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { InputError } from '../../src/lib/errors.ts'
import { limit } from '../../src/lib/limits.ts'
import { type ServingEngine, ServingError } from '../../src/serving/engine.ts'
import type { InferenceRequest, Prompt } from '../../src/serving/openai.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'
import {
  ACCESS,
  appOf,
  backendOf,
  eventsOf,
  fixedEngine,
  getModels,
  post,
  refusalOf,
  WORDS,
} from '../support/inference-api.ts'

const ask = { prompt: 'Hello' }

/** An app whose engine differs from the fixed one. */
const appWith = (change: Partial<ServingEngine>, log?: Log) => appOf(backendOf(fixedEngine(change)), log)

describe('the inference API', () => {
  it('completes a prompt, counts tokens, and states the share of each expert', async () => {
    const response = await post(appOf(), { ...ask, max_tokens: 3 })
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      object: 'text_completion',
      choices: [{ text: 'The quick brown ', finish_reason: 'length' }],
      usage: { prompt_tokens: 6, completion_tokens: 3, total_tokens: 9 },
      flexmesh: {
        served_by: 'node',
        experts: [
          { institution: 'public model', share: 0.25 },
          { institution: 'Alpha', share: 0.75 },
        ],
      },
    })
  })

  it.each([{ stream: true }, { stream: false }])(
    'listens to a request no longer than it takes: %j',
    async (more) => {
      const request = new Request(`http://${ACCESS.host}/v1/completions`, {
        method: 'POST',
        headers: { ...ACCESS, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'flexmesh', ...ask, ...more }),
      })
      const response = await appOf().request(request, undefined, {})
      expect(response.status).toBe(200)
      await response.text()
      expect(getEventListeners(request.signal, 'abort')).toEqual([])
    },
  )

  it('gives the messages of a chat to the engine', async () => {
    const prompts: Prompt[] = []
    const { encode } = fixedEngine()
    const app = appWith({
      contextLength: 512,
      encode: (prompt, signal) => {
        prompts.push(prompt)
        return encode(prompt, signal)
      },
    })
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hi' },
    ]
    const response = await post(app, { messages }, { path: '/v1/chat/completions' })
    expect(await response.json()).toMatchObject({
      choices: [{ message: { role: 'assistant' }, finish_reason: 'stop' }],
    })
    expect(prompts).toEqual([messages])
  })

  it.each([
    ['END', 'The quick brown fox '],
    ['n fox', 'The quick brow'],
    ['nothing like it', WORDS.join('')],
  ])('ends an answer before the stop sequence "%s", even if it spans tokens', async (stop, expected) => {
    const response = await post(appOf(), { ...ask, stop })
    expect(await response.json()).toMatchObject({ choices: [{ text: expected }] })
  })

  it('streams no half of a character, although a stop sequence holds text back', async () => {
    const generate = async function* () {
      for (const text of ['ab😀', '😀😀c', '😀']) yield { text }
    }
    const app = appWith({ generate })
    const response = await post(app, { ...ask, stop: 'xy', stream: true })
    const texts = eventsOf(await response.text())
      .slice(0, -1)
      .map((event) => (JSON.parse(event) as { choices: [{ text: string }] }).choices[0].text)
    expect(texts.filter((text) => /\p{Cs}/u.test(text))).toEqual([])
    expect(texts.join('')).toBe('ab😀😀😀c😀')
  })

  it('streams text, then attribution, usage and an end', async () => {
    const response = await post(appOf(), { ...ask, stream: true, stream_options: { include_usage: true } })
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const events = eventsOf(await response.text())
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
    expect(chunks.at(-1)?.usage).toMatchObject({ prompt_tokens: 6, completion_tokens: 6, total_tokens: 12 })
    expect(chunks.at(-2)).toMatchObject({
      choices: [{ finish_reason: 'stop' }],
      flexmesh: { experts: [{ share: 0.25 }, { share: 0.75 }] },
    })
  })

  it('refuses a selection of experts that it does not have, and names the member', async () => {
    const app = appWith({
      checkSelection: () => {
        throw new InputError('not-found', 'experts: "law" matches no expert')
      },
    })
    expect(await (await post(app, { ...ask, experts: { exclude: ['law'] } })).json()).toMatchObject({
      error: { code: 'not-found', param: 'experts' },
    })
  })

  it('lists its models, and gives one alone', async () => {
    const alpha = { institution: 'Alpha', privacy: { mechanism: 'none' } }
    const model = { id: 'flexmesh', object: 'model', flexmesh: { experts: [{}, alpha] } }
    expect(await (await getModels(appOf())).json()).toMatchObject({ object: 'list', data: [model, {}] })
    expect(await (await getModels(appOf(), 'flexmesh')).json()).toMatchObject(model)
    expect(await refusalOf(await getModels(appOf(), 'gpt-4o'))).toEqual([404, 'model_not_found'])
  })

  it('names the seed, the composition, and the members that had no effect', async () => {
    const body = await (await post(appOf(), { ...ask, seed: 7, user: 'u', n: 1, trace: 'b7' })).json()
    expect(body).toMatchObject({
      system_fingerprint: `sha256:${'a'.repeat(64)}`,
      flexmesh: { seed: 7, ignored: ['trace'] },
    })
    const plain = (await (await post(appOf(), ask)).json()) as { flexmesh: { seed: number } }
    expect(Number.isInteger(plain.flexmesh.seed)).toBe(true)
    expect(plain.flexmesh).not.toHaveProperty('ignored')
  })

  it('names the seed and the members that had no effect at the end of a stream', async () => {
    const response = await post(appOf(), { ...ask, stream: true, seed: 7, trace: 'b7' })
    const last = JSON.parse(eventsOf(await response.text()).at(-2) as string) as unknown
    expect(last).toMatchObject({ flexmesh: { seed: 7, ignored: ['trace'] } })
  })

  it('answers a request that has every member at its default', async () => {
    const defaults = {
      frequency_penalty: 0,
      presence_penalty: 0,
      logit_bias: {},
      logprobs: false,
      n: null,
      response_format: { type: 'text' },
      store: false,
      metadata: {},
      tools: [],
      seed: null,
      stop: null,
      stream_options: null,
    }
    const messages = [
      { role: 'developer', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
      { role: 'assistant', content: null },
      { role: 'user', content: 'Well?' },
    ]
    const response = await post(
      appWith({ contextLength: 512 }),
      { ...defaults, messages },
      { path: '/v1/chat/completions' },
    )
    const body = (await response.json()) as { flexmesh: object }
    expect([response.status, body.flexmesh]).toEqual([200, expect.not.objectContaining({ ignored: [] })])
    expect(body.flexmesh).not.toHaveProperty('ignored')
  })

  it('accepts the authentication scheme in any case', async () => {
    for (const scheme of ['bearer', 'BEARER', 'Bearer ']) {
      const headers = { authorization: `${scheme} ${'k'.repeat(32)}` }
      expect((await post(appOf(), ask, { headers })).status).toBe(200)
    }
  })

  it('gives every response an id of its own', async () => {
    const responses = [
      await post(appOf(), ask),
      await post(appOf(), { ...ask, stream: true }),
      await post(appOf(), ask, { headers: { authorization: '' } }),
      await post(appOf(), ask, { headers: { host: 'evil.example' } }),
      await post(appOf(), { ...ask, n: 2 }),
    ]
    const ids = responses.map(({ headers }) => headers.get('x-request-id'))
    for (const id of ids) expect(id).toMatch(/^req-[\da-f-]{36}$/)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it.each<[string, number, string, Parameters<typeof post>[1], Parameters<typeof post>[2]]>([
    ['no key', 401, 'invalid_api_key', ask, { headers: { authorization: '' } }],
    ['another key', 401, 'invalid_api_key', ask, { headers: { authorization: `Bearer ${'x'.repeat(32)}` } }],
    ['another host', 403, 'host_not_allowed', ask, { headers: { host: 'evil.example' } }],
    ['another path', 404, 'not_found', ask, { path: '/v1/images' }],
    ['another model', 404, 'model_not_found', { ...ask, model: 'gpt' }, {}],
    [
      'a form',
      415,
      'bad_content_type',
      'a=b',
      { headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    ],
    ['a body that is not JSON', 400, 'not-json', '{', {}],
    ['a field that is not supported', 400, 'bad-field', { ...ask, top_k: 5 }, {}],
    ['a prompt that is too long', 400, 'context_length_exceeded', { prompt: 'x'.repeat(40) }, {}],
    ['a body that is too large', 413, 'body_too_large', { prompt: 'x'.repeat(limit('bodyBytes')) }, {}],
  ])('refuses %s: %s %s', async (_, status, code, body, options) => {
    expect(await refusalOf(await post(appOf(), body, options))).toEqual([status, code])
  })

  it('names the authentication scheme when it refuses a key', async () => {
    const response = await post(appOf(), ask, { headers: { authorization: '' } })
    expect(response.headers.get('www-authenticate')).toBe('Bearer')
  })

  it('samples with a random seed unless the request has one', async () => {
    const seeds: number[] = []
    const app = appWith({
      generate: async function* ({ seed }: InferenceRequest) {
        seeds.push(seed)
        yield { text: 'x' }
      },
    })
    for (const seed of [7, 7, undefined, undefined, undefined]) await post(app, { ...ask, seed })
    expect(seeds.slice(0, 2)).toEqual([7, 7])
    expect(new Set(seeds.slice(2)).size).toBe(3)
  })

  it('asks a client to try again when the queue is full', async () => {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    const app = appWith({
      generate: async function* () {
        await gate
        yield { text: 'x' }
      },
    })
    const places = limit('servedStreams') + limit('queuedRequests')
    const waiting = Array.from({ length: places }, () => post(app, ask))
    const refused = await post(app, ask)
    expect(refused.headers.get('retry-after')).toBe('2')
    expect(await refusalOf(refused)).toEqual([429, 'queue_full'])
    expect(await refusalOf(await post(app, { ...ask, stream: true }))).toEqual([429, 'queue_full'])
    open()
    for (const response of await Promise.all(waiting)) expect(response.status).toBe(200)
  })
})

describe('a stream whose answer takes long', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  /** The API with an engine that waits for `open`, and then fails or says "late". */
  function slow(failure?: Error) {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    const app = appWith({
      generate: async function* () {
        await gate
        if (failure !== undefined) throw failure
        yield { text: 'late' }
      },
    })
    return { app, open }
  }

  it('has its headers at once, then comments, then its text', async () => {
    const { app, open } = slow()
    const asked = post(app, { ...ask, stream: true })
    await vi.advanceTimersByTimeAsync(limit('streamHeadersDelay'))
    const response = await asked
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
    const text = response.text()
    await vi.advanceTimersByTimeAsync(3 * limit('streamKeepAlive'))
    open()
    expect(await text).toMatch(/^(: keep-alive\n\n){4}data: \{.*"late"/)
  })

  it('has its headers although it waits in the queue', async () => {
    const { app, open } = slow()
    const running = Array.from({ length: limit('servedStreams') }, () => post(app, ask))
    const asked = post(app, { ...ask, stream: true })
    await vi.advanceTimersByTimeAsync(limit('streamHeadersDelay'))
    const response = await asked
    open()
    expect(await response.text()).toMatch(/^: keep-alive\n\ndata: \{.*"late"/)
    await Promise.all(running)
  })

  it('ends with an error event if it fails after the headers', async () => {
    const { app, open } = slow(new ServingError(504, 'upstream_timeout', 'the upstream hangs'))
    const asked = post(app, { ...ask, stream: true })
    await vi.advanceTimersByTimeAsync(limit('streamHeadersDelay'))
    const response = await asked
    open()
    const events = eventsOf(await response.text())
    expect(JSON.parse(events.at(-1) as string)).toMatchObject({ error: { code: 'upstream_timeout' } })
  })

  it('leaves no timer behind if it fails before the headers', async () => {
    const { app, open } = slow(new ServingError(502, 'upstream_failed', 'the upstream hangs'))
    const asked = post(app, { ...ask, stream: true })
    open()
    expect(await refusalOf(await asked)).toEqual([502, 'upstream_failed'])
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('an answer that fails', () => {
  const failing = (error: Error, texts: readonly string[] = []): Partial<ServingEngine> => ({
    generate: async function* () {
      for (const text of texts) yield { text }
      throw error
    },
  })

  it('has an HTTP status if nothing was sent', async () => {
    const app = appWith(failing(new ServingError(503, 'expert_not_in_use', 'law was withdrawn')))
    expect(await refusalOf(await post(app, { ...ask, stream: true }))).toEqual([503, 'expert_not_in_use'])
  })

  it('ends its stream with an error event if something was sent', async () => {
    const app = appWith(failing(new Error('out of memory'), ['The ']))
    const text = await (await post(app, { ...ask, stream: true })).text()
    expect(text).toContain('"text":"The "')
    expect(text).toContain('"code":"internal"')
    expect(text).not.toContain('[DONE]')
  })

  it('is logged, while faults of the request are not', async () => {
    const entries: LogEntry[] = []
    const log = new Log((entry) => entries.push(entry))
    await post(appWith(failing(new Error('out of memory')), log), ask)
    await (
      await post(appWith(failing(new Error('disk full'), ['The ']), log), { ...ask, stream: true })
    ).text()
    await post(appWith(failing(new ServingError(502, 'upstream_failed', 'the upstream hangs')), log), ask)
    await post(appWith({}, log), { ...ask, n: 2 })
    expect(entries.map(({ level, message }) => [level, message])).toEqual([
      ['error', 'a request failed: out of memory'],
      ['error', 'a request failed: disk full'],
      ['warn', 'a request was not answered: the upstream hangs'],
    ])
    for (const { requestId } of entries) expect(requestId).toMatch(/^req-[\da-f-]{36}$/)
  })
})

describe('a place in the queue', () => {
  it('is free when the answer is complete, although its client has read nothing', async () => {
    const app = appOf()
    const unread = Array.from({ length: limit('servedStreams') }, () => post(app, { ...ask, stream: true }))
    expect((await post(app, ask)).status).toBe(200)
    for (const response of await Promise.all(unread))
      expect(eventsOf(await response.text()).at(-1)).toBe('[DONE]')
  })

  it('is free when a client leaves that has not read what was kept for it', async () => {
    const text = 'x'.repeat(limit('streamBufferBytes'))
    const waits = Promise.withResolvers<void>()
    let kept = 0
    const app = appWith({
      generate: async function* ({ stream }) {
        if (!stream) return
        if (++kept === limit('servedStreams')) waits.resolve()
        yield { text }
        yield { text }
      },
    })
    const clients = Array.from({ length: limit('servedStreams') }, () => new AbortController())
    const unread = clients.map(({ signal }) => post(app, { ...ask, stream: true }, { signal }))
    await waits.promise
    await Promise.all(unread)
    const next = post(app, ask)
    for (const client of clients) client.abort()
    expect((await next).status).toBe(200)
  })

  it('is free only after the generation of a client that left has stopped', async () => {
    const order: string[] = []
    const stopping = Promise.withResolvers<void>()
    const full = Promise.withResolvers<void>()
    let begun = 0
    const app = appWith({
      generate: async function* ({ prompt }, _, signal) {
        order.push(`begin ${prompt}`)
        if (++begun === limit('servedStreams')) full.resolve()
        if (prompt === 'next') return
        try {
          yield { text: 'x' }
          await rejection(signal)
        } finally {
          if (prompt === 'left') await stopping.promise
          order.push(`end ${prompt}`)
        }
      },
    })
    const stays = new AbortController()
    const others = Array.from({ length: limit('servedStreams') - 1 }, () =>
      post(app, { prompt: 'stays', stream: true }, { signal: stays.signal }),
    )
    const client = new AbortController()
    const left = await post(app, { prompt: 'left', stream: true }, { signal: client.signal })
    await full.promise
    const next = post(app, { prompt: 'next' })
    client.abort()
    stopping.resolve()
    expect((await next).status).toBe(200)
    expect(order.slice(-2)).toEqual(['end left', 'begin next'])
    stays.abort()
    for (const response of [left, ...(await Promise.all(others))]) await response.text()
  })
})

/** Rejects when the signal aborts. */
function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
