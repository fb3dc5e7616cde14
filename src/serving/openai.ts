/**
 * Request bodies in OpenAI's shape, checked before anything is allocated. Implements protocols/inference-api, section
 * "Requests". Knows nothing about engines.
 */
import { limit } from '../lib/limits.ts'
import { MAX_SEED, randomSeed } from '../lib/random.ts'
import { type ChatMessage, readMessages } from './messages.ts'
import { bad, boolean, integer, number, record, shown, text } from './request-fields.ts'
import { checkUnsupported } from './unsupported.ts'

/** The text of a completion, or the messages of a chat. */
export type TextPrompt = string | readonly ChatMessage[]

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
  /** Added to the logits of some tokens, by id. */
  readonly logitBias: ReadonlyMap<number, number>
  /** Subtracted from the logits of tokens that the answer already has: once, and once for each of them. */
  readonly presencePenalty: number
  readonly frequencyPenalty: number
  readonly stream: boolean
  readonly includeUsage: boolean
  /** Whether the answer lists its tokens, each with the routing weight of every expert. */
  readonly tokenShares: boolean
  readonly include?: readonly string[]
  readonly exclude?: readonly string[]
  /** Names of members that have no effect, in their order; not more than `MAX_IGNORED`. */
  readonly ignored: readonly string[]
}

const DEFAULT_MAX_TOKENS = 64
const MAX_STOP_CHARACTERS = 64
const MAX_NAMES = 64
const MAX_NAME_CHARACTERS = 200
const MAX_USER_CHARACTERS = 1024
const MAX_IGNORED = 32
/** Largest id that fits into an Int32Array. */
const MAX_ID = 0x7fffffff
const MIN_TOP_P = 0.0001
const PENALTY = [-2, 2] as const
const MAX_BIAS = 100
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
    const isKnown = KNOWN.has(name) || name === promptMember
    if (!isKnown && checkUnsupported(name, given)) ignore(shown(name))
  }
  const model = text(value['model'], 'model', [1, MAX_NAME_CHARACTERS])
  const prompt = kind === 'completion' ? readPrompt(value['prompt']) : readMessages(value['messages'], ignore)
  const tokens: readonly [number, number] = [1, limit('completionTokens')]
  const maxTokens = integer(value['max_tokens'], 'max_tokens', tokens)
  const maxCompletionTokens = integer(value['max_completion_tokens'], 'max_completion_tokens', tokens)
  if (value['user'] !== undefined && value['user'] !== null)
    text(value['user'], 'user', [0, MAX_USER_CHARACTERS])
  return {
    model,
    prompt,
    maxTokens: maxCompletionTokens ?? maxTokens ?? DEFAULT_MAX_TOKENS,
    temperature: number(value['temperature'], 'temperature', [0, 2], 1),
    topP: number(value['top_p'], 'top_p', [MIN_TOP_P, 1], 1),
    // With a fixed default, every client would get the same answer.
    seed: integer(value['seed'], 'seed', [0, MAX_SEED]) ?? drawSeed(),
    stop: readStop(value['stop']),
    logitBias: readLogitBias(value['logit_bias']),
    presencePenalty: number(value['presence_penalty'], 'presence_penalty', PENALTY, 0),
    frequencyPenalty: number(value['frequency_penalty'], 'frequency_penalty', PENALTY, 0),
    stream: boolean(value['stream'], 'stream'),
    includeUsage: readStreamOptions(value['stream_options'], ignore),
    tokenShares: boolean(value['token_shares'], 'token_shares'),
    ...readExperts(value['experts']),
    ignored,
  }
}

/** A text or a list of token ids, or a list with one of them, which some clients always send. */
function readPrompt(value: unknown): string | TokenPrompt {
  const isListOfOne = Array.isArray(value) && value.length === 1 && typeof value[0] !== 'number'
  const one: unknown = isListOfOne ? value[0] : value
  if (!Array.isArray(one)) return text(one, 'prompt', [1, limit('bodyBytes')])
  if (one.length === 0 || typeof one[0] !== 'number')
    throw bad('prompt', 'one text or one list of token ids, or a list with one of them')
  return { tokens: readTokens(one, 'prompt') }
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

/** Biases by token id. Those of 0 have no effect. */
function readLogitBias(value: unknown): Map<number, number> {
  const biases = new Map<number, number>()
  if (value === undefined || value === null) return biases
  const members = Object.entries(record(value, 'logit_bias', 'an object of biases by token id'))
  if (members.length > limit('logitBiases'))
    throw bad('logit_bias', `biases of at most ${limit('logitBiases')} tokens`)
  for (const [name, given] of members) {
    const id = Number(name)
    if (!/^[0-9]{1,10}$/.test(name) || id > MAX_ID)
      throw bad('logit_bias', `token ids as names, got "${shown(name)}"`)
    if (typeof given !== 'number' || Math.abs(given) > MAX_BIAS)
      throw bad('logit_bias', `numbers from -${MAX_BIAS} to ${MAX_BIAS}`)
    if (given !== 0) biases.set(id, given)
  }
  return biases
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

function readExperts(value: unknown): { include?: string[]; exclude?: string[] } {
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
