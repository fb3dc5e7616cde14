/**
 * The members of a request that decide which texts and which log-probabilities an answer has. Implements
 * protocols/inference-api, section "Requests". Knows nothing about prompts and engines.
 */
import { limit } from '../lib/limits.ts'
import type { RequestKind } from './openai.ts'
import { bad, boolean, integer, number, record, shown } from './request-fields.ts'

export interface AnswerFields {
  readonly maxTokens: number
  /** Number of texts for each prompt. */
  readonly choices: number
  /** Whether each text begins with its prompt. */
  readonly echo: boolean
  /** Number of the most likely tokens to list beside each token; absent if the answer has no log-probabilities. */
  readonly logprobs?: number
  /** Added to the logits of some tokens, by id. */
  readonly logitBias: ReadonlyMap<number, number>
  /** Subtracted from the logits of tokens that the answer already has: once, and once for each of them. */
  readonly presencePenalty: number
  readonly frequencyPenalty: number
}

const DEFAULT_MAX_TOKENS = 64
/**
 * Chats, values and calls end by themselves, and are worth little if they are cut off. More tokens than this would take
 * so much of the memory for keys and values that few requests are answered at once.
 */
const DEFAULT_MAX_TOKENS_OF_WHOLE = 1024
/** As many as OpenAI's API lists for chats. */
const MAX_TOP = 20
const PENALTY = [-2, 2] as const
const MAX_BIAS = 100
/** Largest id that fits into an Int32Array. */
export const MAX_ID = 0x7fffffff

/** Names of the members that `readAnswerFields` reads. */
export const ANSWER_FIELDS: Readonly<Record<RequestKind, readonly string[]>> = {
  completion: ['best_of', 'echo', 'logprobs', 'n'],
  chat: ['logprobs', 'n', 'top_logprobs'],
}

type Body = Readonly<Record<string, unknown>>

/** @param prompts number of prompts of the request. @param hasForm whether the answer has a format or tools. @throws FormatError `bad-field` */
export function readAnswerFields(
  body: Body,
  kind: RequestKind,
  prompts: number,
  hasForm: boolean,
): AnswerFields {
  const echo = kind === 'completion' && boolean(body['echo'], 'echo')
  const isWhole = kind === 'chat' || hasForm
  const logprobs = kind === 'completion' ? readCompletionLogprobs(body) : readChatLogprobs(body)
  return {
    maxTokens: readMaxTokens(body, echo ? 0 : 1, isWhole ? DEFAULT_MAX_TOKENS_OF_WHOLE : DEFAULT_MAX_TOKENS),
    choices: readChoices(body, kind, prompts),
    echo,
    ...(logprobs === undefined ? {} : { logprobs }),
    logitBias: readLogitBias(body['logit_bias']),
    presencePenalty: number(body['presence_penalty'], 'presence_penalty', PENALTY, 0),
    frequencyPenalty: number(body['frequency_penalty'], 'frequency_penalty', PENALTY, 0),
  }
}

function readMaxTokens(body: Body, least: number, absent: number): number {
  const range = [least, limit('completionTokens')] as const
  const maxTokens = integer(body['max_tokens'], 'max_tokens', range)
  const maxCompletionTokens = integer(body['max_completion_tokens'], 'max_completion_tokens', range)
  return maxCompletionTokens ?? maxTokens ?? absent
}

function readChoices(body: Body, kind: RequestKind, prompts: number): number {
  const most = limit('choicesPerRequest')
  const choices = integer(body['n'], 'n', [1, most]) ?? 1
  if (choices * prompts > most)
    throw bad('n', `at most ${most} choices of all prompts together, got ${choices * prompts}`)
  const bestOf = kind === 'completion' ? integer(body['best_of'], 'best_of', [1, most]) : undefined
  if (bestOf !== undefined && bestOf !== choices)
    throw bad('best_of', 'the same number as n, because this server chooses none of the texts')
  return choices
}

/** Completions name the number of alternatives in `logprobs`. */
function readCompletionLogprobs({ logprobs }: Body): number | undefined {
  return logprobs === false ? undefined : integer(logprobs, 'logprobs', [0, MAX_TOP])
}

/** Chats switch `logprobs` on and name the number of alternatives in `top_logprobs`. */
function readChatLogprobs(body: Body): number | undefined {
  const isOn = boolean(body['logprobs'], 'logprobs')
  const top = integer(body['top_logprobs'], 'top_logprobs', [0, MAX_TOP])
  if (!isOn && top !== undefined && top > 0) throw bad('logprobs', 'true if top_logprobs is above 0')
  return isOn ? (top ?? 0) : undefined
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
