/** Log-probabilities, echo, lists of prompts and several choices, of a node that computes them. */
import '../../src/lib/node20.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PublicModel } from '../../src/checkpoint/public-model.ts'
import { Composer } from '../../src/composition/composer.ts'
import { PromptEncoder } from '../../src/data/prompt-encoder.ts'
import { utf8 } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { type Api, createApp } from '../../src/serving/app.ts'
import { localBackend } from '../../src/serving/local-engine.ts'
import { countingEngine, loadTinyModel, TINY_DIGEST, tinyExperts } from '../support/compositions.ts'
import { cleanUp } from '../support/folders.ts'
import { eventsOf, post, refusalOf } from '../support/inference-api.ts'

let publicModel: PublicModel
let prompts: PromptEncoder
let composer: Composer
let app: Api
beforeAll(async () => {
  publicModel = await loadTinyModel()
  prompts = new PromptEncoder(publicModel.tokenizer, undefined)
  composer = new Composer({
    engine: countingEngine(),
    publicModel,
    publicModelDigest: TINY_DIGEST,
    topK: 2,
    router: 'rows',
    weights: 'fp32',
    experts: () => tinyExperts('Court'),
    publicStatistics: () => Promise.reject(new Error('not needed to route by rows')),
    onComposed: () => undefined,
  })
  await composer.recompose()
  const local = localBackend(composer, prompts, publicModel.tokenizer, publicModel.endsOfText)
  app = createApp({
    backendFor: () => local,
    // A key is the name of its holder.
    callers: { find: async (key = '') => ({ name: key, used: () => undefined }) },
    isOwnHost: () => true,
    now: () => 0,
  })
})
afterAll(async () => {
  await composer.dispose()
  await prompts.close()
  await cleanUp()
})

interface Likely {
  readonly token: string
  readonly logprob: number
  readonly bytes: readonly number[] | null
}
interface Choice {
  readonly index: number
  readonly text: string
  readonly message: { readonly content: string }
  readonly delta?: { readonly content?: string }
  readonly finish_reason: string | null
  readonly logprobs: {
    readonly tokens: readonly string[]
    readonly token_logprobs: readonly (number | null)[]
    readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[]
    readonly text_offset: readonly number[]
    readonly content: readonly (Likely & { readonly top_logprobs: readonly Likely[] })[]
  } | null
}
interface Answer {
  readonly choices: readonly Choice[]
  readonly usage: {
    readonly prompt_tokens: number
    readonly completion_tokens: number
    readonly prompt_tokens_details: { readonly cached_tokens: number }
  }
}

async function ask(body: object, key = 'k'): Promise<Answer> {
  const isChat = 'messages' in body
  const path = isChat ? '/v1/chat/completions' : '/v1/completions'
  const response = await post(
    app,
    { temperature: 0, max_tokens: 6, ...body },
    { path, headers: { authorization: `Bearer ${key}` } },
  )
  const answer = (await response.json()) as Answer
  expect([response.status, answer]).toMatchObject([200, {}])
  return answer
}
async function chunksOf(body: object): Promise<Choice[]> {
  const isChat = 'messages' in body
  const path = isChat ? '/v1/chat/completions' : '/v1/completions'
  const response = await post(app, { temperature: 0, max_tokens: 6, ...body, stream: true }, { path })
  const events = eventsOf(await response.text())
  expect(events.pop()).toBe('[DONE]')
  return events.flatMap((event) => (JSON.parse(event) as Answer).choices)
}
/** The choice of an answer that has one. */
async function choiceOf(body: object): Promise<Choice> {
  const { choices } = await ask(body)
  expect(choices).toHaveLength(1)
  return choices[0] as Choice
}
const logprobsOf = (choice: Choice | undefined): NonNullable<Choice['logprobs']> => {
  if (choice?.logprobs === null || choice?.logprobs === undefined) throw new Error('no log-probabilities')
  return choice.logprobs
}
const TEXT =
  'The court of appeal heard the witness, and the witness of the court heard the appeal of the court.'

