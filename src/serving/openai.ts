/**
 * Request bodies in OpenAI's shape, checked before anything is allocated. Implements protocols/inference-api, section
 * "Requests". Knows nothing about engines.
 */
import type { ChatMessage, TextPrompt, Tool } from '../data/chat.ts'
import { limit } from '../lib/limits.ts'
import { MAX_SEED, randomSeed } from '../lib/random.ts'
import { ANSWER_FIELDS, type AnswerFields, MAX_ID, readAnswerFields } from './answer-fields.ts'
import { type AnswerForm, FORM_FIELDS, readAnswerForm } from './answer-form.ts'
import { readMessages } from './messages.ts'
import { bad, boolean, integer, number, record, shown, text } from './request-fields.ts'
import type { RepeatedMembers } from './responses-request.ts'
import { checkUnsupported } from './unsupported.ts'

/** A prompt of a completion that the client has encoded itself. */
export interface TokenPrompt {
  /** Token ids, at least one. */
  readonly tokens: Int32Array
}

export type Prompt = TextPrompt | TokenPrompt

export function isTokenPrompt(prompt: Prompt): prompt is TokenPrompt {
  return typeof prompt !== 'string' && 'tokens' in prompt
}

export type RequestKind = 'completion' | 'chat'

/** The model of the whole composition. Ids of the models of its experts begin with it. */
export const MODEL_NAME = 'flexmesh'

export interface InferenceRequest extends AnswerFields, AnswerForm {
  readonly model: string
  readonly prompt: Prompt
  /** Further prompts of a list, each of which has its own texts. */
  readonly morePrompts: readonly Prompt[]
  /** 0 chooses the most likely token. */
  readonly temperature: number
  readonly topP: number
  /** Random if the request has none. */
  readonly seed: number
  readonly stop: readonly string[]
  readonly stream: boolean
  readonly includeUsage: boolean
  /** Whether the answer lists its tokens, each with the routing weight of every expert. */
  readonly tokenShares: boolean
  readonly include?: readonly string[]
  readonly exclude?: readonly string[]
  /** Names of members that have no effect, in their order; not more than `MAX_IGNORED`. */
  readonly ignored: readonly string[]
  /** Members that the answer repeats; only of `/v1/responses`. */
  readonly repeated?: RepeatedMembers
}

