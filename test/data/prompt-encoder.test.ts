/** Prompts on their way to tokens: in a thread if they are long or if a template renders them. */
import { readFile } from 'node:fs/promises'
import { afterEach, describe, expect, it } from 'vitest'
import type { ChatMessage } from '../../src/data/chat.ts'
import type { ChatTemplate } from '../../src/data/chat-template.ts'
import { PromptEncoder, type PromptEncoderOptions } from '../../src/data/prompt-encoder.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { utf8 } from '../../src/lib/bytes.ts'

const json = await readFile(new URL('../fixtures/tokenizer/dolma2-kind.json', import.meta.url), 'utf8')
const tokenizer = Tokenizer.load(utf8(json))
const END = tokenizer.endOfText
const encoders: PromptEncoder[] = []
const never = new AbortController().signal

afterEach(() => Promise.all(encoders.splice(0).map((encoder) => encoder.close())))

function encoderOf(source?: string, options: PromptEncoderOptions = {}, own = tokenizer): PromptEncoder {
  const template: ChatTemplate | undefined =
    source === undefined ? undefined : { source, variables: { bos_token: '<|endoftext|>' } }
  const encoder = new PromptEncoder(own, template, options)
  encoders.push(encoder)
  return encoder
}

const user = (content: string): ChatMessage[] => [{ role: 'user', content }]

/** The text of tokens, in which the end of text is visible. */
function decoded(ids: Int32Array, own = tokenizer): string {
  const stream = own.decodeStream()
  return (
    Array.from(ids, (id) => (id === END ? `${stream.flush()}[END]` : stream.push(id))).join('') +
    stream.flush()
  )
}

describe('a prompt', () => {
  it('has the same tokens at once and in the thread, after the end of text', async () => {
    const encoder = encoderOf()
    const text = 'Un texte avec <|endoftext|> et des mots.\n'
    const long = text.repeat(500)
    expect(Array.from(await encoder.encode(text, never))).toEqual([END, ...tokenizer.encode(text)])
    expect(Array.from(await encoder.encode(long, never))).toEqual([END, ...tokenizer.encode(long)])
  })

  it('is encoded while the event loop goes on', async () => {
    const encoder = encoderOf()
    const work = encoder.encode(' '.repeat(1_000_000), never)
    let isDone = false
    void work.finally(() => {
      isDone = true
    })
    let turns = 0
    while (!isDone) {
      await new Promise((resolve) => setImmediate(resolve))
      turns++
    }
    expect((await work).length).toBe(1_000_001)
    expect(turns).toBeGreaterThan(100)
  })

  it('may be given up, and others go on', async () => {
    const encoder = encoderOf()
    const gone = new AbortController()
    const long = 'ab'.repeat(50_000)
    const first = encoder.encode(long, gone.signal)
    const waiting = encoder.encode(long, gone.signal)
    const other = encoder.encode('ab'.repeat(5000), never)
    gone.abort(new Error('the client has left'))
    await expect(first).rejects.toThrow('has left')
    await expect(waiting).rejects.toThrow('has left')
    await expect(encoder.encode('short', gone.signal)).rejects.toThrow('has left')
    expect((await other).length).toBeGreaterThan(1)
  })

  it('that takes too long is refused in a sentence, and the next one is encoded', async () => {
    // This expression takes time that grows exponentially with the length of a run.
    const pre_tokenizer = {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: '(a+)+b|\\s+' }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
      ],
    }
    const slow = Tokenizer.load(utf8(JSON.stringify({ ...(JSON.parse(json) as object), pre_tokenizer })))
    const encoder = encoderOf(undefined, { timeout: 300 }, slow)
    await expect(encoder.encode('a'.repeat(5000), never)).rejects.toMatchObject({
      code: 'too-large',
      message: expect.stringContaining('takes longer than 0.3 s'),
    })
    expect(decoded(await encoder.encode('c '.repeat(3000), never), slow)).toBe(`[END]${'c '.repeat(3000)}`)
  })

  it('fails when the encoder is closed', async () => {
    const encoder = encoderOf()
    const work = encoder.encode('ab'.repeat(50_000), never)
    const failed = expect(work).rejects.toThrow('is closed')
    await encoder.close()
    await failed
    await expect(encoder.encode('short', never)).rejects.toThrow('is closed')
  })
})

/** As OLMo-2-Instruct writes chats. */
const OLMO =
  "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"

