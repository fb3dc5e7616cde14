/** Log-probabilities, choices, biases and penalties through an upstream that streams as vLLM does. */
import { afterEach, describe, expect, it } from 'vitest'
import { compositionDigest } from '../../src/composition/compose.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import type { Api } from '../../src/serving/app.ts'
import { upstreamEngine } from '../../src/serving/upstream-engine.ts'
import { closeServers, serve } from '../support/fake-server.ts'
import { appOf, backendOf, CHARACTERS, eventsOf, post, textOf } from '../support/inference-api.ts'

const publicModel = digestOf(Uint8Array.of(1))
const MODEL = compositionDigest(publicModel, [], 1)
afterEach(closeServers)

function appAt(url: URL): Api {
  const engine = upstreamEngine({
    url,
    composition: {
      ...{ consortium: digestOf(Uint8Array.of(3)), publicModel, composition: MODEL, topK: 1, experts: [] },
    },
    contextLength: 32,
    prompts: {
      longestToken: 16,
      vocabularySize: 65_536,
      turnEnds: [],
      encode: async (prompt) => Int32Array.from(`\0${textOf(prompt)}`, (c) => c.charCodeAt(0)),
    },
    vocabulary: CHARACTERS,
    checkSelection: () => undefined,
  })
  return appOf(backendOf(engine, 'upstream'))
}

interface Asked {
  readonly prompt: readonly number[]
  readonly max_tokens: number
  readonly seed: number
  readonly echo?: boolean
  readonly logprobs?: number
}
const nameOf = (id: number): string => `token_id:${id}`

/** The log-probabilities of tokens, as vLLM lists them; -0.5 for each, and -1, -2 ... for letters from a on. */
function listed(ids: readonly number[], top: number, isFirstNull: boolean): object {
  const likely = (id: number): object =>
    Object.fromEntries([
      ...Array.from({ length: top }, (_, i) => [nameOf(97 + i), -1 - i]),
      [nameOf(id), -0.5],
    ])
  const hidden = (i: number): boolean => isFirstNull && i === 0
  return {
    tokens: ids.map(nameOf),
    token_logprobs: ids.map((_, i) => (hidden(i) ? null : -0.5)),
    top_logprobs: ids.map((id, i) => (hidden(i) ? null : likely(id))),
  }
}

/** An upstream that answers "no" to a prompt, and the requests that it got. */
async function upstream(
  change: (logprobs: object) => unknown = (logprobs) => logprobs,
): Promise<{ app: Api; asked: Asked[] }> {
  const asked: Asked[] = []
  const url = await serve((_, body, response) => {
    const request = JSON.parse(body) as Asked
    asked.push(request)
    const { prompt, echo = false, logprobs: top } = request
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    ;[...'no'].slice(0, request.max_tokens).forEach((text, i) => {
      const isFirst = echo && i === 0
      const ids = [...(isFirst ? prompt : []), text.charCodeAt(0)]
      const logprobs = top === undefined ? null : change(listed(ids, top, isFirst))
      const shown = isFirst ? `(prompt)${text}` : text
      const choices = [{ index: 0, text: shown, logprobs, finish_reason: i === 1 ? 'stop' : null }]
      response.write(`data: ${JSON.stringify({ model: MODEL, choices })}\n\n`)
    })
    const usage = { completion_tokens: Math.min(2, request.max_tokens) }
    const end = [{ index: 0, text: '', finish_reason: 'length' }]
    if (request.max_tokens < 2) response.write(`data: ${JSON.stringify({ model: MODEL, choices: end })}\n\n`)
    response.write(`data: ${JSON.stringify({ model: MODEL, choices: [], usage })}\n\ndata: [DONE]\n\n`)
    response.end()
  })
  return { app: appAt(url), asked }
}

