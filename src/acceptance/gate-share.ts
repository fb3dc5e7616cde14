/**
 * Computes the share of public text that a gate solved from an expert's router statistics would give the expert. Knows
 * nothing about what share is allowed.
 */
import type { HeldOutDocument } from '../model/evaluate.ts'
import {
  type Gate,
  gateToken,
  type RouterStatistics,
  STATISTICS_WINDOW,
  solveGate,
} from '../model/solved-router.ts'

/** No calibration: it prefers the public expert, which would hide a part of what a guest attracts. */
const UNCALIBRATED = { scale: 1, prior: 0 }

/**
 * Mean probability of a guest over documents, in the uncalibrated gate solved for the public expert and the guest. A
 * guest with the statistics of the public text itself gets 1/2.
 * @throws RangeError without documents.
 */
export function statisticsShare(
  publicStatistics: RouterStatistics,
  statistics: RouterStatistics,
  documents: readonly HeldOutDocument[],
): number {
  const gate = solveGate([publicStatistics, statistics], UNCALIBRATED)
  return gateShares(gate, windowsOf(documents))[1] as number
}

function windowsOf(documents: readonly HeldOutDocument[]): Int32Array[] {
  return documents.flatMap(({ tokens }) =>
    Array.from({ length: Math.ceil(tokens.length / STATISTICS_WINDOW) }, (_, i) =>
      tokens.subarray(i * STATISTICS_WINDOW, (i + 1) * STATISTICS_WINDOW),
    ),
  )
}

/**
 * Probability of each expert of a gate [E], averaged over the tokens of each document, then over documents.
 * @param documents token ids; of each only the first window counts
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
