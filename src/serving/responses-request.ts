/**
 * Requests of `/v1/responses` as requests of a chat. Implements protocols/inference-api, section "Responses". Knows
 * nothing about answers.
 */
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { randomSeed } from '../lib/random.ts'
import { type InferenceRequest, parseRequest } from './openai.ts'
import { bad, record, shown, text } from './request-fields.ts'

/** The members of a request that its answer repeats. */
export interface RepeatedMembers {
  readonly instructions: unknown
  readonly max_output_tokens: unknown
  readonly metadata: unknown
  readonly parallel_tool_calls: unknown
  readonly prompt_cache_key: unknown
  readonly safety_identifier: unknown
  readonly text: object
  readonly tool_choice: unknown
  readonly tools: readonly object[]
  readonly user: unknown
}

/** Members with the names of a chat. */
const OF_CHAT = {
  model: 'model',
  max_output_tokens: 'max_completion_tokens',
  temperature: 'temperature',
  top_p: 'top_p',
  stream: 'stream',
  tool_choice: 'tool_choice',
  parallel_tool_calls: 'parallel_tool_calls',
  user: 'user',
  experts: 'experts',
  seed: 'seed',
  presence_penalty: 'presence_penalty',
  frequency_penalty: 'frequency_penalty',
} as const

/** Members that would change the answer, and why they are refused. */
const REFUSED: Readonly<Record<string, string>> = {
  previous_response_id: 'nothing, because this server keeps no responses; send the earlier items in input',
  conversation: 'nothing, because this server keeps no conversations; send the earlier items in input',
  prompt: 'nothing, because this server keeps no prompts; send them in input and instructions',
}
/** Members that the answer repeats, or that advise, with the values that ask for nothing. */
const ADVICE: Readonly<Record<string, readonly unknown[]>> = {
  store: [false],
  background: [false],
  truncation: ['disabled'],
  service_tier: ['auto', 'default'],
  top_logprobs: [0],
}
/** Members of a chat that this route does not have. */
const OF_CHAT_ONLY: readonly string[] = [
  ...['messages', 'max_tokens', 'max_completion_tokens', 'n', 'stop', 'response_format', 'logprobs'],
  ...['logit_bias', 'token_shares'],
]
const REPEATED = ['metadata', 'prompt_cache_key', 'safety_identifier']
const READ = [
  'input',
  'instructions',
  'text',
  'tools',
  'stream_options',
  'include',
  'max_tool_calls',
  'reasoning',
]
const MAX_ITEMS = 1024

/**
 * @param drawSeed gives the seed of a request without one
 * @throws FormatError `bad-field`, `too-large`; `fields.param` is the name of the wrong member
 */
export function parseResponsesRequest(body: unknown, drawSeed: () => number = randomSeed): InferenceRequest {
  const value = record(body, 'body', 'a JSON object')
  for (const [name, expected] of Object.entries(REFUSED))
    if (value[name] !== undefined && value[name] !== null) throw bad(name, expected)
  if (value['background'] === true) throw bad('background', 'false, because this server keeps no responses')
  const chat: Record<string, unknown> = {
    // Programs that name no number expect a whole answer.
    max_completion_tokens: limit('completionTokens'),
    messages: readInput(value['input'], value['instructions']),
  }
  const ignored: string[] = []
  for (const [name, given] of Object.entries(value)) {
    if (given === null) continue
    if (name in OF_CHAT) chat[OF_CHAT[name as keyof typeof OF_CHAT]] = given
    else if (ADVICE[name]?.includes(given) === true || READ.includes(name) || REPEATED.includes(name))
      continue
    else if (OF_CHAT_ONLY.includes(name)) throw bad(name, 'nothing, because this route has no such member')
    // Follows the rules of a chat for members that it does not know.
    else if (!(name in ADVICE)) chat[name] = given
    else ignored.push(shown(name))
  }
  for (const name of ['reasoning', 'max_tool_calls']) if (value[name] != null) ignored.push(name)
  if (Array.isArray(value['include']) && value['include'].length > 0) ignored.push('include')
  const format = readText(value['text'])
  if (format !== undefined) chat['response_format'] = format
  const tools = readTools(value['tools'])
  chat['tools'] = tools.map(({ type, ...described }) => ({ type, function: described }))
  const request = inNamesOfResponses(() => parseRequest(chat, 'chat', drawSeed))
  return {
    ...request,
    ignored: [...request.ignored, ...ignored],
    repeated: {
      instructions: value['instructions'] ?? null,
      max_output_tokens: value['max_output_tokens'] ?? null,
      metadata: value['metadata'] ?? {},
      parallel_tool_calls: value['parallel_tool_calls'] ?? true,
      prompt_cache_key: value['prompt_cache_key'] ?? null,
      safety_identifier: value['safety_identifier'] ?? null,
      text: { format: { type: 'text' }, ...(value['text'] as object | undefined) },
      tool_choice: value['tool_choice'] ?? 'auto',
      tools: tools.map((tool) => ({ description: null, parameters: null, strict: null, ...tool })),
      user: value['user'] ?? null,
    },
  }
}