describe('the log-probabilities of a prompt', () => {
  it("equal the node's own evaluation of the text", async () => {
    const { logprobs, text } = await choiceOf({ prompt: TEXT, echo: true, logprobs: 1, max_tokens: 0 })
    expect(text).toBe(TEXT)
    const [first, ...rest] = logprobs?.token_logprobs ?? []
    expect(first).toBeNull()
    const lease = composer.acquire()
    const documents = [{ tokens: publicModel.tokenizer.encode(TEXT), bytes: utf8(TEXT).length }]
    const [[evaluation] = []] = await lease.model.evaluate([documents], [{}], new AbortController().signal)
    lease.release()
    expect(evaluation?.tokens).toBe(rest.length)
    const nats = (evaluation?.bitsPerByte ?? 0) * (evaluation?.bytes ?? 0) * Math.LN2
    expect(-rest.reduce<number>((sum, logprob) => sum + (logprob ?? 0), 0)).toBeCloseTo(nats, 3)
  })

  it('are those that its tokens have when they are generated, with the same most likely tokens', async () => {
    const prompt = [...(await prompts.encode('Article 1', AbortSignal.timeout(60_000)))]
    const generated = await choiceOf({ prompt, logprobs: 4 })
    const answer = publicModel.tokenizer.encode(generated.text)
    const { logprobs: scored } = await choiceOf({
      prompt: [...prompt, ...answer],
      echo: true,
      logprobs: 4,
      max_tokens: 1,
    })
    const P = prompt.length
    const own = logprobsOf(generated)
    expect(own.token_logprobs).toHaveLength(answer.length)
    own.token_logprobs.forEach((logprob, i) => {
      expect(scored?.tokens[P + i]).toBe(own.tokens[i])
      expect(scored?.token_logprobs[P + i]).toBeCloseTo(logprob as number, 3)
      // Greedy: each token is the most likely one.
      expect(Math.max(...Object.values(scored?.top_logprobs[P + i] ?? {}))).toBeCloseTo(logprob as number, 3)
    })
    expect(scored?.tokens).toHaveLength(P + answer.length + 1)
  })

  it('are listed beside texts that are those of the prompts, also of lists of token ids', async () => {
    const ids = [...publicModel.tokenizer.encode('Wörter 🙂 x')]
    const { choices, usage } = await ask({ prompt: [ids, [5]], echo: true, logprobs: 0, max_tokens: 0 })
    const [first, second] = choices.map(logprobsOf)
    expect(choices.map(({ text }) => text)).toEqual(['Wörter 🙂 x', publicModel.tokenizer.decode([5])])
    expect(choices.map(({ index, finish_reason }) => [index, finish_reason])).toEqual([
      [0, 'length'],
      [1, 'length'],
    ])
    expect(second?.token_logprobs).toEqual([null])
    expect(first?.tokens).toHaveLength(ids.length)
    // The emoji has several tokens, none of which is a character. They are all at its place.
    const parts = first?.tokens.filter((token) => token.startsWith('bytes:\\x')) ?? []
    expect(parts.length).toBeGreaterThan(1)
    expect(parts.join('').replaceAll('bytes:', '')).toContain('\\xf0\\x9f')
    const characters = [...'Wörter 🙂 x']
    first?.tokens.forEach((token, i) => {
      const at = first.text_offset[i] as number
      if (!token.startsWith('bytes:')) expect(characters.slice(at).join('').startsWith(token)).toBe(true)
    })
    expect(usage).toMatchObject({ prompt_tokens: ids.length + 1, completion_tokens: 0 })
  })
})

