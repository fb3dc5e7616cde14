import type { ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { compositionDigest } from '../../src/composition/compose.ts'
import type { CompositionFile } from '../../src/composition/composition-file.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { Api } from '../../src/serving/app.ts'
import { parseUpstreamUrl, type UpstreamInit, upstreamEngine } from '../../src/serving/upstream-engine.ts'
import { Log } from '../../src/telemetry/log.ts'
import { prettyLine } from '../../src/telemetry/log-lines.ts'
import { closeServers, type Handler, serve } from '../support/fake-server.ts'
import { appOf, backendOf, CHARACTERS, eventsOf, post, textOf } from '../support/inference-api.ts'

const publicModel = digestOf(Uint8Array.of(1))
const id = digestOf(Uint8Array.of(2))
const MODEL = compositionDigest(publicModel, [id], 2)
const composition: CompositionFile = {
  consortium: digestOf(Uint8Array.of(3)),
  publicModel,
  composition: MODEL,
  topK: 2,
  experts: [{ id, name: 'law', institution: 'Alpha', license: 'CC0-1.0', expiresAt: 2_000_000_000 }],
}

afterEach(closeServers)

const appAt = (url: URL, more: Partial<UpstreamInit> = {}, log?: Log): Api => {
  const engine = upstreamEngine({
    url,
    composition,
    contextLength: 32,
    prompts: {
      longestToken: 16,
      vocabularySize: 65_536,
      turnEnds: [],
      encode: async (prompt) => Int32Array.from(`\0${textOf(prompt)}`, (c) => c.charCodeAt(0)),
    },
    vocabulary: CHARACTERS,
    checkSelection: () => undefined,
    ...more,
  })
  return appOf(backendOf(engine, 'upstream'), log)
}
const ask = { prompt: 'Hello', max_tokens: 5 }

const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`
const choice = (text: string, reason: string | null = null, more: object = {}): string =>
  event({ model: MODEL, choices: [{ index: 0, text, finish_reason: reason }], ...more })
const usage = event({ model: MODEL, choices: [], usage: { completion_tokens: 5 } })
const say = (response: ServerResponse, ...events: string[]): void => {
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
  for (const text of events) response.write(text)
}
const GOOD = [choice('A '), choice('quick'), choice(' fox', 'length'), usage, 'data: [DONE]\n\n']
const errorOf = async (response: Response): Promise<[number, string, string]> => {
  const { error } = (await response.json()) as { error: { code: string; message: string } }
  return [response.status, error.code, error.message]
}

describe('an upstream', () => {
  it("answers under the node's model name, with its composition and experts", async () => {
    const seen: unknown[] = []
    const url = await serve((request, body, response) => {
      seen.push([request.method, request.url, request.headers.authorization, JSON.parse(body)])
      say(response, ...GOOD)
      response.end()
    })
    const answer = await post(appAt(url, { apiKey: 'secret' }), {
      ...ask,
      stop: ['.'],
      seed: 3,
      temperature: 0,
    })
    expect(answer.status).toBe(200)
    expect(await answer.json()).toMatchObject({
      model: 'flexmesh',
      choices: [{ text: 'A quick fox', finish_reason: 'length' }],
      usage: { prompt_tokens: 6, completion_tokens: 5, total_tokens: 11 },
      flexmesh: {
        composition: MODEL,
        served_by: 'upstream',
        experts: [
          { institution: 'public model', expert: 'public' },
          { institution: 'Alpha', expert: 'law' },
        ],
      },
    })
    const prompt = [0, 72, 101, 108, 108, 111]
    const sent = { model: MODEL, prompt, max_tokens: 5, temperature: 0, top_p: 1, seed: 3, stop: ['.'] }
    const streamed = { stream: true, stream_options: { include_usage: true } }
    expect(seen).toEqual([['POST', '/v1/completions', 'Bearer secret', { ...sent, ...streamed }]])
  })

  it('is attributed without shares, which it does not report', async () => {
    const url = await serve((_, __, response) => {
      say(response, ...GOOD)
      response.end()
    })
    const answer = (await (await post(appAt(url), ask)).json()) as { flexmesh: { experts: object[] } }
    for (const expert of answer.flexmesh.experts) expect(expert).not.toHaveProperty('share')
  })

  it('has its text streamed as it arrives', async () => {
    let more: () => void = () => undefined
    const url = await serve((_, __, response) => {
      say(response, GOOD[0] as string)
      more = () => {
        for (const text of GOOD.slice(1)) response.write(text)
        response.end()
      }
    })
    const answer = await post(appAt(url), {
      ...ask,
      stream: true,
      stream_options: { include_usage: true },
    })
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader()
    const first = new TextDecoder().decode((await reader.read()).value)
    expect(first).toContain('"text":"A "')
    more()
    let rest = ''
    for (let read = await reader.read(); !read.done; read = await reader.read())
      rest += new TextDecoder().decode(read.value)
    const data = eventsOf(rest)
    expect(data.at(-1)).toBe('[DONE]')
    expect(JSON.parse(data.at(-2) as string)).toMatchObject({ usage: { completion_tokens: 5 } })
    expect(JSON.parse(data.at(-3) as string)).toMatchObject({
      choices: [{ finish_reason: 'length' }],
      flexmesh: { served_by: 'upstream' },
    })
  })

  it('may split characters between bytes, events and stop sequences', async () => {
    const bytes = Buffer.from(`${choice('caf\u00e9 \ud83d')}${choice('\ude00 E')}${choice('ND', 'stop')}`)
    const url = await serve((_, __, response) => {
      say(response)
      for (const byte of bytes) response.write(Buffer.of(byte))
      response.end()
    })
    const answer = await post(appAt(url), { ...ask, stop: 'END', stream: true })
    const texts = eventsOf(await answer.text())
      .slice(0, -1)
      .map((data) => (JSON.parse(data) as { choices: [{ text: string }] }).choices[0].text)
    expect(texts.join('')).toBe('café 😀 ')
    for (const text of texts) expect(text.isWellFormed()).toBe(true)
  })

  it('gets chats as prompts that the node has rendered', async () => {
    const prompts: string[] = []
    const url = await serve((_, body, response) => {
      prompts.push(String.fromCharCode(...(JSON.parse(body) as { prompt: number[] }).prompt.slice(1)))
      say(response, ...GOOD)
      response.end()
    })
    const messages = [{ role: 'user', content: 'Hi' }]
    const answer = await post(appAt(url), { messages }, { path: '/v1/chat/completions' })
    expect(await answer.json()).toMatchObject({ choices: [{ message: { content: 'A quick fox' } }] })
    expect(prompts).toEqual(['user: Hi'])
  })

  it('is asked for no more tokens than the context holds', async () => {
    const asked: unknown[] = []
    const url = await serve((_, body, response) => {
      asked.push((JSON.parse(body) as { max_tokens: unknown }).max_tokens)
      say(response, ...GOOD)
      response.end()
    })
    await post(appAt(url), { prompt: 'Hello', max_tokens: 4096 })
    expect(asked).toEqual([26])
  })

  it('gets more requests at once than the node would answer itself', async () => {
    const waiting: ServerResponse[] = []
    const many = limit('servedStreams') + 4
    const url = await serve((_, __, response) => {
      waiting.push(response)
      if (waiting.length < many) return
      for (const each of waiting) {
        say(each, ...GOOD)
        each.end()
      }
    })
    const app = appAt(url)
    const answers = await Promise.all(Array.from({ length: many }, () => post(app, ask)))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  })

  it('has its request aborted when the client leaves', async () => {
    let report: () => void = () => undefined
    const left = new Promise<void>((resolve) => {
      report = resolve
    })
    const client = new AbortController()
    const url = await serve((_, __, response) => {
      response.on('close', () => report())
      say(response, GOOD[0] as string)
      client.abort()
    })
    const answer = post(appAt(url), ask, { signal: client.signal })
    await left
    expect((await answer).status).toBe(500)
  })

  it('ends a stream with an error event and without [DONE] if it fails after it has begun', async () => {
    const url = await serve((_, __, response) => {
      say(response, choice('A '), 'data: {"error": "out of memory"}\n\n')
      response.end()
    })
    const text = await (await post(appAt(url), { ...ask, stream: true })).text()
    expect(text).toContain('"text":"A "')
    expect(text).toContain('"code":"upstream_failed"')
    expect(text).not.toContain('[DONE]')
    expect(text).not.toContain('out of memory')
  })

  const HTML = (_: unknown, __: unknown, response: ServerResponse): void => {
    response.writeHead(200, { 'content-type': 'text/html' })
    response.end('<p>')
  }
  const answers =
    (...events: string[]): Handler =>
    (_, __, response) => {
      say(response, ...events)
      response.end()
    }
  const status =
    (code: number, headers = {}): Handler =>
    (_, __, response) => {
      response.writeHead(code, headers)
      response.end('{}')
    }
  it.each<[string, Handler, string]>([
    ['an error status', status(500), 'status 500'],
    ['another model', status(404), `does not serve composition ${MODEL}`],
    ['a redirect', status(307, { location: 'http://127.0.0.1:1/v1/completions' }), 'cannot be reached'],
    ['an HTML page', HTML, 'server-sent events'],
    ['an event that is not JSON', answers('data: {"model"\n\n'), 'not JSON'],
    ['a list', answers(event([])), 'not a completion'],
    ['another composition', answers(event({ model: publicModel, choices: [] })), 'another composition'],
    [
      'two choices',
      answers(event({ model: MODEL, choices: [{ text: '' }, { text: '' }] })),
      'at most one choice',
    ],
    ['text that is not text', answers(event({ model: MODEL, choices: [{ text: 7 }] })), 'without text'],
    ['an unknown reason', answers(choice('', 'tired')), 'other than stop and length'],
    [
      'a negative count',
      answers(choice('', 'stop', { usage: { completion_tokens: -1 } })),
      'not a whole number',
    ],
    ['half an answer', answers(choice('A ')), 'without a finish_reason'],
    ['a line without an end', answers(`data: ${'x'.repeat(70_000)}`), 'more than 65536 characters'],
    [
      'too many bytes',
      answers(...Array.from({ length: 1100 }, () => choice('x'.repeat(16_384)))),
      'more than 16777216 bytes',
    ],
  ])('that answers with %s is refused', async (_, handler, message) => {
    const [code, name, text] = await errorOf(await post(appAt(await serve(handler)), ask))
    expect([code, name]).toEqual([502, 'upstream_failed'])
    expect(text).toContain(message)
  })

  it('that cannot be reached is reported to the client, and with the reason in the log', async () => {
    const url = await serve(() => undefined)
    await closeServers()
    const lines: string[] = []
    const app = appAt(url, {}, new Log((entry) => lines.push(prettyLine(entry, new Date(0)))))
    expect(await errorOf(await post(app, { ...ask, stream: true }))).toEqual([
      502,
      'upstream_failed',
      'the upstream cannot be reached',
    ])
    expect(lines).toEqual([
      expect.stringMatching(
        /^1970-\S+ warn node: a request was not answered \(ECONNREFUSED\): the upstream cannot be reached req-\S+$/,
      ),
    ])
  })

  it.each<[string, Handler]>([
    ['before it answers', () => undefined],
    ['in the middle', (_, __, response) => say(response, choice('A '))],
  ])('that stays silent %s is given up', async (_, handler) => {
    const app = appAt(await serve(handler), { silence: 50 })
    expect((await errorOf(await post(app, ask))).slice(0, 2)).toEqual([504, 'upstream_timeout'])
  })

  it('has an HTTP address without name, password and query', () => {
    for (const text of ['ftp://host/v1', 'http://user:pw@host/v1', 'http://host/v1?key=x', 'host:8000'])
      expect(() => parseUpstreamUrl(text)).toThrow(/--upstream: expected an address/)
  })
})
