/**
 * Privacy accountant: the epsilon of repeated Gaussian mechanisms on Poisson samples, by Rényi differential privacy
 * (RDP) at integer orders. Two neighbouring texts differ by one unit that is added or removed. Knows nothing about
 * gradients, texts and files.
 *
 * The bound is the one of Mironov, Talwar and Zhang 2019 (arXiv 1908.10530, section 3.3), converted by proposition 12
 * of Canonne, Kamath and Steinke 2020 (arXiv 2004.00010). Every order gives a valid upper bound, so the list of orders
 * only decides how close the result comes to the smallest one.
 */

/** A Gaussian mechanism that runs `steps` times, each time on a new Poisson sample of the units. */
export interface SubsampledGaussian {
  /** Standard deviation of the noise divided by the maximum L2 change by one unit; 0 is no noise. */
  readonly noiseMultiplier: number
  /** Probability with which a step uses a unit, from 0 to 1; 1 uses every unit in every step. */
  readonly sampleRate: number
  /** Number of runs. */
  readonly steps: number
}

export interface Guarantee {
  /** Infinity if no bound exists. */
  readonly epsilon: number
  /** The order of Rényi divergence at which the bound is smallest. */
  readonly order: number
}

/** Name and version of the accountant, as manifests state it. A changed result needs a new version. */
export const ACCOUNTANT = 'rdp-integer-1'

/** Orders 2 to 256, 512 and 1024. */
const ORDERS: readonly number[] = [...Array.from({ length: 255 }, (_, index) => index + 2), 512, 1024]

/** Largest noise multiplier that `noiseFor` tries. */
const MAX_NOISE = 1e6
/** Manifests state noise multipliers in millionths and sample rates in billionths. */
const MICRO = 1e6
const NANO = 1e9

/**
 * Smallest epsilon for which the mechanisms, all run on the same units, are together (epsilon, delta)-DP.
 * @param delta from 0 to 1, both excluded.
 * @throws RangeError for parameters outside their ranges.
 */
export function epsilonOf(
  mechanisms: readonly SubsampledGaussian[],
  delta: number,
  orders: readonly number[] = ORDERS,
): Guarantee {
  checkDelta(delta)
  let best: Guarantee = { epsilon: Number.POSITIVE_INFINITY, order: orders[0] ?? 2 }
  for (const order of orders) {
    const epsilon = convert(totalRdp(mechanisms, order), order, delta)
    if (epsilon < best.epsilon) best = { epsilon, order }
  }
  return best
}

/**
 * Smallest noise multiplier, in whole millionths, with which `steps` runs are (epsilon, delta)-DP. Undefined if no noise
 * multiplier up to a million is enough. The sample rate is rounded up to billionths first, so that a manifest, which
 * has room for these digits only, can state the same epsilon.
 * @param before mechanisms that have run on the same units.
 * @throws RangeError for parameters outside their ranges.
 */
export function noiseFor({
  epsilon,
  delta,
  sampleRate,
  steps,
  before = [],
}: {
  epsilon: number
  delta: number
  sampleRate: number
  steps: number
  before?: readonly SubsampledGaussian[]
}): number | undefined {
  if (!(epsilon > 0)) throw new RangeError(`epsilon: expected more than 0, got ${epsilon}`)
  const rate = Math.min(1, Math.ceil(sampleRate * NANO) / NANO)
  const fits = (micro: number): boolean => {
    const next = { noiseMultiplier: micro / MICRO, sampleRate: rate, steps }
    return epsilonOf([...before, next], delta).epsilon <= epsilon
  }
  let low = 0
  let high = MICRO
  while (!fits(high)) {
    low = high
    high *= 2
    if (high > MAX_NOISE * MICRO) return undefined
  }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (fits(middle)) high = middle
    else low = middle
  }
  return high / MICRO
}

/** Rényi divergence of integer `order` of all mechanisms together: the sum over mechanisms and steps. */
function totalRdp(mechanisms: readonly SubsampledGaussian[], order: number): number {
  return mechanisms.reduce(
    (sum, mechanism) => sum + (mechanism.steps === 0 ? 0 : mechanism.steps * stepRdp(mechanism, order)),
    0,
  )
}

/**
 * Rényi divergence of integer `order` of one run:
 * ln(sum over k of C(order, k) (1 - q)^(order - k) q^k exp((k^2 - k) / (2 sigma^2))) / (order - 1).
 * The terms without the exponential sum to 1. They are subtracted before the logarithm, so that rates close to 0 keep
 * their precision.
 * @throws RangeError for parameters outside their ranges.
 */
export function stepRdp({ noiseMultiplier, sampleRate, steps }: SubsampledGaussian, order: number): number {
  if (!(noiseMultiplier >= 0)) {
    throw new RangeError(`noiseMultiplier: expected 0 or more, got ${noiseMultiplier}`)
  }
  if (!(sampleRate >= 0 && sampleRate <= 1)) {
    throw new RangeError(`sampleRate: expected 0 to 1, got ${sampleRate}`)
  }
  if (!(steps >= 0)) throw new RangeError(`steps: expected 0 or more, got ${steps}`)
  if (sampleRate === 0) return 0
  if (noiseMultiplier === 0) return Number.POSITIVE_INFINITY
  const halfPrecision = 1 / (2 * noiseMultiplier * noiseMultiplier)
  if (sampleRate === 1) return order * halfPrecision
  const logRate = Math.log(sampleRate)
  const logRest = Math.log1p(-sampleRate)
  let logBinomial = Math.log(order)
  const logTerms: number[] = []
  for (let k = 2; k <= order; k++) {
    logBinomial += Math.log((order - k + 1) / k)
    logTerms.push(logBinomial + k * logRate + (order - k) * logRest + logExpm1((k * k - k) * halfPrecision))
  }
  return log1pExp(logSumExp(logTerms)) / (order - 1)
}

/** Epsilon of a Rényi divergence at one order; never negative. */
function convert(rdp: number, order: number, delta: number): number {
  return Math.max(0, rdp + Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1))
}

function checkDelta(delta: number): void {
  if (!(delta > 0 && delta < 1))
    throw new RangeError(`delta: expected more than 0 and less than 1, got ${delta}`)
}

/** ln(sum of exp(x)). */
function logSumExp(values: readonly number[]): number {
  const maximum = values.reduce((largest, value) => Math.max(largest, value), Number.NEGATIVE_INFINITY)
  if (!Number.isFinite(maximum)) return maximum
  return maximum + Math.log(values.reduce((sum, value) => sum + Math.exp(value - maximum), 0))
}

/** ln(exp(x) - 1) for x > 0. */
function logExpm1(x: number): number {
  return x > Math.LN2 ? x + Math.log1p(-Math.exp(-x)) : Math.log(Math.expm1(x))
}

/** ln(1 + exp(x)). */
function log1pExp(x: number): number {
  return x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x))
}
