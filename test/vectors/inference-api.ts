/** Test vectors of protocols/inference-api: request bodies. */
import { parseRequest } from '../../src/serving/openai.ts'
import { byFileName, type Case, type Vector, type VectorSuite, vectorsOf } from './vector.ts'

const model = 'flexmesh'
const prompt = 'Article 1'
const messages = [{ role: 'user', content: 'What is a protein?' }]

const COMPLETION: readonly (readonly [...Case, unknown])[] = [
  ['plain', 'accept', 'model and prompt', { model, prompt }],
  [
    'all-fields',
    'accept',
    'everything that is supported',
    {
      model,
      prompt,
      max_tokens: 16,
      temperature: 0.7,
      top_p: 0.9,
      seed: 7,
      stop: ['\n'],
      stream: true,
      stream_options: { include_usage: true },
      n: 1,
      user: 'u',
      experts: { include: ['case-law'], exclude: [] },
    },
  ],
  ['no-model', 'bad-field', 'a model is named', { prompt }],
  ['no-prompt', 'bad-field', 'a prompt is text', { model }],
  ['empty-prompt', 'bad-field', 'at least one character', { model, prompt: '' }],
  ['list-prompt', 'bad-field', 'one prompt a request', { model, prompt: [prompt] }],
  ['unknown-field', 'bad-field', 'nothing is silently ignored', { model, prompt, logit_bias: {} }],
  ['two-answers', 'bad-field', 'one answer a request', { model, prompt, n: 2 }],
  [
    'too-many-tokens',
    'bad-field',
    'checked before anything is allocated',
    { model, prompt, max_tokens: 1_000_000 },
  ],
  ['no-tokens', 'bad-field', 'at least one', { model, prompt, max_tokens: 0 }],
  ['token-fraction', 'bad-field', 'whole tokens', { model, prompt, max_tokens: 1.5 }],
  ['hot', 'bad-field', 'temperature up to 2', { model, prompt, temperature: 3 }],
  ['cold', 'bad-field', 'temperature from 0', { model, prompt, temperature: -1 }],
  ['top-p-zero', 'bad-field', 'nothing could be drawn', { model, prompt, top_p: 0 }],
  ['five-stops', 'bad-field', 'at most four', { model, prompt, stop: ['a', 'b', 'c', 'd', 'e'] }],
  ['empty-stop', 'bad-field', 'an empty stop would stop at once', { model, prompt, stop: '' }],
  ['stream-text', 'bad-field', 'true or false', { model, prompt, stream: 'yes' }],
  ['experts-list', 'bad-field', 'an object with include and exclude', { model, prompt, experts: 'all' }],
  ['list-body', 'bad-field', 'a JSON object', [model, prompt]],
  ['null-body', 'bad-field', 'a JSON object', null],
]

const CHAT: readonly (readonly [...Case, unknown])[] = [
  ['plain', 'accept', 'one message of a user', { model, messages }],
  ['no-messages', 'bad-field', 'at least one message', { model, messages: [] }],
  ['prompt', 'bad-field', 'messages, not a prompt', { model, prompt }],
  [
    'other-role',
    'bad-field',
    'system, user or assistant',
    { model, messages: [{ role: 'tool', content: 'x' }] },
  ],
  [
    'parts',
    'bad-field',
    'text only',
    { model, messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }] }] },
  ],
]

function makeVectors(): Record<string, Vector> {
  const suite = (kind: 'completion' | 'chat', cases: typeof CHAT): Vector[] =>
    vectorsOf(kind, 'inference-api Requests', cases, (body) => ({ decoder: kind, body }))
  return byFileName([...suite('completion', COMPLETION), ...suite('chat', CHAT)])
}

function runVector(input: Readonly<Record<string, unknown>>): unknown {
  return parseRequest(input['body'], input['decoder'] as 'completion' | 'chat', () => 0)
}

export const inferenceApi: VectorSuite = { makeVectors, runVector }