describe('through an upstream', () => {
  it('a completion has the log-probabilities of its tokens, by their text', async () => {
    const { app, asked } = await upstream()
    const body = await (await post(app, { prompt: 'Hi', logprobs: 2 })).json()
    expect(body).toMatchObject({
      choices: [
        {
          text: 'no',
          finish_reason: 'stop',
          logprobs: {
            tokens: ['n', 'o'],
            token_logprobs: [-0.5, -0.5],
            top_logprobs: [
              { n: -0.5, a: -1 },
              { o: -0.5, a: -1 },
            ],
            text_offset: [0, 1],
          },
        },
      ],
      usage: { completion_tokens: 2, prompt_tokens_details: { cached_tokens: 0 } },
    })
    expect(asked).toMatchObject([{ logprobs: 2, return_tokens_as_token_ids: true, echo: false }])
  })

  it.each([
    ['with an answer', 4, 'Hino', ['<|endoftext|>', 'H', 'i', 'n', 'o']],
    ['alone', 0, 'Hi', ['<|endoftext|>', 'H', 'i']],
  ])('a prompt is scored and repeated %s', async (_, max_tokens, text, tokens) => {
    const { app, asked } = await upstream()
    const request = { prompt: 'Hi', logprobs: 0, echo: true, max_tokens }
    const { choices } = (await (await post(app, request)).json()) as { choices: object[] }
    expect(choices).toMatchObject([
      { text, logprobs: { tokens, token_logprobs: [null, ...tokens.slice(1).map(() => -0.5)] } },
    ])
    expect(asked).toMatchObject([{ echo: true, max_tokens: Math.max(1, max_tokens) }])
    const events = eventsOf(await (await post(app, { ...request, stream: true })).text())
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event) as { choices: { text: string }[] })
    expect(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join('')).toBe(text)
  })

  it('each choice of each prompt is a request of its own, with its seed', async () => {
    const { app, asked } = await upstream()
    const request = { prompt: ['a', [5, 6]], n: 2, seed: 7, max_tokens: 2 }
    const { choices } = (await (await post(app, request)).json()) as { choices: { index: number }[] }
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3])
    const sent = asked.map(({ prompt, seed }) => JSON.stringify([prompt, seed])).sort()
    expect(sent).toEqual(['[[0,97],7]', '[[0,97],8]', '[[5,6],7]', '[[5,6],8]'])
  })

  it('biases and penalties are sent on if the request has them', async () => {
    const { app, asked } = await upstream()
    const changes = { logit_bias: { 5: -100 }, presence_penalty: 0.5, frequency_penalty: -1 }
    await post(app, { prompt: 'a', ...changes })
    await post(app, { prompt: 'a', logit_bias: {}, presence_penalty: 0 })
    expect(asked[0]).toMatchObject(changes)
    for (const name of [...Object.keys(changes), 'logprobs', 'echo'])
      expect(asked[1]).not.toHaveProperty(name)
  })

  const part = (logprobs: object, change: object): object => ({ ...logprobs, ...change })
  it.each<[string, (logprobs: object) => unknown, boolean]>([
    ['has no log-probabilities', () => null, false],
    ['names tokens by their text', (all) => part(all, { tokens: ['n'] }), false],
    ['names a token by a large number', (all) => part(all, { tokens: ['token_id:9999999999'] }), false],
    ['lists too few log-probabilities', (all) => part(all, { token_logprobs: [] }), false],
    ['has log-probabilities that are text', (all) => part(all, { token_logprobs: ['-1'] }), false],
    ['has log-probabilities above 0', (all) => part(all, { token_logprobs: [0.5] }), false],
    ['has likely tokens that are a list', (all) => part(all, { top_logprobs: [[1]] }), false],
    ['has likely tokens by their text', (all) => part(all, { top_logprobs: [{ n: -1 }] }), false],
    ['is a list of log-probabilities', () => [], false],
    ['scores another prompt', (all) => part(all, listed([1, 2, 3, 110], 0, true)), true],
    ['does not score the prompt', () => listed([110], 0, false), true],
  ])('an answer is refused if it %s', async (_, change, echo) => {
    const { app } = await upstream(change)
    const response = await post(app, { prompt: 'Hi', logprobs: 0, echo, max_tokens: 1 })
    const { error } = (await response.json()) as { error: { code: string } }
    expect([response.status, error.code]).toEqual([502, 'upstream_failed'])
  })
})