describe('the log-probabilities of an answer', () => {
  it('of a chat have the bytes of its text, and as many likely tokens as it asks for', async () => {
    const { message, logprobs } = await choiceOf({
      messages: [{ role: 'user', content: 'Hi' }],
      logprobs: true,
      top_logprobs: 20,
    })
    const content = logprobs?.content ?? []
    expect(content).toHaveLength(6)
    expect(Buffer.from(content.flatMap(({ bytes }) => bytes ?? [])).toString()).toBe(message.content)
    for (const { token, logprob, top_logprobs: top } of content) {
      expect(top).toHaveLength(20)
      expect(top[0]).toMatchObject({ token, logprob })
      const probability = top.reduce((sum, one) => sum + Math.exp(one.logprob), 0)
      expect(probability).toBeLessThan(1)
      expect([...top].sort((a, b) => b.logprob - a.logprob)).toEqual(top)
    }
  })

  it('are those of the model, whatever biases and temperature make of them', async () => {
    const [b] = [...publicModel.tokenizer.encode('b')] as [number]
    const plain = logprobsOf(await choiceOf({ prompt: 'x', logprobs: 20, max_tokens: 1 }))
    const request = { prompt: 'x', logprobs: 20, max_tokens: 1, temperature: 2, logit_bias: { [b]: 100 } }
    const biased = logprobsOf(await choiceOf(request))
    expect(biased.tokens).toEqual(['b'])
    expect(biased.token_logprobs[0]).toBeLessThan(-1)
    const { b: added, ...likely } = { b: 0, ...biased.top_logprobs[0] }
    expect(added).toBe(biased.token_logprobs[0])
    expect(plain.top_logprobs[0]).toMatchObject(likely)
  })

  it('of a special token have its name and no bytes', async () => {
    const { endOfText, endOfTextName } = publicModel.tokenizer
    const { logprobs } = await choiceOf({ prompt: [endOfText], echo: true, logprobs: 1, max_tokens: 0 })
    expect(logprobs?.tokens).toEqual([endOfTextName])
  })

  it.each(['completion', 'chat'])('are in the chunks of a streamed %s, each token once', async (kind) => {
    const body =
      kind === 'chat'
        ? { messages: [{ role: 'user', content: 'Hi' }], logprobs: true, top_logprobs: 2 }
        : { prompt: 'Hi', logprobs: 2, echo: true }
    const whole = logprobsOf(await choiceOf(body))
    const parts = (await chunksOf(body)).flatMap(({ logprobs }) => (logprobs === null ? [] : [logprobs]))
    expect(parts.length).toBeGreaterThan(2)
    for (const list of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset', 'content'] as const) {
      const all = (logprobs: NonNullable<Choice['logprobs']>): unknown[] => [...(logprobs[list] ?? [])]
      expect(parts.flatMap(all)).toEqual(all(whole))
    }
  })

  it('end with the text before a stop sequence', async () => {
    const whole = await choiceOf({ prompt: 'Hi', logprobs: 0, max_tokens: 12 })
    const { tokens } = logprobsOf(whole)
    const before = tokens.slice(0, 3).join('')
    // Within the fourth token, and over the fifth.
    const stop = tokens.slice(3, 5).join('').slice(1)
    const at = whole.text.indexOf(stop)
    const cut = await choiceOf({ prompt: 'Hi', logprobs: 0, max_tokens: 12, stop })
    expect(cut.text).toBe(whole.text.slice(0, at))
    expect(cut.finish_reason).toBe('stop')
    expect(before.length).toBeLessThanOrEqual(at)
    const kept = logprobsOf(cut).tokens
    expect(kept).toEqual(tokens.slice(0, kept.length))
    expect(kept.slice(0, -1).join('').length).toBeLessThan(at)
    expect(kept.join('').length).toBeGreaterThanOrEqual(at)
  })
})

