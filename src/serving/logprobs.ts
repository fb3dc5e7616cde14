/**
 * Log-probabilities of tokens in the two shapes of the OpenAI API. Implements protocols/inference-api, section
 * "Log-probabilities". Knows nothing about engines.
 */
import type { LikelyToken } from '../composition/composed-model.ts'
import type { Vocabulary } from './vocabulary.ts'

/** A token of a choice, with its place in the text. */
export interface PlacedScore {
  readonly id: number
  /** Number of Unicode characters of the choice's text before the token. */
  readonly offset: number
  /** Undefined for the first token of a prompt, which follows nothing. */
  readonly logprob?: number
  readonly top: readonly LikelyToken[]
}

/** JSON has no infinity. OpenAI uses this number for tokens that are all but impossible. */
const LEAST_LOGPROB = -9999

/** Chats: a list of tokens with their bytes. */
export function chatLogprobs(scores: readonly PlacedScore[], vocabulary: Vocabulary): object {
  const entry = ({ id, logprob }: { id: number; logprob?: number }): object => {
    const { text, bytes } = tokenText(vocabulary, id, '')
    return { token: text, logprob: bounded(logprob ?? LEAST_LOGPROB), bytes }
  }
  const content = scores.map((score) => ({ ...entry(score), top_logprobs: score.top.map(entry) }))
  return { content, refusal: null }
}

/** Completions: parallel lists. The most likely tokens of each place always include the token itself. */
export function completionLogprobs(scores: readonly PlacedScore[], vocabulary: Vocabulary): object {
  const nameOf = (id: number): string => tokenText(vocabulary, id, 'bytes:').text
  const likely = ({ id, logprob, top }: PlacedScore): Record<string, number> | null => {
    if (logprob === undefined) return null
    // Two special tokens may have the same name; the more likely one is listed.
    const all = [...top, { id, logprob }].sort((a, b) => a.logprob - b.logprob)
    return Object.fromEntries(all.map((token) => [nameOf(token.id), bounded(token.logprob)]))
  }
  return {
    tokens: scores.map(({ id }) => nameOf(id)),
    token_logprobs: scores.map(({ logprob }) => (logprob === undefined ? null : bounded(logprob))),
    top_logprobs: scores.map(likely),
    text_offset: scores.map(({ offset }) => offset),
  }
}

function bounded(logprob: number): number {
  return Math.max(logprob, LEAST_LOGPROB)
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * The text of a token alone: its name if it is special, its bytes as `\xNN` after `prefix` if they are not whole
 * characters.
 */
function tokenText(
  vocabulary: Vocabulary,
  id: number,
  prefix: string,
): { readonly text: string; readonly bytes: number[] | null } {
  const bytes = vocabulary.bytesOf(id)
  if (bytes.length === 0) return { text: vocabulary.nameOf(id) ?? '', bytes: null }
  return { text: decoded(bytes) ?? `${prefix}${escaped(bytes)}`, bytes: [...bytes] }
}

function decoded(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes)
  } catch {
    return undefined
  }
}

function escaped(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')
}
