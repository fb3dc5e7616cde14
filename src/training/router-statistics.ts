/**
 * `RouterStatistics` of a text, counted, and what a gate makes of one. Knows neither whose text it is nor what is
 * published of it.
 *
 * A document here is a stretch of at most STATISTICS_WINDOW tokens. Each counts the same: tokens are shared out
 * within a document first, then over documents. Exchanging one of n documents therefore moves the shares by at most
 * 2/n in sum and by at most sqrt(2)/n in L2.
 */

import type { RouterStatistics } from '../model/solved-router.ts'
import { STATISTICS_WINDOW } from '../model/solved-router.ts'

/** Documents that statistics average over at most: a million tokens, and noise on as many hides in the rarest. */
export const STATISTICS_DOCUMENTS = 8192

/**
 * Shares of the V tokens of a vocabulary in documents, of at least one token each; only the first
 * STATISTICS_WINDOW count.
 * @throws RangeError without documents.
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