describe('several choices', () => {
  it('have the seeds that follow, and the texts that single requests with these seeds get', async () => {
    const body = { prompt: ['Court', 'Law'], temperature: 1, seed: 2 ** 32 - 2 }
    const { choices, usage } = await ask({ ...body, n: 3 })
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5])
    const alone = []
    for (const prompt of body.prompt) {
      for (const seed of [2 ** 32 - 2, 2 ** 32 - 1, 0])
        alone.push((await choiceOf({ ...body, prompt, seed })).text)
    }
    expect(choices.map(({ text }) => text)).toEqual(alone)
    expect(new Set(alone).size).toBeGreaterThan(3)
    const tokens = (text: string): number => publicModel.tokenizer.encode(text).length + 1
    expect(usage.prompt_tokens).toBe(tokens('Court') + tokens('Law'))
    expect(usage.completion_tokens).toBe(36)
  })

  it('are mixed in a stream, each with its own beginning and end', async () => {
    const body = { messages: [{ role: 'user', content: 'Hi' }], n: 3, temperature: 1, seed: 4 }
    const chunks = await chunksOf(body)
    const { choices } = await ask(body)
    for (const { index, message, finish_reason: finish } of choices) {
      const own = chunks.filter((chunk) => chunk.index === index)
      expect(own[0]?.delta).toEqual({ role: 'assistant', content: '' })
      expect(own.map(({ delta }) => delta?.content ?? '').join('')).toBe(message.content)
      expect(own.map((chunk) => chunk.finish_reason)).toEqual([...own.slice(1).map(() => null), finish])
    }
  })

  it('may be more than there are places', async () => {
    const n = limit('servedStreams') + 3
    const { choices } = await ask({ prompt: 'Hi', n, max_tokens: 1 })
    expect(choices).toHaveLength(n)
    expect(new Set(choices.map(({ text }) => text)).size).toBe(1)
  })

  it('list their tokens with the index of the choice', async () => {
    const answer = (await ask({ prompt: 'Hi', n: 2, max_tokens: 2, token_shares: true })) as Answer & {
      flexmesh: { tokens: { index: number; text: string }[] }
    }
    expect(answer.flexmesh.tokens.map(({ index }) => index)).toEqual([0, 0, 1, 1])
  })

  it('are refused if one of the prompts is too long', async () => {
    const ids = Array.from({ length: 300 }, () => 5)
    expect(await refusalOf(await post(app, { prompt: [[5], ids] }))).toEqual([400, 'context_length_exceeded'])
  })
})

describe('usage', () => {
  it('counts the tokens that are known from earlier prompts of the same key, and of no other', async () => {
    const prompt = `${TEXT} And so on.`
    const cached = async (key: string, more: object = {}): Promise<number> =>
      (await ask({ prompt, max_tokens: 1, ...more }, key)).usage.prompt_tokens_details.cached_tokens
    const all = publicModel.tokenizer.encode(prompt).length
    expect(await cached('Ann')).toBe(0)
    expect(await cached('Bob')).toBe(0)
    expect(await cached('Ann')).toBe(all)
    expect(await cached('Ann', { n: 4 })).toBe(all)
    expect(await cached('Ann', { prompt: `${TEXT} Otherwise.` })).toBeGreaterThan(16)
    expect(await cached('Eve', { prompt: `${TEXT} Otherwise.` })).toBe(0)
  })
})

describe('an echo without log-probabilities', () => {
  it.each([
    ['a text and its answer', 'Hi', 6],
    ['a text alone', 'Hi there', 0],
  ])('is %s', async (_, prompt, max_tokens) => {
    const { text } = await choiceOf({ prompt, max_tokens, echo: true })
    const plain = max_tokens === 0 ? '' : (await choiceOf({ prompt, max_tokens })).text
    expect(text).toBe(prompt + plain)
  })

  it('does not end at a stop sequence of the prompt', async () => {
    const { text } = await choiceOf({ prompt: 'Stop. Go', stop: '.', echo: true })
    expect(text.startsWith('Stop. Go')).toBe(true)
  })
})
