/**
 * A tighter accountant than the one of Rényi divergences: the distribution of the privacy loss itself, on a grid, and
 * its convolutions (Koskela, Jälkö and Honkela 2020, arXiv 1906.03049). Every rounding goes to the side of less privacy:
 * the result is never below the smallest epsilon but for errors of double precision. Knows nothing about gradients.
 *
 * A probability between two points of the grid is split between them so that its sums under both texts stay what they
 * are ("connect the dots", Doroshenko et al. 2022, arXiv 2207.04380). What lies above the grid counts as a loss of
 * infinity, and what lies below it as its first point.
 */
import { epsilonOf, type SubsampledGaussian } from './accountant.ts'
import { normalBetween, upperTail } from './normal-distribution.ts'

/** Which of the two neighbouring texts the published value comes from: the one with the unit, or the one without. */
type Direction = 'with' | 'without'

/** Probabilities `mass[i]` of the losses (`first` + i) x `step`, and one of an infinite loss. */
interface LossDistribution {
  /** A power of 2, so that every grid is part of each finer one. */
  readonly step: number
  readonly first: number
  readonly mass: Float64Array
  readonly infinite: number
}

/** Maximum number of points of a new distribution, and of one that is convolved further. */
const MAX_NEW_POINTS = 8192
const MAX_POINTS = 4096
/** Share of delta that all truncated tails may take together. */
const TAIL_SHARE = 1e-3
/** Share of delta that pays for errors of double precision. */
const ROUNDING_SHARE = 1e-6

/**
 * An epsilon for which the mechanisms, all run on the same units, are together (epsilon, delta)-DP: at most that of
 * `epsilonOf`. Takes up to a second or so for each mechanism.
 * @param delta from 0 to 1, both excluded. @throws RangeError for parameters outside their ranges.
 */
export function tightEpsilon(mechanisms: readonly SubsampledGaussian[], delta: number): number {
  const { epsilon: simple } = epsilonOf(mechanisms, delta)
  const effective = mechanisms.filter(({ steps, sampleRate }) => steps > 0 && sampleRate > 0)
  if (effective.length === 0) return 0
  if (effective.some(({ noiseMultiplier }) => noiseMultiplier === 0)) return Number.POSITIVE_INFINITY
  const epsilons = (['with', 'without'] as const).map((direction) => {
    const tail = (delta * TAIL_SHARE) / effective.length / 2
    const all = effective
      .map((mechanism) => repeated(mechanism, direction, tail))
      .reduce((a, b) => convolve(a, b, tail))
    return epsilonAt(all, delta * (1 - ROUNDING_SHARE))
  })
  return Math.min(simple, Math.max(...epsilons))
}

/** All steps of a mechanism. @param tail probability that truncation may take. */
function repeated(mechanism: SubsampledGaussian, direction: Direction, tail: number): LossDistribution {
  const { steps } = mechanism
  // Tails of one step are truncated once for every step, those of a later convolution less often.
  const levels = 2 * Math.ceil(Math.log2(steps + 1)) + 1
  const share = tail / levels / steps
  let power = oneStep(mechanism, direction, share)
  let result: LossDistribution | undefined
  for (let left = steps, runs = 1; ; runs *= 2) {
    if (left % 2 === 1) result = result === undefined ? power : convolve(result, power, share * runs)
    left = Math.floor(left / 2)
    if (left === 0) return result as LossDistribution
    power = convolve(power, power, share * 2 * runs)
  }
}

/** One step: a normal number around 0, or around 1 with the probability of the sample rate. */
function oneStep(
  { noiseMultiplier: sigma, sampleRate: rate }: SubsampledGaussian,
  direction: Direction,
  tail: number,
): LossDistribution {
  /** Logarithm of the ratio of the densities with and without the unit; grows with x. */
  const logRatio = (x: number): number => {
    const exponent = (2 * x - 1) / (2 * sigma * sigma)
    // 1 - rate + rate exp(exponent), without overflow.
    return exponent > 0
      ? exponent + Math.log(rate + (1 - rate) * Math.exp(-exponent))
      : Math.log1p(rate * Math.expm1(exponent))
  }
  /** The x of a ratio; minus infinity for ratios that do not occur. */
  const inverse = (ratio: number): number => {
    // (exp(ratio) - 1 + rate) / rate
    const scaled = 1 + Math.expm1(ratio) / rate
    return scaled > 0 ? sigma * sigma * Math.log(scaled) + 0.5 : Number.NEGATIVE_INFINITY
  }
  const without = (low: number, high: number): number => normalBetween(low / sigma, high / sigma)
  const withUnit = (low: number, high: number): number =>
    (1 - rate) * without(low, high) + rate * normalBetween((low - 1) / sigma, (high - 1) / sigma)
  const isWith = direction === 'with'
  const reach = sigma * deviations(tail)
  const [lowest, highest] = isWith
    ? [logRatio(-reach), logRatio(1 + reach)]
    : [-logRatio(reach), -logRatio(-reach)]
  const step = 2 ** Math.ceil(Math.log2((highest - lowest) / (MAX_NEW_POINTS - 4)))
  const first = Math.floor(lowest / step)
  const count = Math.ceil(highest / step) - first + 1
  const mass = new Float64Array(count)
  /** The interval of x whose losses lie between two points of the grid. */
  const interval = (low: number, high: number): [number, number] =>
    isWith ? [inverse(low), inverse(high)] : [inverse(-high), inverse(-low)]
  const shrink = -Math.expm1(-step)
  for (let i = 0; i + 1 < count; i++) {
    const loss = (first + i) * step
    const [low, high] = interval(loss, loss + step)
    const here = isWith ? withUnit(low, high) : without(low, high)
    const there = isWith ? without(low, high) : withUnit(low, high)
    const upper = Math.min(here, Math.max(0, (here - there * Math.exp(loss)) / shrink))
    mass[i] = (mass[i] as number) + here - upper
    mass[i + 1] = (mass[i + 1] as number) + upper
  }
  const below = inverse((isWith ? 1 : -1) * first * step)
  const above = (first + count - 1) * step
  const beneath = isWith
    ? withUnit(Number.NEGATIVE_INFINITY, below)
    : without(below, Number.POSITIVE_INFINITY)
  mass[0] = (mass[0] as number) + beneath
  const infinite = isWith
    ? withUnit(inverse(above), Number.POSITIVE_INFINITY)
    : without(Number.NEGATIVE_INFINITY, inverse(-above))
  return { step, first, mass, infinite }
}

