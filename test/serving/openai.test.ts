import { describe, expect, it } from 'vitest'
import { FormatError } from '../../src/lib/errors.ts'
import { parseRequest } from '../../src/serving/openai.ts'

const plain = { model: 'flexmesh', prompt: 'Hello' }

/** The member that a refusal names. */
function refusedMember(body: object): unknown {
  try {
    parseRequest(body, 'completion')
  } catch (error) {
    if (error instanceof FormatError) return error.fields['param']
    throw error
  }
  return undefined
}

describe('a request without a seed', () => {
  it('draws a seed of its own', () => {
    const seeds = Array.from({ length: 20 }, () => parseRequest(plain, 'completion').seed)
    expect(new Set(seeds).size).toBeGreaterThan(15)
    for (const seed of seeds) {
      expect(Number.isInteger(seed)).toBe(true)
      expect(seed).toBeGreaterThanOrEqual(0)
      expect(seed).toBeLessThan(2 ** 32)
    }
  })

  it('is the same as one whose seed is null', () => {
    const seeds = Array.from({ length: 20 }, () => parseRequest({ ...plain, seed: null }, 'completion').seed)
    expect(new Set(seeds).size).toBeGreaterThan(15)
  })
})

describe('a request without a number of tokens', () => {
  const messages = [{ role: 'user', content: 'Hello' }]
  const format = { response_format: { type: 'json_object' } }

  it.each([
    ['a completion', 'completion', plain, 64],
    ['a completion with a format', 'completion', { ...plain, ...format }, 1024],
    ['a chat', 'chat', { model: 'flexmesh', messages }, 1024],
  ] as const)('has a default: %s', (_, kind, body, maxTokens) => {
    expect(parseRequest(body, kind).maxTokens).toBe(maxTokens)
  })
})

describe('a request', () => {
  it('keeps its seed', () => {
    expect(parseRequest({ ...plain, seed: 0 }, 'completion').seed).toBe(0)
    expect(parseRequest({ ...plain, seed: 2 ** 32 - 1 }, 'completion').seed).toBe(2 ** 32 - 1)
  })

  it.each([
    ['seed', { seed: 2 ** 32 }],
    ['seed', { seed: 1.5 }],
    ['temperature', { temperature: '1' }],
    ['max_completion_tokens', { max_completion_tokens: 0 }],
    ['max_completion_tokens', { max_tokens: 5, max_completion_tokens: 0 }],
    ['max_tokens', { max_tokens: 0, max_completion_tokens: 5 }],
    ['experts', { experts: ['law'] }],
    ['experts.exlude', { experts: { exlude: ['law'] } }],
    ['experts.include', { experts: { include: 'law' } }],
    ['experts.exclude', { experts: { exclude: [null] } }],
    ['stream_options', { stream_options: 5 }],
    ['stream_options', { stream_options: [] }],
    ['stream_options.include_usage', { stream_options: { include_usage: 1 } }],
    ['user', { user: {} }],
    ['user', { user: 'x'.repeat(2000) }],
    ['prompt', { prompt: [] }],
    ['prompt', { prompt: [['x']] }],
    ['prompt', { prompt: [1, 'a'] }],
    ['prompt', { prompt: ['a', 7] }],
    ['prompt', { prompt: 'a\ud83d' }],
    ['stop', { stop: ['\ud83d'] }],
    ['stop', { stop: [null] }],
    ['seed', { seed: -1 }],
  ])('is refused for its member %s', (member, change) => {
    expect(refusedMember({ ...plain, ...change })).toBe(member)
  })
})

describe('a member that the server does not support', () => {
  it.each<[string, unknown, unknown]>([
    ['n', 1, 129],
    ['n', 1, '1'],
    ['n', 1, true],
    ['best_of', 1, 3],
    ['logprobs', false, true],
    ['logprobs', 0, 21],
    ['top_logprobs', 0, 1],
    ['logit_bias', {}, 'none'],
    ['logit_bias', { 5: 0 }, { 5: 0, 6: null }],
    ['presence_penalty', 0, 2.1],
    ['frequency_penalty', -0, -2.1],
    ['repetition_penalty', 1, 1.1],
    ['top_k', -1, 1],
    ['top_k', 0, 40],
    ['min_p', 0, 0.05],
    ['echo', false, 'yes'],
    ['suffix', '', 'x'],
    ['ignore_eos', false, true],
    ['stop_token_ids', [], [1]],
    ['tools', [], [{}]],
    ['tools', [], {}],
    ['tool_choice', 'none', 'required'],
    ['tool_choice', 'auto', { type: 'function' }],
    ['functions', [], [{}]],
    ['function_call', 'auto', { name: 'f' }],
    ['modalities', ['text'], ['text', 'audio']],
    ['modalities', ['text'], []],
    ['audio', null, { voice: 'x' }],
    ['web_search_options', null, {}],
    ['guided_json', null, {}],
    ['chat_template', null, 'x'],
  ])('%s may be %j, but not %j', (member, neutral, other) => {
    expect(parseRequest({ ...plain, [member]: neutral }, 'completion').ignored).toEqual([])
    expect(parseRequest({ ...plain, [member]: null }, 'completion').ignored).toEqual([])
    expect(refusedMember({ ...plain, [member]: other })).toBe(member)
  })
})

