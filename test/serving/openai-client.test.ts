/** The API as OpenAI's own client for Node sees it: what it sends, and what it makes of the answers. */
import '../../src/lib/node20.ts'
import OpenAI, {
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
  RateLimitError,
} from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { type RunningServer, startServer } from '../../src/serving/server.ts'
import { backendOf, fixedEngine, textOf, WORDS } from '../support/inference-api.ts'

const KEY = 'k'.repeat(32)
const TEXT = WORDS.join('')
const model = 'flexmesh'
const messages = [{ role: 'user' as const, content: 'Hi' }]
let server: RunningServer
let client: OpenAI

/** Answers with the six words. A prompt with "hold" is answered when its client leaves. */
const engine = fixedEngine({
  contextLength: 512,
  generate: async function* (request, _, signal) {
    if (textOf(request.prompt).includes('hold')) {
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
      signal.throwIfAborted()
    }
    const score = { id: 65, logprob: -0.5, top: [{ id: 65, logprob: -0.5 }] }
    for (const text of WORDS) yield request.logprobs === undefined ? { text } : { text, score }
  },
})

beforeAll(async () => {
  let port = 0
  const app = createApp({
    backendFor: () => backendOf(engine),
    callers: fixedCallers([KEY]),
    isOwnHost: (host) => isLoopbackHost(host, port),
    now: () => 0,
  })
  server = await startServer(app, 0)
  port = server.port
  client = clientFor(KEY)
})
afterAll(() => server.close())

function clientFor(apiKey: string): OpenAI {
  return new OpenAI({ baseURL: `http://127.0.0.1:${server.port}/v1`, apiKey, maxRetries: 0 })
}

