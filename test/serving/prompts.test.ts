/** Prompts that take long to encode, or that spell special tokens, at the API of a node. */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { ChatTemplate } from '../../src/data/chat-template.ts'
import { PromptEncoder } from '../../src/data/prompt-encoder.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import type { Api } from '../../src/serving/app.ts'
import type { Piece } from '../../src/serving/engine.ts'
import { maxPromptCharacters } from '../../src/serving/prompt.ts'
import { SMALL_MODEL } from '../support/folders.ts'
import { appOf, backendOf, fixedEngine, post } from '../support/inference-api.ts'

const tokenizer = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))
const CONTEXT = 512
const encoders: PromptEncoder[] = []
afterAll(() => Promise.all(encoders.map((encoder) => encoder.close())))

/** An API whose engine encodes with the tokenizer of the small model, and the prompts that it was given. */
function serve(template?: ChatTemplate, answer?: readonly string[]): { app: Api; encoded: string[] } {
  const prompts = new PromptEncoder(tokenizer, template)
  encoders.push(prompts)
  const encoded: string[] = []
  const engine = fixedEngine({
    contextLength: CONTEXT,
    maxPromptCharacters: maxPromptCharacters(prompts, CONTEXT),
    turnEnds: prompts.turnEnds,
    encode: async (prompt, signal) => {
      const ids = await prompts.encode(prompt, signal)
      const text = tokenizer.decode(ids)
      encoded.push(ids[0] === tokenizer.endOfText ? `[END]${text}` : text)
      return ids
    },
    ...(answer === undefined ? {} : { generate: () => piecesOf(answer) }),
  })
  return { app: appOf(backendOf(engine)), encoded }
}

async function* piecesOf(texts: readonly string[]): AsyncGenerator<Piece, void, void> {
  for (const text of texts) yield { text, shares: Float32Array.of(0.25, 0.75) }
}

/** The error in the body of a refusal. */
async function errorOf(response: Response): Promise<unknown> {
  expect(response.status).toBe(400)
  return ((await response.json()) as { error: unknown }).error
}

describe('a prompt of a million characters', () => {
  it.each([
    ['spaces', ' '],
    ['random letters', 'xkqjzvwp'],
    ['one letter', 'a'],
    ['digits', '0123456789'],
    ['emoji', '🙂'],
    ['line feeds', '\n'],
    ['names of special tokens', '<|endoftext|>'],
  ])('is refused before it is encoded: %s', async (_, unit) => {
    const { app, encoded } = serve()
    const text = unit.repeat(1_000_000 / Buffer.byteLength(JSON.stringify(unit)))
    const completion = await post(app, { prompt: text })
    expect(await errorOf(completion)).toMatchObject({ code: 'context_length_exceeded', param: 'prompt' })
    const messages = [{ role: 'user', content: text }]
    const chat = await post(app, { messages }, { path: '/v1/chat/completions' })
    expect(await errorOf(chat)).toMatchObject({ code: 'context_length_exceeded', param: 'messages' })
    expect(encoded).toEqual([])
  })
})

describe('the name of a special token', () => {
  it('is text in the prompt of a completion', async () => {
    const { app, encoded } = serve()
    expect((await post(app, { prompt: 'a <|endoftext|> b' })).status).toBe(200)
    expect(encoded).toEqual(['[END]a <|endoftext|> b'])
  })

  it('is text in a message, with and without a chat template', async () => {
    const messages = [{ role: 'user', content: 'a <|endoftext|> b' }]
    const plain = serve()
    expect((await post(plain.app, { messages }, { path: '/v1/chat/completions' })).status).toBe(200)
    expect(plain.encoded).toEqual(['[END]User: a <|endoftext|> b\nAssistant:'])
    const source =
      '{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>'
    const own = serve({ source, variables: { bos_token: '<|endoftext|>' } })
    expect((await post(own.app, { messages }, { path: '/v1/chat/completions' })).status).toBe(200)
    expect(own.encoded).toEqual(['[END]<|user|>a <|endoftext|> b<|assistant|>'])
  })
})

it('answers with the reason for which a chat template refuses the messages', async () => {
  const { app } = serve({ source: "{{ raise_exception('roles must alternate') }}", variables: {} })
  const messages = [{ role: 'user', content: 'a' }]
  const response = await post(app, { messages }, { path: '/v1/chat/completions' })
  expect(await errorOf(response)).toMatchObject({
    param: 'messages',
    message: expect.stringContaining('roles must alternate'),
  })
})

describe('an answer that goes on with another turn', () => {
  const answer = [' Hello', '.', '\nUs', 'er: And', ' you?']
  const messages = [{ role: 'user', content: 'Hello' }]
  const template: ChatTemplate = { source: '{{ messages[0].content }}', variables: {} }
  const chat = async (app: Api, path: string, body: object): Promise<unknown> =>
    (await post(app, body, { path })).json()

  it('ends before this turn without a chat template', async () => {
    const { app } = serve(undefined, answer)
    expect(await chat(app, '/v1/chat/completions', { messages })).toMatchObject({
      choices: [{ message: { content: ' Hello.' }, finish_reason: 'stop' }],
    })
    expect(await chat(app, '/v1/responses', { input: 'Hello' })).toMatchObject({
      status: 'completed',
      output: [{ content: [{ text: ' Hello.' }] }],
    })
    const stream = await post(app, { messages, stream: true, stop: 'x' }, { path: '/v1/chat/completions' })
    expect(await stream.text()).not.toContain('User')
  })

  it('arrives piece by piece while no other turn may begin', async () => {
    const { app } = serve(undefined, [' Hello', '\n', 'Use', ' it.'])
    const stream = await post(app, { messages, stream: true }, { path: '/v1/chat/completions' })
    const texts = [...(await stream.text()).matchAll(/"content":"([^"]+)"/g)].map(([, text]) => text)
    expect(texts).toEqual([' Hello', '\\nUse it.'])
  })

  it.each([
    ['a chat with a template', template, '/v1/chat/completions', { messages }],
    ['a completion', undefined, '/v1/completions', { prompt: 'Hello' }],
  ])('is whole: %s', async (_, chosen, path, body) => {
    const { app } = serve(chosen, answer)
    expect(JSON.stringify(await chat(app, path, body))).toContain('And you?')
  })
})
