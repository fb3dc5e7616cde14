/**
 * `RouterStatistics` of a text, counted, and what a gate makes of one. Knows neither whose text it is nor what is
 * published of it.
 *
 * A document here is a stretch of at most STATISTICS_WINDOW tokens. Each counts the same: tokens are shared out
 * within a document first, then over documents. Exchanging one of n documents therefore moves the shares by at most
 * 2/n in sum and by at most sqrt(2)/n in L2.
 */
import { type Gate, gateToken, type RouterStatistics } from '../model/solved-router.ts'

/** Tokens of a document at most. */
export const STATISTICS_WINDOW = 128
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

/**
 * Mean probability of each expert of a gate, over the tokens of a document first, then over documents.
 * @throws RangeError without documents.
 */
export function gateShares(gate: Gate, documents: readonly Int32Array[]): Float64Array {
  if (documents.length === 0) throw new RangeError('gate shares: expected at least one document')
  const E = gate.offsets.length
  const shares = new Float64Array(E)
  const logits = new Float32Array(E)
  for (const document of documents) {
    const tokens = document.subarray(0, STATISTICS_WINDOW)
    const sums = new Float32Array(tokens.length * E)
    tokens.forEach((token, position) => {
      gateToken(gate, token, position, sums, logits, 0)
      const peak = logits.reduce((a, b) => Math.max(a, b))
      const odds = logits.map((logit) => Math.exp(logit - peak))
      const total = odds.reduce((a, b) => a + b, 0)
      odds.forEach((value, e) => {
        shares[e] = (shares[e] as number) + value / total / (tokens.length * documents.length)
      })
    })
  }
  return shares
}
