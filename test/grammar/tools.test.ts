/** Answers that call tools: what may be written, and how it is read. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Grammar } from '../../src/grammar/grammar.ts'
import { type AnswerPart, ToolCallReader } from '../../src/grammar/tool-call-reader.ts'
import { type ToolRules, toolProgram } from '../../src/grammar/tool-program.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { smallVocabulary, tokensOf, write } from '../support/grammar.ts'

const vocabulary = smallVocabulary(readFileSync('models/small/tokenizer.json'))
const tools = [
  {
    name: 'add',
    parameters: { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] },
    param: 'a',
  },
  { name: 'stop', parameters: { type: 'object', properties: {}, additionalProperties: false }, param: 'b' },
]

function follows(rules: Omit<ToolRules, 'tools'>, text: string): boolean {
  const grammar = new Grammar(toolProgram({ ...rules, tools }), vocabulary)
  let state = grammar.start()
  for (const byte of Buffer.from(text)) {
    const token = vocabulary.bytes.findIndex((bytes) => bytes.length === 1 && bytes[0] === byte)
    const next = grammar.after(state, token)
    if (next === null) return false
    state = next
  }
  return tokensOf(grammar.mask(state)).some((id) => vocabulary.ends.includes(id))
}

const STOP = '<tool_call>{"name": "stop", "arguments": {}}</tool_call>'

describe('an answer with tools', () => {
  it.each([
    ['text alone', 'Hello <b> <tool> <tool_cal\n', { otherwise: { kind: 'text' }, calls: 1 }, true],
    ['a call after text', `Well: ${STOP}`, { otherwise: { kind: 'text' }, calls: 1 }, true],
    ['text after a call', `${STOP} Well`, { otherwise: { kind: 'text' }, calls: 1 }, false],
    ['an unfinished call', '<tool_call>Hello', { otherwise: { kind: 'text' }, calls: 1 }, false],
    ['text in place of a call', 'Hello', { otherwise: undefined, calls: 1 }, false],
    ['two calls', `${STOP}\n${STOP}`, { otherwise: undefined, calls: 2 }, true],
    ['one call too many', `${STOP}${STOP}`, { otherwise: undefined, calls: 1 }, false],
    [
      'arguments against the schema',
      STOP.replace('{}', '{"a":1}'),
      { otherwise: undefined, calls: 1 },
      false,
    ],
    ['an unknown tool', STOP.replace('stop', 'go'), { otherwise: undefined, calls: 1 }, false],
    ['JSON in place of a call', '{"a":1}', { otherwise: { kind: 'object' }, calls: 1 }, true],
  ] as const)('%s', (_, text, rules, isAllowed) => {
    expect(follows(rules, text)).toBe(isAllowed)
  })

  it('that must call one is a call, whichever tokens are chosen', () => {
    const program = toolProgram({ tools, otherwise: undefined, calls: 1 })
    const random = mulberry32(3)
    for (let i = 0; i < 10; i++) {
      const reader = new ToolCallReader()
      const parts = reader.push(write({ program, vocabulary, random, mostTokens: 200 }) ?? '')
      expect(parts.map(({ kind }) => kind)).toEqual(['call', 'arguments', 'end'])
    }
  })
})

describe('the reader of calls', () => {
  const joined = (parts: readonly AnswerPart[]): AnswerPart[] => {
    const list: AnswerPart[] = []
    for (const part of parts) {
      const last = list.at(-1)
      if (last !== undefined && 'text' in part && 'text' in last && last.kind === part.kind)
        list[list.length - 1] = { ...part, text: last.text + part.text }
      else list.push(part)
    }
    return list
  }
  const text =
    'So <tool: <tool_call>\n{"name": "add", "arguments": {"a": "}]\\"", "b": [{}]}}\n</tool_call>\n<tool_call>{"name":"stop","arguments":{}}</tool_call>'
  const expected = [
    { kind: 'text', text: 'So <tool: ' },
    { kind: 'call', name: 'add' },
    { kind: 'arguments', text: '{"a": "}]\\"", "b": [{}]}' },
    { kind: 'end' },
    { kind: 'call', name: 'stop' },
    { kind: 'arguments', text: '{}' },
    { kind: 'end' },
  ]

  it.each([1, 2, 7, 500])('separates text and calls in pieces of %d characters', (size) => {
    const reader = new ToolCallReader()
    const parts: AnswerPart[] = []
    for (let i = 0; i < text.length; i += size) parts.push(...reader.push(text.slice(i, i + size)))
    expect(joined([...parts, ...reader.flush()])).toEqual(expected)
  })

  it('keeps text that only looks like the beginning of a call', () => {
    const reader = new ToolCallReader()
    expect(joined([...reader.push('a < b <tool_c'), ...reader.flush()])).toEqual([
      { kind: 'text', text: 'a < b <tool_c' },
    ])
  })

  it('reports the arguments of a call that is cut off', () => {
    const reader = new ToolCallReader()
    const parts = [...reader.push('<tool_call>{"name": "add", "arguments": {"a": 1'), ...reader.flush()]
    expect(parts).toEqual([
      { kind: 'call', name: 'add' },
      { kind: 'arguments', text: '{"a": 1' },
    ])
  })
})
