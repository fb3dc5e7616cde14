/**
 * Differentially private router statistics by the Gaussian mechanism. Knows no package.
 *
 * The mechanism protects any single document of the statistics, which is a stretch of at most STATISTICS_WINDOW
 * tokens: the result hardly differs from that of a text in which this document is replaced by any other. A source
 * that contributed k such documents is protected only at k times epsilon. The expert's weights are trained on the
 * same text and are not protected by this, nor are statistics that are published elsewhere without noise. Each
 * publication with fresh noise spends its epsilon again.
 */
import type { RouterStatistics } from '../model/solved-router.ts'
import { cryptographic, gaussian, type Uniform } from './random.ts'

/** Probability with which a document may be protected less than epsilon states. */
export const NOISE_DELTA = 1e-6
/** Maximum L2 change by one document: all of its tokens are one token, then all are another. */
const DOCUMENT_DIAMETER = Math.SQRT2
/** Shares below this number of deviations count as noise: one in a thousand unused tokens remains. */
const MIN_DEVIATIONS = 3

/**
 * Standard deviation of the noise on each share. A Gaussian mechanism with sensitivity D is rho-zCDP for
 * rho = D^2 / (2 sigma^2), and rho-zCDP is (rho + 2 sqrt(rho ln(1/delta)), delta)-DP (Bun and Steinke 2016, arXiv
 * 1605.02065, propositions 1.6 and 1.3), for every epsilon; the classical sqrt(2 ln(1.25/delta)) / epsilon (Dwork and
 * Roth 2014, theorem A.1) is proven only for epsilon up to 1.
 */
export function noiseDeviation(documents: number, epsilon: number): number {
  const log = -Math.log(NOISE_DELTA)
  const rootRho = Math.sqrt(log + epsilon) - Math.sqrt(log)
  return DOCUMENT_DIAMETER / documents / (Math.SQRT2 * rootRho)
}

/** `noiseDeviation` as a multiple of the maximum change by one document. */
export function noiseMultiplier(epsilon: number): number {
  return noiseDeviation(1, epsilon) / DOCUMENT_DIAMETER
}

/**
 * Statistics with noise, corrected so that no share is negative and the shares sum to 1. Shares that count as noise
 * are set to an equal share of the remaining mass, as the text is likely to use some of their tokens. The correction
 * uses only the noised values, so it costs no protection.
 * @param uniform for tests only: predictable noise protects nobody.
 */
export function noisedStatistics(
  { tokens }: RouterStatistics,
  documents: number,
  epsilon: number,
  uniform: Uniform = cryptographic(),
): RouterStatistics {
  const deviation = noiseDeviation(documents, epsilon)
  const normal = gaussian(uniform)
  const noised = Float64Array.from(tokens, (share) => share + deviation * normal())
  const kept = noised.map((share) => (share < MIN_DEVIATIONS * deviation ? 0 : share))
  const total = kept.reduce((sum, share) => sum + share, 0)
  const removed = kept.filter((share) => share === 0).length
  const rest = removed === 0 ? 0 : Math.max(0, 1 - total) / removed
  const whole = total + rest * removed
  return { tokens: Float32Array.from(kept, (share) => (share === 0 ? rest : share) / whole) }
}