describe('the messages of a chat', () => {
  it('are lines without a template', async () => {
    const messages: ChatMessage[] = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hi <|endoftext|>' },
    ]
    const ids = await encoderOf().encode(messages, never)
    expect(decoded(ids)).toBe('[END]System: Be brief.\nUser: Hi <|endoftext|>\nAssistant:')
  })

  it('are rendered by the template of the model, which alone writes special tokens', async () => {
    const encoder = encoderOf(OLMO)
    expect(decoded(await encoder.encode(user('Hi'), never))).toBe('[END]<|user|>\nHi\n<|assistant|>\n')
    const spelled = user('<|endoftext|> <|fim_prefix|>\ufdd0')
    expect(decoded(await encoder.encode(spelled, never))).toBe(
      '[END]<|user|>\n<|endoftext|> <|fim_prefix|>\ufdd0\n<|assistant|>\n',
    )
  })

  it('cannot spell special tokens that are found in normalized text', async () => {
    const file = JSON.parse(json) as { added_tokens: { normalized: boolean }[]; normalizer: unknown }
    for (const token of file.added_tokens) token.normalized = true
    file.normalizer = { type: 'Sequence', normalizers: [{ type: 'NFKC' }, { type: 'Lowercase' }] }
    const own = Tokenizer.load(utf8(JSON.stringify(file)))
    const encoder = encoderOf('{{ bos_token }}{{ messages[0].content }}', {}, own)
    const ids = await encoder.encode(user('<|ENDOFTEXT|> ＜|endoftext|＞ a < b'), never)
    expect(decoded(ids, own)).toBe('[END]<|endoftext|> <|endoftext|> a < b')
  })

  it('tell of tools in words if the template does not take them', async () => {
    const chat = {
      tools: [{ name: 'find', description: 'Finds.', parameters: { type: 'object' } }],
      messages: [
        ...user('Find it.'),
        {
          role: 'assistant' as const,
          content: '',
          toolCalls: [{ id: 'call_1', name: 'find', arguments: '{"q":"<|endoftext|>"}' }],
        },
        { role: 'tool' as const, content: 'Article 1', toolCallId: 'call_1' },
      ],
    }
    const lines = [
      'System: You may call these tools:',
      '{"name":"find","description":"Finds.","parameters":{"type":"object"}}',
      'To call a tool, write <tool_call>{"name": NAME, "arguments": {...}}</tool_call>.',
      'User: Find it.',
      'Assistant: <tool_call>{"name": "find", "arguments": {"q":"<|endoftext|>"}}</tool_call>',
      'User: <tool_response>Article 1</tool_response>',
      'Assistant:',
    ]
    expect(decoded(await encoderOf().encode(chat, never))).toBe(`[END]${lines.join('\n')}`)
    const system = { ...chat, messages: [{ role: 'system' as const, content: 'Be brief.' }, ...user('Hi')] }
    expect(decoded(await encoderOf(OLMO).encode(system, never))).toMatch(
      /^\[END\]<\|system\|>\nBe brief\.\n\nYou may call these tools:\n\{"name":"find"/,
    )
  })

  it('give tools, calls and results to a template that takes them', async () => {
    const source =
      '{{ tools | tojson }} {% for m in messages %}{{ m.role }}:{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.q }}{% endif %}{{ m.tool_call_id }};{% endfor %}'
    const chat = {
      tools: [{ name: 'find', description: 'Finds <|endoftext|>.' }],
      messages: [
        {
          role: 'assistant' as const,
          content: '',
          toolCalls: [{ id: 'call_1', name: 'find', arguments: '{"q":"<|endoftext|>"}' }],
        },
        { role: 'tool' as const, content: 'x', toolCallId: 'call_1' },
      ],
    }
    expect(decoded(await encoderOf(source).encode(chat, never))).toBe(
      '[{"type": "function", "function": {"name": "find", "description": "Finds <|endoftext|>."}}] assistant:<|endoftext|>;tool:xcall_1;',
    )
  })

  it('reach a template that takes them apart', async () => {
    const source = "{{ messages[0].content.split('</think>')[-1] | trim }}"
    const ids = await encoderOf(source).encode(user('<think>hm</think>  yes  '), never)
    expect(decoded(ids)).toBe('yes')
  })

  it.each([
    [
      'raises an exception',
      "{{ raise_exception('roles must alternate') }}",
      'bad-field',
      'roles must alternate',
    ],
    ['is no Jinja', '{% if %}', 'bad-field', 'is invalid'],
    ['calls what is undefined', '{{ messages.nothing.more() }}', 'bad-field', 'is invalid'],
    [
      'calls itself without end',
      '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
      'bad-field',
      'is invalid',
    ],
    ['writes nothing', '', 'bad-field', 'writes nothing'],
    [
      'writes without end',
      `{% for i in range(200) %}{% for j in range(200) %}${'x'.repeat(200)}{% endfor %}{% endfor %}`,
      'too-large',
      'characters',
    ],
    [
      'takes all memory',
      '{% set x = namespace(a=messages[0].content) %}{% for i in range(60) %}{% set x.a = [x.a, x.a, range(100000)] %}{% set x.b = x.a | tojson %}{% endfor %}',
      'too-large',
      'takes',
    ],
    [
      'does not end',
      '{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}',
      'too-large',
      'takes longer',
    ],
  ])('are refused in a sentence if the template %s', async (_, source, code, words) => {
    const encoder = encoderOf(source, { timeout: 3000 })
    await expect(encoder.encode(user('Hi'), never)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(words),
    })
    expect((await encoder.encode('A completion goes on.', never)).length).toBeGreaterThan(1)
  })
})