const MAX_STOP_CHARACTERS = 64
const MAX_NAMES = 64
const MAX_NAME_CHARACTERS = 200
const MAX_USER_CHARACTERS = 1024
const MAX_IGNORED = 32
const MIN_TOP_P = 0.0001
const KNOWN = new Set([
  'model',
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'seed',
  'stop',
  'logit_bias',
  'presence_penalty',
  'frequency_penalty',
  'stream',
  'stream_options',
  'user',
  'experts',
  'token_shares',
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
  const value = record(body, 'body', 'a JSON object')
  const ignored: string[] = []
  const ignore = (name: string): void => {
    if (ignored.length < MAX_IGNORED) ignored.push(name)
  }
  const promptMember = kind === 'completion' ? 'prompt' : 'messages'
  for (const [name, given] of Object.entries(value)) {
    const isKnown =
      KNOWN.has(name) ||
      name === promptMember ||
      ANSWER_FIELDS[kind].includes(name) ||
      FORM_FIELDS[kind].includes(name)
    if (!isKnown && checkUnsupported(name, given)) ignore(shown(name))
  }
  const model = readModel(value['model'])
  const form = readAnswerForm(value, kind)
  const [prompt, ...morePrompts] =
    kind === 'completion'
      ? readPrompts(value['prompt'], 'prompt')
      : [withTools(readMessages(value['messages'], ignore), form.toolUse?.tools)]
  if (prompt === undefined) throw bad('prompt', 'at least one prompt')
  if (value['user'] !== undefined && value['user'] !== null)
    text(value['user'], 'user', [0, MAX_USER_CHARACTERS])
  return {
    model,
    prompt,
    morePrompts,
    ...readAnswerFields(value, kind, 1 + morePrompts.length, form.constraint !== undefined),
    ...form,
    temperature: number(value['temperature'], 'temperature', [0, 2], 1),
    topP: number(value['top_p'], 'top_p', [MIN_TOP_P, 1], 1),
    // With a fixed default, every client would get the same answer.
    seed: integer(value['seed'], 'seed', [0, MAX_SEED]) ?? drawSeed(),
    stop: readStop(value['stop']),
    stream: boolean(value['stream'], 'stream'),
    includeUsage: readStreamOptions(value['stream_options'], ignore),
    tokenShares: boolean(value['token_shares'], 'token_shares'),
    ...readExperts(value['experts']),
    ignored,
  }
}

function withTools(messages: readonly ChatMessage[], tools: readonly Tool[] | undefined): TextPrompt {
  return tools === undefined ? messages : { messages, tools }
}

/** A text or a list of token ids, or a list of either. @throws FormatError `bad-field` */
export function readPrompts(value: unknown, param: string): (string | TokenPrompt)[] {
  if (!Array.isArray(value) || typeof value[0] === 'number') return [readPrompt(value, param)]
  const most = limit('choicesPerRequest')
  if (value.length === 0 || value.length > most) throw bad(param, `a list of 1 to ${most} texts`)
  return value.map((item: unknown) => readPrompt(item, param))
}

function readPrompt(value: unknown, param: string): string | TokenPrompt {
  if (!Array.isArray(value)) return text(value, param, [1, limit('bodyBytes')])
  if (value.length === 0 || typeof value[0] !== 'number')
    throw bad(param, 'a text or a list of token ids, or a list of either')
  return { tokens: readTokens(value, param) }
}

/** The name of a model, which may not exist. @throws FormatError `bad-field` */
export function readModel(value: unknown): string {
  return text(value, 'model', [1, MAX_NAME_CHARACTERS])
}

/** Token ids, which a vocabulary may not have. @throws FormatError `bad-field` */
export function readTokens(list: readonly unknown[], param: string): Int32Array {
  const isId = (id: unknown): boolean =>
    Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_ID
  if (!list.every(isId)) throw bad(param, 'token ids, which are whole numbers from 0')
  return Int32Array.from(list as readonly number[])
}

function readStop(value: unknown): string[] {
  if (value === undefined || value === null) return []
  const list = Array.isArray(value) ? value : [value]
  if (list.length > limit('stopSequences')) throw bad('stop', `at most ${limit('stopSequences')} sequences`)
  return list.map((item: unknown) => text(item, 'stop', [1, MAX_STOP_CHARACTERS]))
}

/** @returns whether the stream ends with the number of tokens */
function readStreamOptions(value: unknown, ignore: (name: string) => void): boolean {
  if (value === undefined || value === null) return false
  const options = record(value, 'stream_options', 'an object')
  for (const [name, given] of Object.entries(options)) {
    if (name === 'include_usage' || given === null || given === false) continue
    ignore(`stream_options.${shown(name)}`)
  }
  return boolean(options['include_usage'], 'stream_options.include_usage')
}

/** The choice of experts. @throws FormatError `bad-field` */
export function readExperts(value: unknown): { include?: string[]; exclude?: string[] } {
  if (value === undefined || value === null) return {}
  const fields = record(value, 'experts', 'an object with include and exclude')
  // A misspelled "exclude" must not answer with the expert that the user wants to leave out.
  const unknown = Object.keys(fields).find((key) => key !== 'include' && key !== 'exclude')
  if (unknown !== undefined) throw bad(`experts.${shown(unknown)}`, 'only include and exclude')
  const names = (key: 'include' | 'exclude'): string[] | undefined => {
    const list = fields[key]
    if (list === undefined || list === null) return undefined
    if (!Array.isArray(list) || list.length > MAX_NAMES)
      throw bad(`experts.${key}`, `a list of at most ${MAX_NAMES} names`)
    return list.map((item: unknown) => text(item, `experts.${key}`, [1, MAX_NAME_CHARACTERS]))
  }
  const include = names('include')
  const exclude = names('exclude')
  return { ...(include === undefined ? {} : { include }), ...(exclude === undefined ? {} : { exclude }) }
}