describe("OpenAI's client", () => {
  it('lists the models and retrieves them', async () => {
    const { data } = await client.models.list()
    expect(data.map(({ id }) => id)).toEqual([model, 'flexmesh/Alpha/law'])
    for (const { id } of data) expect(await client.models.retrieve(id)).toMatchObject({ id, object: 'model' })
    await expect(client.models.retrieve('gpt-4o')).rejects.toBeInstanceOf(NotFoundError)
  })

  it('gets a chat, with the id of the request', async () => {
    const answer = await client.chat.completions.create({ model, messages })
    expect(answer.choices[0]?.message).toEqual({
      role: 'assistant',
      content: TEXT,
      refusal: null,
      annotations: [],
    })
    expect(answer.usage).toMatchObject({ completion_tokens: WORDS.length })
    expect(answer._request_id).toMatch(/^req-/)
  })

  it('puts a streamed chat together', async () => {
    const stream = client.chat.completions.stream({
      model,
      messages,
      stream_options: { include_usage: true },
    })
    const answer = await stream.finalChatCompletion()
    expect(answer.choices[0]?.message).toMatchObject({ role: 'assistant', content: TEXT })
    expect(await stream.totalUsage()).toMatchObject({ completion_tokens: WORDS.length })
  })

  it('iterates over a streamed completion', async () => {
    let text = ''
    for await (const chunk of await client.completions.create({ model, prompt: ['Hi'], stream: true }))
      text += chunk.choices[0]?.text ?? ''
    expect(text).toBe(TEXT)
  })

  it('gets several choices, with the log-probabilities of their tokens', async () => {
    const create = {
      model,
      messages,
      n: 2,
      logprobs: true,
      top_logprobs: 1,
      presence_penalty: 1,
      frequency_penalty: 1,
    }
    const { choices } = await client.chat.completions.create({ ...create, logit_bias: { '7': -100 } })
    expect(choices.map(({ index }) => index)).toEqual([0, 1])
    for (const { logprobs } of choices) {
      expect(logprobs?.content).toHaveLength(WORDS.length)
      const likely = { token: 'A', logprob: -0.5, bytes: [65] }
      expect(logprobs?.content?.[0]).toEqual({ ...likely, top_logprobs: [likely] })
    }
    const streamed = await client.chat.completions.stream(create).finalChatCompletion()
    expect(streamed.choices.map(({ logprobs }) => logprobs?.content?.length)).toEqual([6, 6])
    expect(streamed.choices.map(({ message }) => message.content)).toEqual([TEXT, TEXT])
  })

  it('gets completions of several prompts, with their echo and log-probabilities', async () => {
    const prompt = ['Hi', 'You']
    const create = { model, prompt, echo: true, n: 2, best_of: 2 }
    const { choices, usage } = await client.completions.create(create)
    expect(choices.map(({ text }) => text)).toEqual(['Hi', 'Hi', 'You', 'You'].map((one) => one + TEXT))
    expect(usage).toMatchObject({ prompt_tokens: 7, prompt_tokens_details: { cached_tokens: 0 } })
    const { choices: scored } = await client.completions.create({ model, prompt: 'Hi', logprobs: 1 })
    expect(scored[0]?.logprobs).toMatchObject({
      tokens: WORDS.map(() => 'A'),
      token_logprobs: WORDS.map(() => -0.5),
      top_logprobs: WORDS.map(() => ({ A: -0.5 })),
    })
  })

  it('may send every member of a chat at its default', async () => {
    const answer = await client.chat.completions.create({
      model,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        { role: 'user', content: [{ type: 'text', text: 'Hi' }], name: 'Ann' },
        { role: 'assistant', content: null, tool_calls: [] },
        { role: 'assistant', content: [{ type: 'text', text: 'Hello' }], refusal: null },
        { role: 'user', content: 'Well?' },
      ],
      audio: null,
      frequency_penalty: 0,
      function_call: 'none',
      logit_bias: {},
      logprobs: false,
      max_completion_tokens: null,
      max_tokens: null,
      metadata: {},
      modalities: ['text'],
      n: 1,
      parallel_tool_calls: true,
      prediction: null,
      presence_penalty: 0,
      reasoning_effort: null,
      response_format: { type: 'text' },
      seed: null,
      service_tier: 'auto',
      stop: null,
      store: false,
      stream: false,
      stream_options: null,
      temperature: 1,
      tool_choice: 'auto',
      tools: [],
      top_logprobs: null,
      top_p: 1,
      user: 'ann',
      verbosity: null,
    })
    expect(answer.choices[0]?.message.content).toBe(TEXT)
    expect(answer).toMatchObject({ flexmesh: { ignored: ['messages[1].name'] } })
  })

  it('can give its own answers back as turns of the chat', async () => {
    const first = await client.chat.completions.create({ model, messages })
    const turn = first.choices[0]?.message
    if (turn === undefined) throw new Error('expected a choice')
    const answer = await client.chat.completions.create({ model, messages: [...messages, turn, ...messages] })
    expect(answer).toMatchObject({ flexmesh: expect.not.objectContaining({ ignored: expect.anything() }) })
  })

  it.each([
    ['n', { n: 129 }],
    ['logprobs', { top_logprobs: 3 }],
    ['tools[0].type', { tools: [{ type: 'custom' as const, custom: { name: 'f' } }] }],
    ['max_completion_tokens', { max_tokens: 5, max_completion_tokens: 0 }],
  ])('learns that a member is not supported: %s', async (param, more) => {
    const refusal = client.chat.completions.create({ model, messages, ...more })
    await expect(refusal).rejects.toBeInstanceOf(BadRequestError)
    await expect(refusal).rejects.toMatchObject({ code: 'bad-field', param })
  })

  it('gets an error of its own type for a wrong key', async () => {
    await expect(clientFor('wrong').models.list()).rejects.toBeInstanceOf(AuthenticationError)
  })

  it('goes on after a body that is too large', async () => {
    const prompt = 'x'.repeat(2 * limit('bodyBytes'))
    await expect(client.completions.create({ model, prompt })).rejects.toMatchObject({ status: 413 })
    expect((await client.models.list()).data).toHaveLength(2)
  })

  it('is told when to try again, and gets an answer after others have left', async () => {
    const hold = { model, messages: [{ role: 'user' as const, content: 'hold' }] }
    const places = limit('servedStreams') + limit('queuedRequests')
    const others = Array.from({ length: places }, () => new AbortController())
    const held = others.map(({ signal }) =>
      client.chat.completions.create(hold, { signal }).catch((error: unknown) => error),
    )
    let refusal: unknown
    while (refusal === undefined) {
      const probe = new AbortController()
      const stream = client.chat.completions.create({ ...hold, stream: true }, { signal: probe.signal })
      refusal = await stream.then(
        () => probe.abort(),
        (error: unknown) => error,
      )
    }
    expect(refusal).toBeInstanceOf(RateLimitError)
    expect((refusal as RateLimitError).headers?.get('retry-after')).toBe('2')
    for (const other of others) other.abort()
    for (const error of await Promise.all(held)) expect(error).toBeInstanceOf(APIUserAbortError)
    let answer: unknown
    while (answer === undefined) {
      answer = await client.chat.completions.create({ model, messages }).catch(() => undefined)
    }
    expect(answer).toMatchObject({ choices: [{ message: { content: TEXT } }] })
  })
})
