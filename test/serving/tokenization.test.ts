/** Prompts as token ids, and the routes that turn texts into tokens and back, with the tokenizer of the small model. */
import '../../src/lib/node20.ts'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { ChatTemplate } from '../../src/data/chat-template.ts'
import { PromptEncoder } from '../../src/data/prompt-encoder.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { limit } from '../../src/lib/limits.ts'
import { type Api, createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import type { PromptEncoder as Encoder } from '../../src/serving/prompt.ts'
import { SMALL_MODEL } from '../support/folders.ts'
import { backendOf, fixedEngine, post, refusalOf } from '../support/inference-api.ts'

const tokenizer = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))
const CONTEXT = 64
const encoders: PromptEncoder[] = []
afterAll(() => Promise.all(encoders.map((encoder) => encoder.close())))

interface Served {
  readonly app: Api
  /** Prompts of completions, as token ids. */
  readonly prompts: number[][]
}

function serve(template?: ChatTemplate, change: Partial<Encoder> = {}): Served {
  const encoder = new PromptEncoder(tokenizer, template)
  encoders.push(encoder)
  const prompts: number[][] = []
  const { generate } = fixedEngine()
  const engine = fixedEngine({
    contextLength: CONTEXT,
    vocabularySize: encoder.vocabularySize,
    encode: (prompt, signal) => encoder.encode(prompt, signal),
    generate: (request, prompt, ...more) => {
      prompts.push([...prompt])
      return generate(request, prompt, ...more)
    },
  })
  const { longestToken, vocabularySize } = encoder
  const app = createApp({
    backendFor: () => backendOf(engine),
    callers: fixedCallers(['k'.repeat(32)]),
    isOwnHost: () => true,
    now: () => 0,
    tokenization: {
      prompts: {
        longestToken,
        vocabularySize,
        turnEnds: [],
        encode: (prompt, signal) => encoder.encode(prompt, signal),
        ...change,
      },
      vocabulary: tokenizer,
      contextLength: CONTEXT,
    },
  })
  return { app, prompts }
}

interface Tokens {
  readonly count: number
  readonly tokens: number[]
  readonly token_strs: string[] | null
}
async function tokenize({ app }: Served, body: object): Promise<Tokens> {
  const response = await post(app, body, { path: '/tokenize' })
  expect(response.status).toBe(200)
  return (await response.json()) as Tokens
}
async function detokenize({ app }: Served, tokens: readonly number[]): Promise<string> {
  const response = await post(app, { tokens }, { path: '/detokenize' })
  return ((await response.json()) as { prompt: string }).prompt
}
const CHAT: ChatTemplate = {
  source: "{% for m in messages %}<|endoftext|>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
  variables: {},
}
const TEXTS = ['Article L1234-5', ' a  b\n', 'é😀漢', '<|endoftext|>', '']

describe('a text', () => {
  it('has the tokens that it has in a completion, and they have its text', async () => {
    const served = serve()
    for (const prompt of TEXTS) {
      const { tokens, count } = await tokenize(served, { prompt })
      expect([tokens[0], tokens.length]).toEqual([tokenizer.endOfText, count])
      const plain = await tokenize(served, { prompt, add_special_tokens: false })
      expect(plain.tokens).toEqual(tokens.slice(1))
      expect(await detokenize(served, plain.tokens)).toBe(prompt)
      expect(await detokenize(served, tokens)).toBe(`${tokenizer.endOfTextName}${prompt}`)
      if (prompt !== '') await post(served.app, { prompt })
      if (prompt !== '') expect(served.prompts.at(-1)).toEqual(tokens)
    }
  })

  it('has names of its tokens if the request asks for them', async () => {
    const served = serve()
    const { tokens, token_strs } = await tokenize(served, { prompt: 'a b', return_token_strs: true })
    expect(token_strs).toEqual(tokens.map((id) => tokenizer.nameOf(id)))
    expect((await tokenize(served, { prompt: 'a b' })).token_strs).toBeNull()
  })

  it('of a chat has the tokens with which the chat is answered', async () => {
    const messages = [{ role: 'user', content: 'Hi <|endoftext|>' }]
    for (const template of [undefined, CHAT]) {
      const served = serve(template)
      const { tokens } = await tokenize(served, { messages })
      await post(served.app, { messages }, { path: '/v1/chat/completions' })
      expect(served.prompts).toEqual([tokens])
      expect(tokens.filter((id) => id === tokenizer.endOfText)).toHaveLength(1)
    }
  })

  it('is tokenized one after the other, and refused if too many wait', async () => {
    const { promise, resolve } = Promise.withResolvers<Int32Array>()
    const { app } = serve(undefined, { encode: () => promise })
    const asked = Array.from({ length: limit('queuedRequests') + 2 }, () =>
      post(app, { prompt: 'a' }, { path: '/tokenize' }),
    )
    const refused = await Promise.race(asked)
    expect(refused.headers.get('retry-after')).not.toBeNull()
    expect(await refusalOf(refused)).toEqual([429, 'queue_full'])
    resolve(Int32Array.of(1))
    expect((await Promise.all(asked)).filter(({ status }) => status === 200)).toHaveLength(asked.length - 1)
  })
})

describe('the routes of tokens', () => {
  it.each<[string, string, object, number, string]>([
    ['tokenize', 'a model that does not exist', { model: 'gpt', prompt: 'a' }, 404, 'model_not_found'],
    ['detokenize', 'a model that does not exist', { model: 'gpt', tokens: [1] }, 404, 'model_not_found'],
    ['detokenize', 'an id beyond the vocabulary', { tokens: [tokenizer.vocabSize] }, 400, 'bad-field'],
  ])('refuse with /%s %s', async (route, _, body, status, code) => {
    expect(await refusalOf(await post(serve().app, body, { path: `/${route}` }))).toEqual([status, code])
  })

  it('need a key', async () => {
    const { app } = serve()
    const headers = { authorization: '' }
    for (const path of ['/tokenize', '/detokenize'])
      expect(await refusalOf(await post(app, {}, { path, headers }))).toEqual([401, 'invalid_api_key'])
  })

  it('do not exist without a tokenizer', async () => {
    const app = createApp({
      backendFor: () => backendOf(fixedEngine()),
      callers: fixedCallers(['k'.repeat(32)]),
      isOwnHost: () => true,
      now: () => 0,
    })
    expect(await refusalOf(await post(app, { prompt: 'a' }, { path: '/tokenize' }))).toEqual([
      404,
      'not_found',
    ])
  })
})

describe('a prompt of token ids', () => {
  it('is used as it is, also as a list of one', async () => {
    const { app, prompts } = serve()
    const ids = [5, 6, tokenizer.endOfText, 7]
    for (const prompt of [ids, [ids]]) {
      const body = await (await post(app, { prompt, max_tokens: 2 })).json()
      expect(body).toMatchObject({ usage: { prompt_tokens: 4, completion_tokens: 2 } })
    }
    expect(prompts).toEqual([ids, ids])
  })

  it.each<[string, number[], string]>([
    ['an id beyond the vocabulary', [5, tokenizer.vocabSize], 'bad-field'],
    ['more tokens than the context', Array.from({ length: CONTEXT }, () => 5), 'context_length_exceeded'],
  ])('is refused with %s', async (_, prompt, code) => {
    const { app, prompts } = serve()
    const response = await post(app, { prompt, stream: true })
    expect(await response.json()).toMatchObject({ error: { code, param: 'prompt' } })
    expect([response.status, prompts]).toEqual([400, []])
  })
})