describe('a member without effect', () => {
  it.each<[string, unknown]>([
    ['trace', 'b7'],
    ['reasoning_effort', 'low'],
    ['verbosity', 'high'],
    ['prediction', {}],
    ['metadata', { a: 'b' }],
    ['store', true],
    ['service_tier', 'flex'],
    ['safety_identifier', 'x'],
    ['__proto__x', 1],
    ['toString', 1],
    ['include_reasoning', true],
    ['messages', []],
  ])('is named in the answer: %s', (member, value) => {
    expect(parseRequest({ ...plain, [member]: value }, 'completion').ignored).toEqual([member])
    expect(parseRequest({ ...plain, [member]: null }, 'completion').ignored).toEqual([])
  })

  it.each<[string, unknown]>([
    ['store', false],
    ['metadata', {}],
    ['service_tier', 'auto'],
    ['service_tier', 'default'],
    ['parallel_tool_calls', true],
    ['user', ''],
  ])('is not named if it asks for nothing: %s %j', (member, value) => {
    expect(parseRequest({ ...plain, [member]: value }, 'completion').ignored).toEqual([])
  })

  it('is named with its place in a message or in the options of the stream', () => {
    const messages = [{ role: 'user', content: 'x', name: 'Ann', annotations: [] }]
    const body = { model: 'flexmesh', messages, stream_options: { include_obfuscation: true, a: false } }
    expect(parseRequest(body, 'chat').ignored).toEqual([
      'messages[0].name',
      'stream_options.include_obfuscation',
    ])
  })

  it('is named with at most 40 characters, and at most 32 are named', () => {
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`${'x'.repeat(50)}${i}`, 1]))
    const { ignored } = parseRequest({ ...plain, ...many }, 'completion')
    expect([ignored.length, ignored[0]]).toEqual([32, 'x'.repeat(40)])
  })

  it('from JSON cannot change what other objects are', () => {
    const body: unknown = JSON.parse('{"model": "flexmesh", "prompt": "x", "__proto__": {"stream": true}}')
    expect(parseRequest(body, 'completion')).toMatchObject({ stream: false, ignored: ['__proto__'] })
  })
})

describe('a member that looks like a choice of experts', () => {
  it.each(['exclude', 'include', 'expert', 'Experts', 'expets', 'exlude', 'exclude_experts', 'EXCLUDE'])(
    'is refused, because ignoring it would use the expert: %s',
    (member) => {
      expect(refusedMember({ ...plain, [member]: ['law'] })).toBe(member)
    },
  )
})

describe('the messages of a chat', () => {
  const read = (...messages: unknown[]) => parseRequest({ model: 'flexmesh', messages }, 'chat').prompt

  it.each<[string, unknown, unknown]>([
    ['a developer', { role: 'developer', content: 'x' }, { role: 'system', content: 'x' }],
    ['empty text', { role: 'user', content: '' }, { role: 'user', content: '' }],
    ['an empty turn', { role: 'assistant' }, { role: 'assistant', content: '' }],
    ['a null turn', { role: 'assistant', content: null }, { role: 'assistant', content: '' }],
    [
      'a refusal',
      { role: 'assistant', content: null, refusal: 'No.' },
      { role: 'assistant', content: 'No.' },
    ],
    [
      'parts',
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: '' },
          { type: 'text', text: 'b' },
        ],
      },
      { role: 'user', content: 'a\n\nb' },
    ],
    ['no parts', { role: 'user', content: [] }, { role: 'user', content: '' }],
    [
      'a refusal as a part',
      { role: 'assistant', content: [{ type: 'refusal', refusal: 'No.' }] },
      { role: 'assistant', content: 'No.' },
    ],
    [
      'an answer of the API itself',
      { role: 'assistant', content: 'x', refusal: null, audio: null, tool_calls: [], function_call: null },
      { role: 'assistant', content: 'x' },
    ],
  ])('may have %s', (_, message, expected) => {
    expect(read(message)).toEqual([expected])
  })

  it.each<[string, unknown]>([
    ['messages[1]', null],
    ['messages[1]', []],
    ['messages[1].role', { content: 'x' }],
    ['messages[1].role', { role: 'function', content: 'x' }],
    ['messages[1].role', { role: ['user'], content: 'x' }],
    ['messages[1].content', { role: 'user' }],
    ['messages[1].content', { role: 'system', content: null }],
    ['messages[1].content', { role: 'user', content: 5 }],
    ['messages[1].content', { role: 'user', content: { type: 'text', text: 'x' } }],
    ['messages[1].content', { role: 'user', content: '\ude00' }],
    ['messages[1].content[0]', { role: 'user', content: ['x'] }],
    ['messages[1].content[0].type', { role: 'user', content: [{ type: 'input_audio' }] }],
    ['messages[1].content[0].type', { role: 'user', content: [{ type: 'refusal', refusal: 'x' }] }],
    [
      'messages[1].content[1].text',
      { role: 'user', content: [{ type: 'text', text: 'x' }, { type: 'text' }] },
    ],
    ['messages[1].tool_calls[0].function', { role: 'assistant', content: 'x', tool_calls: [{}] }],
    ['messages[1].tool_calls', { role: 'user', content: 'x', tool_calls: [{}] }],
    ['messages[1].tool_call_id', { role: 'tool', content: 'x' }],
    ['messages[1].tool_call_id', { role: 'user', content: 'x', tool_call_id: 'a' }],
    ['messages[1].function_call', { role: 'assistant', content: 'x', function_call: {} }],
  ])('are refused for %s: %j', (member, message) => {
    const messages = [{ role: 'user', content: 'Hi' }, message]
    expect(() => parseRequest({ model: 'flexmesh', messages }, 'chat')).toThrow(FormatError)
    try {
      parseRequest({ model: 'flexmesh', messages }, 'chat')
    } catch (error) {
      expect((error as FormatError).fields['param']).toBe(member)
    }
  })
})
