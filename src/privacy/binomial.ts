/**
 * Binomial probabilities, and exact confidence intervals of a proportion. Computed with logarithms, so that they hold for
 * thousands of trials. Knows nothing about what is counted.
 */

/** Confidence of the intervals: 95 %, 2.5 % on each side. */
const TAIL = 0.025
/** Halvings of a bisection between two numbers: more than the precision of a double. */
const HALVINGS = 60

export interface Interval {
  readonly low: number
  readonly high: number
}

/** Logarithms of the factorials of 0 to n. */
function logFactorials(n: number): Float64Array {
  const logs = new Float64Array(n + 1)
  for (let k = 2; k <= n; k++) logs[k] = (logs[k - 1] as number) + Math.log(k)
  return logs
}

/** Probabilities of 0 to `trials` successes. @param q probability of one success, 0 to 1 */
export function binomial(trials: number, q: number): Float64Array {
  const probabilities = new Float64Array(trials + 1)
  if (q <= 0 || q >= 1) {
    probabilities[q <= 0 ? 0 : trials] = 1
    return probabilities
  }
  const logs = logFactorials(trials)
  const [yes, no] = [Math.log(q), Math.log1p(-q)]
  return probabilities.map((_, k) =>
    Math.exp(
      (logs[trials] as number) -
        (logs[k] as number) -
        (logs[trials - k] as number) +
        k * yes +
        (trials - k) * no,
    ),
  )
}

/** Probability of at least `successes`. */
export function atLeast(probabilities: Float64Array, successes: number): number {
  let sum = 0
  for (let k = probabilities.length - 1; k >= successes; k--) sum += probabilities[k] as number
  return Math.min(1, sum)
}

/** The 95 % interval of a proportion of Clopper and Pearson (Biometrika 26, 1934). Without trials: 0 to 1. */
export function clopperPearson(successes: number, trials: number): Interval {
  return {
    low: successes === 0 ? 0 : bisect(0, 1, (q) => atLeast(binomial(trials, q), successes) < TAIL),
    high:
      successes === trials ? 1 : bisect(0, 1, (q) => 1 - atLeast(binomial(trials, q), successes + 1) > TAIL),
  }
}

/** The number up to which `holds` is true, between `low` and `high`. */
export function bisect(low: number, high: number, holds: (value: number) => boolean): number {
  let [from, to] = [low, high]
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (from + to) / 2
    if (holds(middle)) from = middle
    else to = middle
  }
  return from
}
