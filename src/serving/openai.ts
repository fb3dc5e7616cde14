/**
 * OpenAI request shapes, checked before anything is allocated. Implements protocols/inference-api.
 * Knows no engine.
 */
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

export interface InferenceRequest {
  readonly model: string
  readonly prompt: string
  readonly maxTokens: number
  readonly temperature: number
  readonly topP: number
  readonly seed: number
  readonly stop: readonly string[]
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly include?: readonly string[]
  readonly exclude?: readonly string[]
}

const DEFAULT_MAX_TOKENS = 64
const MAX_STOP_CHARACTERS = 64
const MAX_NAMES = 64
const KNOWN = new Set([
  'model',
  'prompt',
  'messages',
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'seed',
  'stop',
  'stream',
  'stream_options',
  'n',
  'user',
  'experts',
])

/** @throws FormatError `bad-field` whose `fields.param` names what is wrong. */
export function parseRequest(body: unknown, kind: 'completion' | 'chat'): InferenceRequest {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw bad('body', 'a JSON object')
  const value = body as Record<string, unknown>
  const unknown = Object.keys(value).find((key) => !KNOWN.has(key))
  if (unknown !== undefined) throw bad(unknown.slice(0, 40), 'a field that this server supports')
  if (value['n'] !== undefined && value['n'] !== 1) throw bad('n', '1')
  const experts = readExperts(value['experts'])
  const options = value['stream_options'] as { include_usage?: unknown } | undefined
  return {
    model: text(value['model'], 'model', 200),
    prompt:
      kind === 'completion'
        ? text(value['prompt'], 'prompt', limit('bodyBytes'))
        : template(readMessages(value['messages'])),
    maxTokens: number(
      value['max_tokens'] ?? value['max_completion_tokens'],
      'max_tokens',
      1,
      limit('completionTokens'),
      DEFAULT_MAX_TOKENS,
      true,
    ),
    temperature: number(value['temperature'], 'temperature', 0, 2, 1, false),
    topP: number(value['top_p'], 'top_p', 0.0001, 1, 1, false),
    seed: number(value['seed'], 'seed', 0, 2 ** 32 - 1, 0, true),
    stop: readStop(value['stop']),
    stream: boolean(value['stream'], 'stream'),
    includeUsage: boolean(options?.include_usage, 'stream_options.include_usage'),
    ...experts,
  }
}

/** The simple chat template: one line a turn, then the assistant's. */
export function template(messages: readonly ChatMessage[]): string {
  const names = { system: 'System', user: 'User', assistant: 'Assistant' }
  return `${messages.map(({ role, content }) => `${names[role]}: ${content}`).join('\n')}\nAssistant:`
}

function readMessages(value: unknown): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > 1024)
    throw bad('messages', 'a list of 1 to 1024 messages')
  return value.map((item: unknown, i) => {
    const { role, content } = (item ?? {}) as Record<string, unknown>
    if (role !== 'system' && role !== 'user' && role !== 'assistant')
      throw bad(`messages[${i}].role`, 'system, user or assistant')
    return { role, content: text(content, `messages[${i}].content`, limit('bodyBytes')) }
  })
}

function readStop(value: unknown): string[] {
  if (value === undefined || value === null) return []
  const list = Array.isArray(value) ? value : [value]
  if (list.length > limit('stopSequences')) throw bad('stop', `at most ${limit('stopSequences')} sequences`)
  return list.map((item: unknown) => text(item, 'stop', MAX_STOP_CHARACTERS))
}

function readExperts(value: unknown): { include?: string[]; exclude?: string[] } {
  if (value === undefined) return {}
  if (typeof value !== 'object' || value === null) throw bad('experts', 'an object with include and exclude')
  const fields = value as Record<string, unknown>
  const names = (key: 'include' | 'exclude'): string[] | undefined => {
    const list = fields[key]
    if (list === undefined) return undefined
    if (!Array.isArray(list) || list.length > MAX_NAMES)
      throw bad(`experts.${key}`, `a list of at most ${MAX_NAMES} names`)
    return list.map((item: unknown) => text(item, `experts.${key}`, 200))
  }
  const include = names('include')
  const exclude = names('exclude')
  return { ...(include === undefined ? {} : { include }), ...(exclude === undefined ? {} : { exclude }) }
}

function text(value: unknown, param: string, max: number): string {
  if (typeof value !== 'string' || value.length > max || value === '')
    throw bad(param, `text of 1 to ${max} characters`)
  return value
}

function number(
  value: unknown,
  param: string,
  min: number,
  max: number,
  otherwise: number,
  integer: boolean,
): number {
  if (value === undefined || value === null) return otherwise
  const fits =
    typeof value === 'number' && value >= min && value <= max && (!integer || Number.isSafeInteger(value))
  if (!fits) throw bad(param, `${integer ? 'a whole number' : 'a number'} from ${min} to ${max}`)
  return value
}

function boolean(value: unknown, param: string): boolean {
  if (value === undefined || value === null) return false
  if (typeof value !== 'boolean') throw bad(param, 'true or false')
  return value
}

function bad(param: string, expected: string): FormatError {
  return new FormatError('bad-field', `${param}: expected ${expected}`, { param })
}