/** The messages of a chat from the items of a request. */
function readInput(input: unknown, instructions: unknown): object[] {
  const messages: object[] = []
  if (instructions !== undefined && instructions !== null)
    messages.push({ role: 'system', content: text(instructions, 'instructions', [0, limit('bodyBytes')]) })
  if (typeof input === 'string') return [...messages, { role: 'user', content: input }]
  if (!Array.isArray(input) || input.length === 0 || input.length > MAX_ITEMS)
    throw bad('input', `a text, or a list of 1 to ${MAX_ITEMS} items`)
  for (const [i, item] of input.entries()) {
    const at = `input[${i}]`
    const message = readItem(record(item, at, 'an item'), at)
    const last = messages.at(-1)
    // Calls of one turn are one message of a chat.
    if (last !== undefined && 'tool_calls' in last && 'tool_calls' in message)
      (last.tool_calls as object[]).push(...(message.tool_calls as object[]))
    else if (message !== NOTHING) messages.push(message)
  }
  return messages
}

/** An item that has no place in a prompt. */
const NOTHING = {}

function readItem(item: Record<string, unknown>, at: string): object {
  const { type = 'message', role, content } = item
  if (type === 'reasoning') return NOTHING
  if (type === 'message') {
    if (!Array.isArray(content)) return { role, content }
    return { role, content: content.map((part: unknown, i) => readPart(part, `${at}.content[${i}]`)) }
  }
  if (type === 'function_call') {
    const { call_id: id, name, arguments: given } = item
    return {
      role: 'assistant',
      content: null,
      tool_calls: [{ id, type: 'function', function: { name, arguments: given } }],
    }
  }
  if (type === 'function_call_output') {
    const { call_id: id, output } = item
    const parts = Array.isArray(output)
      ? output.map((part: unknown, i) => readPart(part, `${at}.output[${i}]`))
      : output
    return { role: 'tool', tool_call_id: id, content: parts }
  }
  throw bad(`${at}.type`, 'message, reasoning, function_call or function_call_output')
}

function readPart(value: unknown, at: string): object {
  const { type, text: given, refusal } = record(value, at, 'an object with type and text')
  if (type === 'refusal') return { type, refusal }
  if (type !== 'input_text' && type !== 'output_text')
    throw bad(`${at}.type`, 'input_text or output_text, because this server reads no other parts')
  return { type: 'text', text: given }
}

/** The `response_format` of a chat. */
function readText(value: unknown): object | undefined {
  if (value === undefined || value === null) return undefined
  const { format } = record(value, 'text', 'an object with a format')
  if (format === undefined || format === null) return undefined
  const { type, ...described } = record(format, 'text.format', 'an object with a type')
  return type === 'json_schema' ? { type, json_schema: described } : { type, ...described }
}

function readTools(value: unknown): { type: unknown }[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw bad('tools', 'a list of tools')
  return value.map((tool: unknown, i) => {
    const { type, ...described } = record(tool, `tools[${i}]`, 'an object with type and name')
    return { type, ...described }
  })
}

const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^response_format\.json_schema/, 'text.format'],
  [/^response_format/, 'text.format'],
  [/^max_completion_tokens/, 'max_output_tokens'],
  [/^messages/, 'input'],
  [/^(tools\[\d+\])\.function/, '$1'],
]

/** Errors name members as this route does. */
function inNamesOfResponses<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    const renamed = (name: string): string =>
      NAMES.reduce((result, [from, to]) => result.replace(from, to), name)
    const { param } = error.fields
    throw new FormatError(error.code, renamed(error.message), {
      ...error.fields,
      ...(typeof param === 'string' ? { param: renamed(param) } : {}),
    })
  }
}
