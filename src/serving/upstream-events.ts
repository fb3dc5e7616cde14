/**
 * The events of a streamed completion of another OpenAI-compatible server. Implements protocols/inference-api, section
 * "Upstream". Knows nothing about connections.
 */
import type { LikelyToken } from '../composition/composed-model.ts'
import { MAX_ID } from './answer-fields.ts'
import { ServingError } from './engine.ts'

/** A token with its log-probability, which is absent for the first token of a prompt. */
export interface UpstreamScore {
  readonly id: number
  readonly logprob?: number
  /** Most likely first. */
  readonly top: readonly LikelyToken[]
}

/** The members of an event that are used. */
export interface UpstreamEvent {
  readonly text: string
  readonly finish?: 'stop' | 'length'
  /** Number of tokens of the answer. */
  readonly tokens?: number
  /** Log-probabilities of the tokens of this event; empty if it has no log-probabilities. */
  readonly scores: readonly UpstreamScore[]
}

/** @param model digest of the composition that was asked for. @throws ServingError for any other event. */
export function readEvent(data: string, model: string): UpstreamEvent {
  let value: unknown
  try {
    value = JSON.parse(data)
  } catch (cause) {
    throw failed('sent an event that is not JSON', cause)
  }
  const event = record(value)
  if (event['error'] !== undefined) throw failed('ended its answer with an error')
  if (event['model'] !== model) throw failed(`answered for another composition than ${model}`)
  const choices = event['choices']
  if (!Array.isArray(choices) || choices.length > 1)
    throw failed('sent an event whose choices are not a list of at most one choice')
  const choice = record(choices[0] ?? { text: '' })
  const { text, finish_reason: reason, logprobs } = choice
  if (typeof text !== 'string') throw failed('sent an event without text')
  if (reason !== undefined && reason !== null && reason !== 'stop' && reason !== 'length')
    throw failed('sent a finish_reason other than stop and length')
  const usage = event['usage'] ?? undefined
  const tokens = usage === undefined ? undefined : record(usage)['completion_tokens']
  if (tokens !== undefined && (!Number.isSafeInteger(tokens) || (tokens as number) < 0))
    throw failed('sent a number of tokens that is not a whole number')
  return {
    text,
    ...(typeof reason === 'string' ? { finish: reason } : {}),
    ...(tokens === undefined ? {} : { tokens: tokens as number }),
    scores: logprobs === undefined || logprobs === null ? [] : readScores(record(logprobs)),
  }
}

/** Parallel lists of tokens by id (`token_id:7`), their log-probabilities, and those of the most likely tokens. */
function readScores(logprobs: Record<string, unknown>): UpstreamScore[] {
  const { tokens, token_logprobs: own, top_logprobs: top } = logprobs
  if (!Array.isArray(tokens) || !Array.isArray(own) || own.length !== tokens.length)
    throw failed('sent log-probabilities that are not one for each token')
  const likely = Array.isArray(top) ? top : []
  return tokens.map((name: unknown, i) => {
    const logprob: unknown = own[i]
    return {
      id: readId(name),
      ...(logprob === null ? {} : { logprob: readLogprob(logprob) }),
      top: readTop(likely[i] ?? {}),
    }
  })
}

function readTop(value: unknown): LikelyToken[] {
  return Object.entries(record(value))
    .map(([name, logprob]) => ({ id: readId(name), logprob: readLogprob(logprob) }))
    .sort((a, b) => b.logprob - a.logprob)
}

function readId(name: unknown): number {
  const id = typeof name === 'string' ? Number(/^token_id:([0-9]{1,10})$/.exec(name)?.[1] ?? Number.NaN) : NaN
  if (!(id <= MAX_ID))
    throw failed('does not name the tokens of log-probabilities by their ids (return_tokens_as_token_ids)')
  return id
}

function readLogprob(value: unknown): number {
  if (typeof value !== 'number' || value > 0)
    throw failed('sent a log-probability that is not a number up to 0')
  return value
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw failed('sent an event that is not a completion')
  return value as Record<string, unknown>
}

/** @param what the upstream did */
export function failed(what: string, cause?: unknown): ServingError {
  return new ServingError(502, 'upstream_failed', `the upstream ${what}`, cause)
}
