/**
 * Computes the `RouterStatistics` of a text. Does not know whose text it is or what of it is published.
 *
 * A document here is a stretch of at most STATISTICS_WINDOW tokens. All documents have the same weight: shares are
 * averaged over the tokens of a document first, then over documents. Replacing one of n documents therefore moves the
 * shares by at most 2/n in sum and by at most sqrt(2)/n in L2.
 */

import type { RouterStatistics } from '../model/solved-router.ts'
import { STATISTICS_WINDOW } from '../model/solved-router.ts'

/** Maximum number of documents: a million tokens, so many that noise affects only the rarest tokens. */
export const STATISTICS_DOCUMENTS = 8192

/**
 * The share of each of the V tokens of the vocabulary.
 * @param documents at least one token each, of which the first STATISTICS_WINDOW count.
 * @throws RangeError if there are no documents.
 */
export function routerStatistics(V: number, documents: readonly Int32Array[]): RouterStatistics {
  const n = documents.length
  if (n === 0) throw new RangeError('router statistics: expected at least one document')
  const shares = new Float64Array(V)
  for (const document of documents) {
    const tokens = document.subarray(0, STATISTICS_WINDOW)
    for (const token of tokens) shares[token] = (shares[token] as number) + 1 / (n * tokens.length)
  }
  return { tokens: Float32Array.from(shares) }
}
