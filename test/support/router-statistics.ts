/** Router statistics and documents of made-up owners, and the logits of their gate by definition. */
import { mulberry32 } from '../../src/lib/random.ts'
import type { GateCalibration, RouterStatistics } from '../../src/model/solved-router.ts'

/** Statistics of one owner, in whose text some of the V tokens never occur. */
export function madeUpStatistics(V: number, seed: number): RouterStatistics {
  const random = mulberry32(seed)
  const counts = Float64Array.from({ length: V }, () => Math.max(0, random() - 0.4) ** 2)
  const total = counts.reduce((sum, count) => sum + count, 0)
  return { tokens: Float32Array.from(counts, (count) => count / total) }
}

/**
 * Documents of the given lengths. Low tokens are more frequent than high ones, shifted by the seed, so that owners differ.
 */
export function madeUpDocuments(V: number, lengths: readonly number[], seed = 1): Int32Array[] {
  const random = mulberry32(seed)
  return lengths.map((length) =>
    Int32Array.from({ length }, () => (Math.floor(random() * random() * V) + 5 * seed) % V),
  )
}

/** Probability of a token in the smoothed unigram model of owner e. */
function probability(all: readonly RouterStatistics[], e: number, token: number): number {
  const shares = all.map(({ tokens }) => tokens[token] as number)
  const mean = shares.reduce((sum, share) => sum + share, 0) / all.length
  const V = all[0]?.tokens.length as number
  return 0.99 * (shares[e] as number) + 0.01 * (0.9 * mean + 0.1 / V)
}

/** Logits (T)(E) after each token of a sequence, from all tokens up to it. */
export function naiveBayes(
  all: readonly RouterStatistics[],
  ids: Int32Array,
  { scale, prior }: GateCalibration,
): number[][] {
  return Array.from(ids, (_, t) =>
    all.map((_, e) => {
      const odds = Array.from(ids.subarray(0, t + 1), (token, s) => {
        const evidence = Math.log(probability(all, e, token) / probability(all, 0, token))
        return 0.9 ** (t - s) * scale * evidence
      })
      return odds.reduce((sum, value) => sum + value, e === 0 ? prior : 0)
    }),
  )
}
