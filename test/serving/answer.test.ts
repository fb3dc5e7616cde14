import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Run, streamedAnswer, wholeAnswer } from '../../src/serving/answer.ts'
import { parseRequest, type RequestKind } from '../../src/serving/openai.ts'
import { UNMETERED } from '../../src/telemetry/metrics.ts'
import { fixedEngine } from '../support/inference-api.ts'

const { signal } = new AbortController()

/** A run whose engine yields these pieces. */
function runOf(pieces: readonly string[], more: object = {}, kind: RequestKind = 'chat'): Run {
  const prompt = kind === 'chat' ? { messages: [{ role: 'user', content: 'Hi' }] } : { prompt: 'Hi' }
  const engine = fixedEngine({
    generate: async function* () {
      for (const text of pieces) yield { text }
    },
  })
  const request = parseRequest({ model: 'flexmesh', ...prompt, ...more }, kind)
  return {
    engine,
    servedBy: 'node',
    request,
    kind,
    id: 'x',
    created: 0,
    prompts: [{ prompt: request.prompt, tokens: Int32Array.of(0) }],
    scope: '',
    meter: UNMETERED,
    anotherPlace: () => undefined,
  }
}

interface Chunk {
  readonly choices: readonly [{ delta?: { role?: string; content?: string }; text?: string }?]
  readonly usage?: unknown
}
async function chunksOf(run: Run): Promise<Chunk[]> {
  const events: string[] = []
  for await (const event of streamedAnswer(run, signal)) events.push(event)
  expect(events.pop()).toBe('[DONE]')
  return events.map((event) => JSON.parse(event) as Chunk)
}
const textsOf = (chunks: readonly Chunk[]): string[] =>
  chunks.map(({ choices: [choice] }) => choice?.delta?.content ?? choice?.text ?? '')

describe('a streamed chat', () => {
  it.each([
    ['text', ['Hello']],
    ['no text', []],
    ['empty pieces', ['', '', 'x']],
  ])('says first who speaks, and nothing else: %s', async (_, pieces) => {
    const [first, ...rest] = await chunksOf(runOf(pieces))
    expect(first).toMatchObject({
      object: 'chat.completion.chunk',
      choices: [{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }],
    })
    for (const { choices } of rest) expect(choices[0]?.delta).not.toHaveProperty('role')
    expect(textsOf(rest).join('')).toBe(pieces.join(''))
  })

  it('has usage in every chunk if the request asks for it, null but in the last one', async () => {
    const chunks = await chunksOf(runOf(['a', 'b'], { stream_options: { include_usage: true } }))
    expect(chunks.map(({ usage }) => usage)).toEqual([
      ...chunks.slice(1).map(() => null),
      {
        prompt_tokens: 1,
        completion_tokens: 2,
        total_tokens: 3,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 0 },
      },
    ])
    for (const chunk of await chunksOf(runOf(['a', 'b']))) expect(chunk).not.toHaveProperty('usage')
  })
})

describe('the text of a stream', () => {
  it.each([
    ['surrogates in two pieces', ['a\ud83d', '\ude00b'], [], 'a😀b'],
    ['surrogates in two pieces, text held back', ['a\ud83d', '\ude00', 'b'], ['zzz'], 'a😀b'],
    ['a stop sequence that begins with half of a character of the text', ['😀', '😁x'], ['😁'], '😀'],
    ['a stop sequence in three pieces', ['one E', 'N', 'D two'], ['END'], 'one '],
    ['the beginning of a stop sequence at the end', ['one EN'], ['END'], 'one EN'],
    ['two stop sequences, the first of which wins', ['abcdef'], ['ef', 'cd'], 'ab'],
    ['a stop sequence within a longer one', ['a', 'b', 'c'], ['abcd', 'b'], 'a'],
    ['half of a character at the end', ['ab\ud83d'], [], 'ab\ufffd'],
    ['a second half without a first', ['a\ude00b'], [], 'a\ufffdb'],
    ['a first half without a second', ['a\ud83d', 'b'], [], 'a\ufffdb'],
    ['a stop sequence after half of a character', ['a\ud83d', 'END'], ['END'], 'a\ufffd'],
    ['a flag, which is two characters', ['\ud83c', '\udde9\ud83c', '\uddea'], ['!'], '🇩🇪'],
  ])('consists of whole characters: %s', async (_, pieces, stop, expected) => {
    const chunks = textsOf(await chunksOf(runOf(pieces, { stop })))
    for (const chunk of chunks) expect(chunk.isWellFormed()).toBe(true)
    expect(chunks.join('')).toBe(expected)
  })

  it('is that of the whole answer, however it is cut into pieces', async () => {
    const alphabet = fc.constantFrom('a', 'b', 'E', 'N', 'D', '😀', '😁', 'é', '\n')
    const strings = fc.array(alphabet, { maxLength: 30 }).map((parts) => parts.join(''))
    const stops = fc.array(
      fc.array(alphabet, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('')),
      { maxLength: 4 },
    )
    const kinds = fc.constantFrom<RequestKind>('chat', 'completion')
    const property = fc.asyncProperty(
      strings,
      stops,
      fc.array(fc.nat(30)),
      kinds,
      async (text, stop, cuts, kind) => {
        const at = [0, ...cuts.filter((cut) => cut <= text.length).sort((a, b) => a - b), text.length]
        const pieces = at.slice(1).map((end, i) => text.slice(at[i], end))
        const found = stop.map((one) => text.indexOf(one)).filter((index) => index >= 0)
        const streamed = textsOf(await chunksOf(runOf(pieces, { stop }, kind)))
        for (const chunk of streamed) expect(chunk.isWellFormed()).toBe(true)
        const whole = (await wholeAnswer(runOf(pieces, { stop }, kind), signal)) as {
          choices: [{ message?: { content: string }; text?: string }]
        }
        const [choice] = whole.choices
        expect(streamed.join('')).toBe(choice.message?.content ?? choice.text)
        // A piece may end a shorter stop sequence before the longer one that begins earlier is complete.
        if (found.length <= 1) expect(streamed.join('')).toBe(text.slice(0, found[0] ?? text.length))
      },
    )
    await fc.assert(property, { seed: 15, numRuns: 500 })
  })
})

describe('the tokens of an answer', () => {
  const weights = [0.25, 0.75]
  const run = (more: object): Run => {
    const made = runOf([], more)
    const engine = {
      ...made.engine,
      generate: async function* () {
        for (const text of ['Hel', 'lo', '!']) yield { text, shares: Float32Array.from(weights) }
      },
    }
    return { ...made, engine }
  }
  const listed = ['Hel', 'lo', '!'].map((text) => ({ text, shares: weights }))
  const tokensOf = (answer: unknown): unknown =>
    (answer as { flexmesh: { tokens?: unknown } }).flexmesh.tokens

  it('are listed with the weight of every expert if the request asks for them', async () => {
    expect(tokensOf(await wholeAnswer(run({ token_shares: true }), signal))).toEqual(listed)
    expect(tokensOf(await wholeAnswer(run({}), signal))).toBeUndefined()
  })

  it('are each listed once in a stream, also those that are held back before a stop sequence', async () => {
    const chunks = await chunksOf(run({ token_shares: true, stop: ['lo!'] }))
    expect(textsOf(chunks).join('')).toBe('Hel')
    const all = chunks.flatMap((chunk) => {
      const { flexmesh } = chunk as { flexmesh?: { tokens?: unknown[] } }
      return flexmesh?.tokens ?? []
    })
    expect(all).toEqual(listed)
  })
})