/** The distribution of the sum of two independent losses. @param tail probability that truncation may take at each end. */
function convolve(a: LossDistribution, b: LossDistribution, tail: number): LossDistribution {
  const step = Math.max(a.step, b.step)
  const [left, right] = [coarser(a, step), coarser(b, step)]
  const [m, n] = [left.mass.length, right.mass.length]
  const sums = new Float64Array(m + n - 1)
  for (let i = 0; i < m; i++) {
    const factor = left.mass[i] as number
    if (factor === 0) continue
    for (let j = 0; j < n; j++) sums[i + j] = (sums[i + j] as number) + factor * (right.mass[j] as number)
  }
  const infinite = left.infinite + right.infinite - left.infinite * right.infinite
  const all = truncated({ step, first: left.first + right.first, mass: sums, infinite }, tail)
  const points = all.mass.length
  return points <= MAX_POINTS ? all : coarser(all, step * 2 ** Math.ceil(Math.log2(points / MAX_POINTS)))
}

/** Without its tails: the upper one becomes infinite, the lower one moves up to the first point that is kept. */
function truncated({ step, first, mass, infinite }: LossDistribution, tail: number): LossDistribution {
  let end = mass.length
  let above = 0
  while (end > 1 && above + (mass[end - 1] as number) <= tail) above += mass[--end] as number
  let start = 0
  let below = 0
  while (start < end - 1 && below + (mass[start] as number) <= tail) below += mass[start++] as number
  const kept = mass.slice(start, end)
  kept[0] = (kept[0] as number) + below
  return { step, first: first + start, mass: kept, infinite: infinite + above }
}

/** On a grid whose step is a multiple of the present one. */
function coarser(distribution: LossDistribution, step: number): LossDistribution {
  if (step === distribution.step) return distribution
  const factor = step / distribution.step
  const first = Math.floor(distribution.first / factor)
  const count = Math.ceil((distribution.first + distribution.mass.length - 1) / factor) - first + 1
  const mass = new Float64Array(count)
  /** Share of the upper point, by the position between two points. */
  const shares = Array.from(
    { length: factor },
    (_, position) => Math.expm1(-position * distribution.step) / Math.expm1(-step),
  )
  for (const [i, probability] of distribution.mass.entries()) {
    const at = distribution.first + i - first * factor
    const lower = Math.floor(at / factor)
    const share = shares[at % factor] as number
    mass[lower] = (mass[lower] as number) + (1 - share) * probability
    if (share > 0) mass[lower + 1] = (mass[lower + 1] as number) + share * probability
  }
  return { step, first, mass, infinite: distribution.infinite }
}

/** The smallest epsilon, up to 1e-9, whose delta is at most `delta`. */
function epsilonAt({ step, first, mass, infinite }: LossDistribution, delta: number): number {
  const deltaOf = (epsilon: number): number => {
    let sum = infinite
    for (let i = mass.length - 1; i >= 0; i--) {
      const excess = (first + i) * step - epsilon
      if (excess <= 0) break
      sum -= (mass[i] as number) * Math.expm1(-excess)
    }
    return sum
  }
  let high = Math.max(0, (first + mass.length - 1) * step)
  if (deltaOf(high) > delta) return Number.POSITIVE_INFINITY
  let low = 0
  if (deltaOf(low) <= delta) return 0
  while (high - low > 1e-9 * Math.max(1, high)) {
    const middle = (low + high) / 2
    if (deltaOf(middle) <= delta) high = middle
    else low = middle
  }
  return high
}

/** A number of standard deviations above which a normal number lies with at most this probability. */
function deviations(probability: number): number {
  let result = 1
  while (upperTail(result) > probability) result += 0.125
  return result
}
