/** Probabilities of the standard normal distribution, with a small relative error also far from 0. Knows nothing else. */

/** Below this argument the series needs few terms; above it the continued fraction does. */
const SERIES_BELOW = 2
const FRACTION_TERMS = 200

/** Probability of a standard normal number between `low` and `high`, which may be infinite. */
export function normalBetween(low: number, high: number): number {
  if (!(low < high)) return 0
  if (low >= 0) return upperTail(low) - upperTail(high)
  if (high <= 0) return upperTail(-high) - upperTail(-low)
  return 1 - upperTail(-low) - upperTail(high)
}

/** Probability of a standard normal number above `x`. */
export function upperTail(x: number): number {
  return x < 0 ? 1 - upperTail(-x) : erfc(x / Math.SQRT2) / 2
}

/** Complementary error function of x >= 0 (Abramowitz and Stegun 1964, 7.1.6 and 7.1.14). */
function erfc(x: number): number {
  if (x === Number.POSITIVE_INFINITY) return 0
  const square = x * x
  if (x < SERIES_BELOW) {
    let term = x
    let sum = x
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * square) / (2 * n + 1)
      sum += term
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-square) * sum
  }
  let fraction = x
  for (let n = FRACTION_TERMS; n > 0; n--) fraction = x + n / 2 / fraction
  return Math.exp(-square) / (Math.sqrt(Math.PI) * fraction)
}
