import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { appOf, backendOf, fixedEngine, post, refusalOf, textOf } from '../support/inference-api.ts'

/** A body whose bytes are counted as they are read. */
function countedBody(chunks: readonly string[]) {
  const read: number[] = []
  const left = [...chunks]
  const body = new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        const chunk = left.shift()
        if (chunk === undefined) controller.close()
        else {
          read.push(chunk.length)
          controller.enqueue(new TextEncoder().encode(chunk))
        }
      },
    },
    { highWaterMark: 0 },
  )
  return { body, read }
}

describe('the order of work', () => {
  it.each([
    ['host', { host: 'evil.example' }, 'host_not_allowed'],
    ['key', { authorization: 'Bearer wrong' }, 'invalid_api_key'],
  ])('reads no body before the host and the key are checked: %s', async (_, headers, code) => {
    const { body, read } = countedBody(['{"model": "flexmesh", "prompt": "Hello"}'])
    const response = await post(appOf(), body, { headers })
    expect((await refusalOf(response))[1]).toBe(code)
    expect(read).toEqual([])
  })

  it('refuses a prompt by its length without encoding it, and without waiting', async () => {
    const order: string[] = []
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    const engine = fixedEngine({
      encode: async (prompt) => {
        order.push(`encode ${textOf(prompt)}`)
        return Int32Array.of(0)
      },
      generate: async function* () {
        await gate
        yield { text: 'x' }
      },
    })
    const app = appOf(backendOf(engine))
    const running = Array.from({ length: limit('servedStreams') }, (_, i) => post(app, { prompt: String(i) }))
    const waiting = post(app, { prompt: 'waits' })
    const long = await post(app, { prompt: ' '.repeat(engine.maxPromptCharacters + 1) })
    expect(await refusalOf(long)).toEqual([400, 'context_length_exceeded'])
    expect(order).not.toContain('encode waits')
    open()
    expect((await waiting).status).toBe(200)
    await Promise.all(running)
    expect(order.at(-1)).toBe('encode waits')
    expect(order).toHaveLength(limit('servedStreams') + 1)
  })

  it('counts the characters of all messages of a chat', async () => {
    const { maxPromptCharacters } = fixedEngine()
    const content = 'x'.repeat(maxPromptCharacters / 2)
    const messages = ['user', 'assistant', 'user'].map((role) => ({ role, content }))
    const response = await post(appOf(), { messages }, { path: '/v1/chat/completions' })
    expect(await response.json()).toMatchObject({
      error: { code: 'context_length_exceeded', param: 'messages' },
    })
  })

  it('frees the place of a prompt that turns out to be too long', async () => {
    const app = appOf()
    for (let i = 0; i < limit('servedStreams') + limit('queuedRequests') + 1; i++)
      expect((await refusalOf(await post(app, { prompt: 'x'.repeat(40) })))[0]).toBe(400)
    expect((await post(app, { prompt: 'Hello' })).status).toBe(200)
  })

  it('encodes no prompt of a client that left while it waited', async () => {
    const encoded: string[] = []
    const { promise: gate, resolve: open } = Promise.withResolvers<void>()
    const engine = fixedEngine({
      encode: async (prompt) => {
        encoded.push(textOf(prompt))
        return Int32Array.of(0)
      },
      generate: async function* () {
        await gate
        yield { text: 'x' }
      },
    })
    const app = appOf(backendOf(engine))
    const running = Array.from({ length: limit('servedStreams') }, () => post(app, { prompt: 'runs' }))
    const client = new AbortController()
    const left = [false, true].map((stream) =>
      post(app, { prompt: 'left', stream }, { signal: client.signal }),
    )
    const next = post(app, { prompt: 'next' })
    await new Promise((resolve) => setImmediate(resolve))
    client.abort()
    await Promise.allSettled(left)
    open()
    expect((await next).status).toBe(200)
    await Promise.all(running)
    expect(encoded.filter((text) => text !== 'runs')).toEqual(['next'])
  })
})

describe('a body', () => {
  const refusalOfBody = async (body: string | ReadableStream<Uint8Array>, headers = {}) =>
    refusalOf(await post(appOf(), body, { headers }))

  it.each<[string, string, [number, string]]>([
    ['lists', `{"model": "flexmesh", "prompt": ${'['.repeat(500_000)}`, [400, 'not-json']],
    ['valid lists', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, [400, 'not-json']],
    ['objects', `{"a":`.repeat(100_000), [400, 'not-json']],
    ['quotes', '"a\\'.repeat(300_000), [400, 'not-json']],
  ])('that is nested deep is refused before it is parsed: %s', async (_, body, refusal) => {
    expect(await refusalOfBody(body)).toEqual(refusal)
  })

  it('may contain brackets in strings', async () => {
    const prompt = '[{'.repeat(100)
    const response = await post(appOf(), `{"model": "flexmesh", "stop": "\\"[", "prompt": ["${prompt}"]}`)
    expect(await refusalOf(response)).toEqual([400, 'context_length_exceeded'])
  })

  it('that is too large is read to its end before it is refused, so that its client sees the refusal', async () => {
    const { body, read } = countedBody(Array.from({ length: 4 }, () => 'x'.repeat(limit('bodyBytes'))))
    const response = await post(appOf(), body)
    expect(response.headers.get('connection')).toBe('close')
    expect(await refusalOf(response)).toEqual([413, 'body_too_large'])
    expect(read).toHaveLength(4)
  })

  it('without an end is refused after a bounded number of bytes', async () => {
    const chunk = new Uint8Array(limit('bodyBytes'))
    let read = 0
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        read++
        controller.enqueue(chunk)
      },
    })
    expect(await refusalOfBody(body)).toEqual([413, 'body_too_large'])
    expect(read).toBeLessThan(32)
  })

  it('is UTF-8, with or without a byte order mark', async () => {
    const json = JSON.stringify({ model: 'flexmesh', prompt: 'Hé' })
    const latin1 = new Blob([Uint8Array.from(json, (c) => c.charCodeAt(0))]).stream()
    expect(await refusalOfBody(latin1)).toEqual([400, 'not-json'])
    expect((await post(appOf(), `\ufeff${json}`)).status).toBe(200)
  })

  it.each([
    ['application/json', 200],
    ['Application/JSON', 200],
    ['application/json; charset=utf-8', 200],
    ['application/json ;charset=utf-8', 200],
    ['application/json-patch', 415],
    ['application/jsonl', 415],
    ['text/plain', 415],
    ['multipart/form-data; boundary=application/json', 415],
  ])('has the content type JSON: %s %i', async (type, status) => {
    const response = await post(appOf(), { prompt: 'Hello' }, { headers: { 'content-type': type } })
    expect(response.status).toBe(status)
  })

  it('is not compressed', async () => {
    expect(await refusalOfBody('{}', { 'content-encoding': 'gzip' })).toEqual([415, 'bad_content_type'])
  })
})
