/**
 * Chooses the next token from logits: greedily, or by seeded sampling with temperature and nucleus (top-p). The time
 * grows linearly with the vocabulary, and no memory is allocated. Does not know tokens beyond their ids.
 */
import { BLOCK_TOKENS, TokenWeights } from '../kernels/sampling-kernels.ts'
import { mulberry32 } from '../lib/random.ts'

export interface Sampling {
  /** 0 chooses the most likely token. */
  readonly temperature: number
  /** In (0, 1]: samples from the smallest set of most likely tokens with at least this probability. */
  readonly topP: number
  readonly seed: number
}

/** With a lower temperature, only the most likely token has a weight that a float can hold. */
const MIN_TEMPERATURE = 1e-6

/** @returns a function from logits [V] to a token id; it advances the seeded generator. */
export function chooseToken({ temperature, topP, seed }: Sampling): (logits: Float32Array) => number {
  if (temperature < MIN_TEMPERATURE) return argMax
  const random = mulberry32(seed)
  return (logits) => nucleus(logits, temperature, topP, random)
}

function argMax(logits: Float32Array): number {
  let best = 0
  let highest = logits[0] as number
  for (let i = 1; i < logits.length; i++) {
    const logit = logits[i] as number
    if (logit > highest) {
      highest = logit
      best = i
    }
  }
  return best
}

/** Shared by all requests, because a token is chosen in one go. */
let shared: TokenWeights | undefined

/**
 * Draws tokens from all until one belongs to the nucleus, which is the case for a share `topP` of the draws. Each token
 * outside of it leaves only those before it in the order of likelihood for the next draw, so a few draws are enough
 * for a small nucleus, too. Among equally likely tokens, the lower id comes first.
 */
function nucleus(logits: Float32Array, temperature: number, topP: number, random: () => number): number {
  shared ??= new TokenWeights()
  const distribution = shared
  distribution.weigh(logits, temperature)
  const { weights } = distribution
  const total = sumOf(distribution.sums)
  // Logits that are not numbers have no distribution.
  if (!(total > 0 && total < Number.POSITIVE_INFINITY)) return argMax(logits)
  let chosen = find(distribution, random() * total, 0) ?? argMax(logits)
  while (topP < 1) {
    const weight = weights[chosen] as number
    distribution.sumAbove(weight)
    const above = sumOf(distribution.sums)
    // Even as the last of the tokens that are as likely, this one belongs to the nucleus.
    distribution.sumAbove(floatBelow(weight))
    if (sumOf(distribution.sums) - weight < topP * total) break
    const before = above + countEqual(weights, weight, chosen) * weight
    if (before < topP * total) break
    const target = random() * before
    distribution.sumAbove(weight)
    const next =
      target < above
        ? find(distribution, target, weight)
        : findEqual(weights, weight, Math.floor((target - above) / weight))
    if (next === undefined) break // Only rounding can leave no token.
    chosen = next
  }
  // The weight of a forbidden token is too small for a draw, but not 0, so that rounding could choose it.
  return logits[chosen] === Number.NEGATIVE_INFINITY ? argMax(logits) : chosen
}

function sumOf(sums: Float32Array): number {
  let total = 0
  for (let i = 0; i < sums.length; i++) total += sums[i] as number
  return total
}

/** The token at which the sum of the weights above `limit`, in the order of ids, exceeds `target`. */
function find({ weights, sums }: TokenWeights, target: number, limit: number): number | undefined {
  let rest = target
  let block = 0
  while (block < sums.length - 1 && rest >= (sums[block] as number)) rest -= sums[block++] as number
  let last: number | undefined
  for (let i = block * BLOCK_TOKENS; i < weights.length; i++) {
    const weight = weights[i] as number
    if (weight <= limit) continue
    last = i
    rest -= weight
    if (rest < 0) return i
  }
  return last
}

const FLOAT = new Float32Array(1)
const BITS = new Int32Array(FLOAT.buffer)

/** The largest 32-bit float below a positive one. */
function floatBelow(value: number): number {
  FLOAT[0] = value
  BITS[0] = (BITS[0] as number) - 1
  return FLOAT[0]
}

/** Number of tokens with this weight and an id below `end`. */
function countEqual(weights: Float32Array, weight: number, end: number): number {
  let count = 0
  for (let i = 0; i < end; i++) if (weights[i] === weight) count++
  return count
}

/** The token with this weight that has `skipped` others of the same weight before it. */
function findEqual(weights: Float32Array, weight: number, skipped: number): number | undefined {
  let rest = skipped
  for (let i = 0; i < weights.length; i++) if (weights[i] === weight && rest-- === 0) return i
  return undefined
}
