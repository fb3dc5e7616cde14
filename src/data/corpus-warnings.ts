/** Warnings about a corpus that was accepted. Knows no files. */
import { limit } from '../lib/limits.ts'
import type { CorpusStats } from './corpus.ts'

export interface CorpusWarning {
  readonly code:
    | 'little-text'
    | 'little-held-out'
    | 'held-out-repeats'
    | 'duplicates'
    | 'tokenizer'
    | 'encoding'
  readonly message: string
}

/**
 * In a language that the tokenizer knows, text has at least 2.2 bytes per token (French law with 4096 tokens trained
 * on English).
 */
const MIN_BYTES_PER_TOKEN = 1.6

export function corpusWarnings(stats: CorpusStats): CorpusWarning[] {
  const { train, heldOut, duplicates, heldOutRepeats, converted } = stats
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
  const bytesPerToken = (train.bytes + heldOut.bytes) / Math.max(1, train.tokens + heldOut.tokens)
  if (bytesPerToken < MIN_BYTES_PER_TOKEN) {
    warn(
      'tokenizer',
      `${bytesPerToken.toFixed(2)} bytes per token: the public model's tokenizer hardly knows this language; training continues at several times the usual cost per text`,
    )
  }
  return warnings
}
