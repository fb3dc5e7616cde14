/**
 * Request bodies in OpenAI's shape, checked before anything is allocated. Implements protocols/inference-api, section
 * "Requests". Knows nothing about engines.
 */
import { getRandomValues } from 'node:crypto'
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

/** The text of a completion, or the messages of a chat. */
export type Prompt = string | readonly ChatMessage[]

export type RequestKind = 'completion' | 'chat'

/** The only model of the API. */
export const MODEL_NAME = 'flexmesh'

export interface InferenceRequest {
  readonly model: string
  readonly prompt: Prompt
  readonly maxTokens: number
  /** 0 chooses the most likely token. */
  readonly temperature: number
  readonly topP: number
  /** Random if the request has none. */
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
const MAX_NAME_CHARACTERS = 200
const MAX_MESSAGES = 1024
/** Maximum number of characters of an unknown member's name in an error message. */
const MAX_SHOWN = 40
const MIN_TOP_P = 0.0001
const MAX_SEED = 2 ** 32 - 1
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

/**
 * @param drawSeed gives the seed of a request without one
 * @throws FormatError `bad-field`; `fields.param` is the name of the wrong member.
 */
export function parseRequest(
  body: unknown,
  kind: RequestKind,
  drawSeed: () => number = randomSeed,
): InferenceRequest {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw bad('body', 'a JSON object')
  const value = body as Record<string, unknown>
  const unknown = Object.keys(value).find((key) => !KNOWN.has(key))
  if (unknown !== undefined) throw bad(unknown.slice(0, MAX_SHOWN), 'a field that this server supports')
  if (value['n'] !== undefined && value['n'] !== 1) throw bad('n', '1')
  const experts = readExperts(value['experts'])
  const options = value['stream_options'] as { include_usage?: unknown } | undefined
  return {
    model: text(value['model'], 'model', MAX_NAME_CHARACTERS),
    prompt:
      kind === 'completion'
        ? text(value['prompt'], 'prompt', limit('bodyBytes'))
        : readMessages(value['messages']),
    maxTokens: integer(
      value['max_tokens'] ?? value['max_completion_tokens'],
      'max_tokens',
      [1, limit('completionTokens')],
      DEFAULT_MAX_TOKENS,
    ),
    temperature: number(value['temperature'], 'temperature', [0, 2], 1),
    topP: number(value['top_p'], 'top_p', [MIN_TOP_P, 1], 1),
    seed: integer(value['seed'], 'seed', [0, MAX_SEED], drawSeed()),
    stop: readStop(value['stop']),
    stream: boolean(value['stream'], 'stream'),
    includeUsage: boolean(options?.include_usage, 'stream_options.include_usage'),
    ...experts,
  }
}

/** A seed from 0 to MAX_SEED. With a fixed default, every client would get the same answer. */
function randomSeed(): number {
  const [seed = 0] = getRandomValues(new Uint32Array(1))
  return seed
}

function readMessages(value: unknown): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_MESSAGES)
    throw bad('messages', `a list of 1 to ${MAX_MESSAGES} messages`)
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
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw bad('experts', 'an object with include and exclude')
  const fields = value as Record<string, unknown>
  // A misspelled "exclude" must not answer with the expert that the user wants to leave out.
  const unknown = Object.keys(fields).find((key) => key !== 'include' && key !== 'exclude')
  if (unknown !== undefined) throw bad(`experts.${unknown.slice(0, MAX_SHOWN)}`, 'only include and exclude')
  const names = (key: 'include' | 'exclude'): string[] | undefined => {
    const list = fields[key]
    if (list === undefined) return undefined
    if (!Array.isArray(list) || list.length > MAX_NAMES)
      throw bad(`experts.${key}`, `a list of at most ${MAX_NAMES} names`)
    return list.map((item: unknown) => text(item, `experts.${key}`, MAX_NAME_CHARACTERS))
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

type Range = readonly [min: number, max: number]

function number(value: unknown, param: string, [min, max]: Range, absent: number): number {
  if (value === undefined || value === null) return absent
  if (typeof value === 'number' && value >= min && value <= max) return value
  throw bad(param, `a number from ${min} to ${max}`)
}

function integer(value: unknown, param: string, [min, max]: Range, absent: number): number {
  if (value === undefined || value === null) return absent
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value
  throw bad(param, `a whole number from ${min} to ${max}`)
}

function boolean(value: unknown, param: string): boolean {
  if (value === undefined || value === null) return false
  if (typeof value !== 'boolean') throw bad(param, 'true or false')
  return value
}

function bad(param: string, expected: string): FormatError {
  return new FormatError('bad-field', `${param}: expected ${expected}`, { param })
}
