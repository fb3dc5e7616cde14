/** Answers with a form, and embeddings, as OpenAI's client asks for them, of a node that computes them with random weights. */
import '../../src/lib/node20.ts'
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI, { BadRequestError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { corpus } from '../../scripts/conformance/schemas/corpus.ts'
import { Composer } from '../../src/composition/composer.ts'
import { PromptEncoder } from '../../src/data/prompt-encoder.ts'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { localBackend } from '../../src/serving/local-engine.ts'
import { type RunningServer, startServer } from '../../src/serving/server.ts'
import { countingEngine, loadTinyModel, TINY_DIGEST } from '../support/compositions.ts'
import { cleanUp } from '../support/folders.ts'

const KEY = 'k'.repeat(32)
const model = 'flexmesh'
const messages = [{ role: 'user' as const, content: 'Fill in the form.' }]
const point = {
  type: 'object',
  properties: { x: { type: 'integer', minimum: 0, maximum: 99 }, y: { type: 'boolean' } },
  required: ['x', 'y'],
  additionalProperties: false,
}
const isPoint = new Ajv2020().compile(point)
const tools = [
  { type: 'function' as const, function: { name: 'place', parameters: point } },
  { type: 'function' as const, function: { name: 'stop' } },
]
/** Biases towards the signs that end strings and objects. */
let closing: Record<string, number>
let composer: Composer
let prompts: PromptEncoder
let server: RunningServer
let client: OpenAI

beforeAll(async () => {
  const publicModel = await loadTinyModel()
  prompts = new PromptEncoder(publicModel.tokenizer, undefined)
  composer = new Composer({
    engine: countingEngine(),
    publicModel,
    publicModelDigest: TINY_DIGEST,
    topK: 1,
    router: 'rows',
    weights: 'fp32',
    experts: () => [],
    publicStatistics: () => Promise.reject(new Error('not needed to route by rows')),
    onComposed: () => undefined,
  })
  await composer.recompose()
  closing = Object.fromEntries(['"', '}'].map((sign) => [`${publicModel.tokenizer.encode(sign)[0]}`, 100]))
  const local = localBackend(composer, prompts, publicModel.tokenizer, publicModel.endsOfText)
  const app = createApp({
    backendFor: () => local,
    callers: fixedCallers([KEY]),
    isOwnHost: () => true,
    now: () => 0,
  })
  server = await startServer(app, 0)
  client = new OpenAI({ baseURL: `http://127.0.0.1:${server.port}/v1`, apiKey: KEY, maxRetries: 0 })
})
afterAll(async () => {
  await server.close()
  await composer.dispose()
  await prompts.close()
  await cleanUp()
})

function formatOf(schema: object): OpenAI.ResponseFormatJSONSchema {
  return {
    type: 'json_schema',
    json_schema: { name: 'form', strict: true, schema: schema as Record<string, unknown> },
  }
}

describe("OpenAI's client", () => {
  it('gets values of its schemas', async () => {
    const entries = corpus().slice(0, 12)
    const answers = await Promise.all(
      entries.map(({ prompt, schema }, seed) =>
        client.chat.completions.create({
          model,
          messages: [{ role: 'user', content: prompt }],
          response_format: formatOf(schema as object),
          max_completion_tokens: 100,
          seed,
        }),
      ),
    )
    let complete = 0
    answers.forEach(({ choices: [choice] }, i) => {
      if (choice?.finish_reason !== 'stop') return
      complete++
      const schema = entries[i]?.schema as object
      const value: unknown = JSON.parse(choice.message.content ?? '')
      expect(new Ajv2020({ strict: false }).compile(schema)(value), JSON.stringify([schema, value])).toBe(
        true,
      )
    })
    expect(complete).toBeGreaterThan(8)
  })

  it('gets a streamed value, in a chat and in a completion', async () => {
    const request = { model, response_format: formatOf(point), seed: 3 }
    const stream = client.chat.completions.stream({ ...request, messages })
    expect(isPoint(JSON.parse((await stream.finalMessage()).content ?? ''))).toBe(true)
    const completion = { ...request, prompt: 'Form:', temperature: 0 }
    const { choices } = await client.completions.create(completion)
    expect(isPoint(JSON.parse(choices[0]?.text ?? ''))).toBe(true)
  })

  it('is told that a value is incomplete if the tokens are used up', async () => {
    const answer = await client.chat.completions.create({
      model,
      messages,
      response_format: formatOf({ type: 'string', minLength: 500 }),
      max_tokens: 20,
    })
    expect(answer.choices[0]?.finish_reason).toBe('length')
    expect(answer.choices[0]?.message.content).toMatch(/^"[^"]/)
  })

  it('gets an object, of which nothing else is known', async () => {
    const answer = await client.chat.completions.create({
      model,
      messages,
      response_format: { type: 'json_object' },
      logit_bias: closing,
      seed: 1,
    })
    expect(answer.choices[0]?.finish_reason).toBe('stop')
    expect(JSON.parse(answer.choices[0]?.message.content ?? '')).toBeTypeOf('object')
  })

  it('gets calls of tools', async () => {
    const request = { model, messages, tools, seed: 5, max_tokens: 120 }
    const required = await client.chat.completions.create({
      ...request,
      tool_choice: 'required',
      parallel_tool_calls: false,
    })
    expect(required.choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
    const call = functionOf(required.choices[0]?.message.tool_calls?.[0])
    if (call.name === 'stop') expect(call.arguments).toBe('{}')
    else expect(isPoint(JSON.parse(call.arguments))).toBe(true)

    const chosen = { type: 'function' as const, function: { name: 'place' } }
    const stream = client.chat.completions.stream({ ...request, tool_choice: chosen })
    const message = await stream.finalMessage()
    expect(message.tool_calls).toHaveLength(1)
    expect(functionOf(message.tool_calls?.[0]).name).toBe('place')
    expect(isPoint(JSON.parse(functionOf(message.tool_calls?.[0]).arguments))).toBe(true)
  })

  it('can give calls and their results back', async () => {
    const answer = await client.chat.completions.create({
      model,
      messages: [
        ...messages,
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'place', arguments: '{"x":1}' } }],
        },
        { role: 'tool', tool_call_id: 'call_1', content: 'done' },
      ],
      max_tokens: 5,
      tools: tools.slice(0, 1),
      tool_choice: 'none',
    })
    expect(answer.choices[0]?.message.tool_calls).toBeUndefined()
    expect(answer.usage?.prompt_tokens).toBeGreaterThan(40)
  })

  it('learns which keyword is not supported', async () => {
    const refusal = client.chat.completions.create({
      model,
      messages,
      response_format: formatOf({ type: 'string', pattern: 'a' }),
    })
    await expect(refusal).rejects.toBeInstanceOf(BadRequestError)
    await expect(refusal).rejects.toThrow(/keyword "pattern" is not supported/)
  })

  it('gets embeddings', async () => {
    const input = ['Article 1', 'What is a protein?', 'Article 1']
    const { data, usage } = await client.embeddings.create({ model, input, encoding_format: 'float' })
    expect(data.map(({ index }) => index)).toEqual([0, 1, 2])
    const [first = [], second = [], again] = data.map(({ embedding }) => embedding)
    expect(again).toEqual(first)
    expect(first).not.toEqual(second)
    expect(first.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(1, 5)
    expect(usage.total_tokens).toBeGreaterThan(10)
    // The client asks for base64 by itself.
    const coded = await client.embeddings.create({ model, input })
    expect(coded.data.map(({ embedding }) => embedding)).toEqual(data.map(({ embedding }) => embedding))
    // The end of text before a text does not count.
    const tokens = Array.from(await prompts.encode('Article 1', new AbortController().signal))
    const ids = await client.embeddings.create({
      model,
      input: [tokens, tokens.slice(1)],
      encoding_format: 'float',
    })
    expect(ids.data[0]?.embedding).toEqual(first)
    expect(ids.data[1]?.embedding).not.toEqual(first)
  })

  it.each([
    ['dimensions', { input: 'a', dimensions: 8 }],
    ['input', { input: [] }],
    ['input', { input: [[1, 5000]] }],
    ['input', { input: 'a '.repeat(300) }],
    ['experts', { input: 'a', experts: { include: ['nobody'] } }],
  ])('learns that embeddings are refused for %s: %j', async (param, more) => {
    const refusal = client.embeddings.create({ model, ...more })
    await expect(refusal).rejects.toMatchObject({ status: 400, param })
  })

  it('gets a response, whole and streamed', async () => {
    const request = {
      model,
      input: 'Fill in the form.',
      instructions: 'Be brief.',
      text: { format: { type: 'json_schema' as const, name: 'form', schema: point } },
    }
    const response = await client.responses.create(request)
    expect(response).toMatchObject({ status: 'completed', store: false, instructions: 'Be brief.' })
    expect(isPoint(JSON.parse(response.output_text))).toBe(true)

    const types: string[] = []
    let text = ''
    for await (const event of await client.responses.create({ ...request, stream: true })) {
      expect(event.sequence_number).toBe(types.length)
      types.push(event.type)
      if (event.type === 'response.output_text.delta') text += event.delta
    }
    expect(isPoint(JSON.parse(text))).toBe(true)
    expect(types.filter((type, i) => type !== types[i - 1])).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ])
  })

  it('gets a call in a response, and gives its output back', async () => {
    const request = { model, max_output_tokens: 100, seed: 2 }
    const [tool] = tools
    const described = {
      type: 'function' as const,
      strict: true,
      ...tool?.function,
      name: 'place',
      parameters: point,
    }
    const stream = client.responses.stream({
      ...request,
      input: 'Place it.',
      tools: [described],
      tool_choice: { type: 'function', name: 'place' },
    })
    const { output } = await stream.finalResponse()
    const call = output.find((item) => item.type === 'function_call')
    expect(isPoint(JSON.parse(call?.arguments ?? ''))).toBe(true)
    const next = await client.responses.create({
      ...request,
      input: [
        { role: 'user', content: 'Place it.' },
        ...(call === undefined ? [] : [call]),
        { type: 'function_call_output', call_id: call?.call_id ?? '', output: 'done' },
      ],
    })
    expect(next.usage?.input_tokens).toBeGreaterThan(20)
  })
})

function functionOf(call: OpenAI.ChatCompletionMessageToolCall | undefined): {
  name: string
  arguments: string
} {
  if (call?.type !== 'function') throw new Error('expected a call of a function')
  return call.function
}
