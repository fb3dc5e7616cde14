/**
 * Whether an attacker who holds some texts finds out which of them a model was trained on. Two scores: the loss of the
 * expert relative to the public model, and Min-K%++ (Zhang et al. 2024, arXiv 2404.02936). Reported are the members that
 * are found while few others are accused, since an average over all texts hides those that are found for certain
 * (Carlini et al. 2022, arXiv 2112.03570). Knows nothing about models.
 */
import type { TokenScores } from '../model/token-scores.ts'
import { clopperPearson, type Interval } from './binomial.ts'

/** Share of the tokens of a text that Min-K%++ averages over: those that are the least likely. */
const LEAST_LIKELY = 0.2
/** Shares of other texts that are accused. */
const FALSE_POSITIVES = [0.01, 0.001] as const

/** Members found while at most a share of the other texts is accused. */
export interface Found {
  /** Maximum share of the other texts that are accused. */
  readonly falsePositiveRate: number
  /** Number of other texts that may be accused; 0 if there are too few of them for the rate. */
  readonly accused: number
  readonly found: number
  /** `found` divided by the number of members, and its 95 % interval. */
  readonly rate: number
  readonly interval: Interval
}

export interface Attack {
  /** Probability that a member has a higher score than another text; 0.5 by chance. */
  readonly area: number
  readonly at: readonly Found[]
}

export interface Membership {
  readonly members: number
  readonly others: number
  readonly lossRatio: Attack
  readonly minK: Attack
}

/** Scores of the tokens of some texts under the pair with the expert, and under the public model alone. */
export interface PairScores {
  readonly pair: readonly TokenScores[]
  readonly public: readonly TokenScores[]
}

export function membership(members: PairScores, others: PairScores): Membership {
  return {
    members: members.pair.length,
    others: others.pair.length,
    lossRatio: attack(lossRatios(members), lossRatios(others)),
    minK: attack(members.pair.map(leastLikely), others.pair.map(leastLikely)),
  }
}

/** How much better the expert predicts each text than the public model, in nats for each token. */
export function lossRatios({ pair, public: alone }: PairScores): number[] {
  return pair.map(({ nats }, i) => mean((alone[i] as TokenScores).nats) - mean(nats))
}

/** Min-K%++: mean standard score of the least likely tokens. */
export function leastLikely({ standard }: Pick<TokenScores, 'standard'>): number {
  const sorted = standard.toSorted()
  return mean(sorted.subarray(0, Math.max(1, Math.round(LEAST_LIKELY * sorted.length))))
}

/** An attack that calls texts with a high score members. */
export function attack(members: readonly number[], others: readonly number[]): Attack {
  const sorted = others.toSorted((a, b) => b - a)
  return {
    area: areaUnder(members, sorted),
    at: FALSE_POSITIVES.map((falsePositiveRate) => {
      const accused = Math.floor(falsePositiveRate * sorted.length)
      const threshold = sorted[accused] ?? Number.POSITIVE_INFINITY
      const found = members.filter((score) => score > threshold).length
      return {
        falsePositiveRate,
        accused,
        found,
        rate: found / Math.max(1, members.length),
        interval: clopperPearson(found, members.length),
      }
    }),
  }
}

/** Area under the receiver operating characteristic; a tie counts as half. 0.5 without texts. */
function areaUnder(members: readonly number[], others: readonly number[]): number {
  if (members.length === 0 || others.length === 0) return 0.5
  let wins = 0
  for (const member of members) {
    for (const other of others) wins += member > other ? 1 : member === other ? 0.5 : 0
  }
  return wins / (members.length * others.length)
}

function mean(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length)
}
