/** Warnings about a corpus that was accepted. Does not read files. */
import { limit } from '../lib/limits.ts'
import type { CorpusStats } from './corpus.ts'

export interface CorpusWarning {
  readonly code:
    | 'little-text'
    | 'little-held-out'
    | 'held-out-repeats'
    | 'duplicates'
    | 'near-duplicates'
    | 'unread-text'
    | 'tokenizer'
    | 'encoding'
  readonly message: string
}

/** The text that a training reads. */
export interface TextUse {
  readonly steps: number
  /** Number of tokens of own text that the steps read together. */
  readonly tokens: number
}

/**
 * In a language that the tokenizer knows, text has at least 2.2 bytes per token (French law with 4096 tokens trained
 * on English).
 */
const MIN_BYTES_PER_TOKEN = 1.6
/** Share of the text below which steps leave much of it unread. */
const MIN_READ_SHARE = 0.5

/** @param use if it is known how the corpus will be used. */
export function corpusWarnings(stats: CorpusStats, use?: TextUse): CorpusWarning[] {
  const { train, heldOut, duplicates, nearDuplicates, heldOutRepeats, converted } = stats
  const warnings: CorpusWarning[] = []
  const warn = (code: CorpusWarning['code'], message: string): void => void warnings.push({ code, message })
  for (const { encoding, files, example } of converted) {
    const which = files === 1 ? `${example} was` : `${files} files, ${example} the first, were`
    warn('encoding', `${which} read as ${encoding}, not UTF-8; check that accented letters look right`)
  }
  if (train.tokens < limit('noisyTrainTokens')) {
    warn(
      'little-text',
      `only ${train.tokens} tokens to train on; below ${limit('noisyTrainTokens')} the expert learns little beyond these texts, and its scores are noisy`,
    )
  }
  const unread = use === undefined ? undefined : unreadText(stats, use)
  if (unread !== undefined) warn('unread-text', unread)
  if (heldOut.bytes < limit('noisyHeldOutBytes')) {
    warn(
      'little-held-out',
      `only ${heldOut.bytes} bytes are held out; bits per byte on less than ${limit('noisyHeldOutBytes')} bytes are noisy`,
    )
  }
  if (heldOutRepeats) {
    warn(
      'held-out-repeats',
      'every held-out document repeats training text; the score shows how well that text is remembered',
    )
  }
  if (duplicates > train.documents + heldOut.documents) {
    const all = duplicates + train.documents + heldOut.documents
    warn('duplicates', `${duplicates} of ${all} documents are duplicates and were left out`)
  }
  if (nearDuplicates > train.documents / 2) {
    warn(
      'near-duplicates',
      `${nearDuplicates} of ${train.documents} documents repeat earlier ones almost entirely; they were kept, and the expert mostly learns what they share`,
    )
  }
  const bytesPerToken = (train.bytes + heldOut.bytes) / Math.max(1, train.tokens + heldOut.tokens)
  if (bytesPerToken < MIN_BYTES_PER_TOKEN) {
    warn(
      'tokenizer',
      `${bytesPerToken.toFixed(2)} bytes per token: the public model's tokenizer hardly knows this language; training continues at several times the usual cost per text`,
    )
  }
  return warnings
}

/** What to say if the steps read less than half of the text; undefined if they read more. */
function unreadText({ train, unsampled }: CorpusStats, { steps, tokens }: TextUse): string | undefined {
  const all = train.tokens + Math.round((unsampled.bytes * train.tokens) / Math.max(1, train.bytes))
  const share = Math.min(tokens, train.tokens) / Math.max(1, all)
  if (share >= MIN_READ_SHARE) return undefined
  const read = `${steps === 1 ? '1 step reads' : `${steps} steps read`} ${(100 * share).toPrecision(2)} % of the text, ${Math.min(tokens, train.tokens)} of about ${all} tokens`
  const enough = `--steps ${Math.ceil((all * steps) / tokens)}`
  return tokens > train.tokens
    ? `${read}, because an earlier run prepared a sample for fewer steps; to use all text, train under another --name with ${enough}`
    : `${read}; ${enough} reads as many tokens as the text has`
}
