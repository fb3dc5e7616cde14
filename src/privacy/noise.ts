/**
 * Differentially private router statistics by the Gaussian mechanism. Knows no package.
 *
 * What is protected: any one document of the statistics, a stretch of at most STATISTICS_WINDOW tokens; whoever
 * sees the result can hardly tell it from that of a text in which this document was exchanged for any other. A
 * source that gave k such documents is protected at k times epsilon only. The expert's weights are trained on the
 * same text and are not protected by this, nor are statistics published elsewhere without noise; each
 * publication with fresh noise spends its epsilon again.
 */
import { randomBytes } from 'node:crypto'
import type { RouterStatistics } from '../model/solved-router.ts'

/** Chance with which a document may be less protected than epsilon says. */
export const NOISE_DELTA = 1e-6
/** Most that the shares of one document can move, L2: all of it one token, then all of it another. */
const DOCUMENT_DIAMETER = Math.SQRT2
/** Shares below this many deviations are taken for noise: of tokens that a text never uses, one in a thousand is left. */
const LEAST_DEVIATIONS = 3

/** Uniform numbers in (0, 1]. */
export type Uniform = () => number

/**
 * Standard deviation of the noise on each share. A Gaussian mechanism with sensitivity D is rho-zCDP for
 * rho = D^2 / (2 sigma^2), and rho-zCDP is (rho + 2 sqrt(rho ln(1/delta)), delta)-DP (Bun and Steinke 2016, arXiv
 * 1605.02065, propositions 1.6 and 1.3), whatever epsilon is; the classical sqrt(2 ln(1.25/delta)) / epsilon (Dwork
 * and Roth 2014, theorem A.1) is proven up to 1 only.
 */
export function noiseDeviation(documents: number, epsilon: number): number {
  const log = -Math.log(NOISE_DELTA)
  const rootRho = Math.sqrt(log + epsilon) - Math.sqrt(log)
  return DOCUMENT_DIAMETER / documents / (Math.SQRT2 * rootRho)
}

/**
 * Statistics with noise, brought back to what statistics can be: none below 0, together 1. What shares taken for noise
 * leave is spread evenly over their tokens, as the text is likely to use some of them. That step sees nothing but the
 * noised values, so it costs no protection.
 * @param uniform for tests alone: noise that can be foreseen protects nobody.
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
  const kept = noised.map((share) => (share < LEAST_DEVIATIONS * deviation ? 0 : share))
  const total = kept.reduce((sum, share) => sum + share, 0)
  const drowned = kept.filter((share) => share === 0).length
  const rest = drowned === 0 ? 0 : Math.max(0, 1 - total) / drowned
  const whole = total + rest * drowned
  return { tokens: Float32Array.from(kept, (share) => (share === 0 ? rest : share) / whole) }
}

/** Standard normal numbers (Box and Muller 1958). */
function gaussian(uniform: Uniform): () => number {
  let spare: number | undefined
  return () => {
    if (spare !== undefined) {
      const value = spare
      spare = undefined
      return value
    }
    const radius = Math.sqrt(-2 * Math.log(uniform()))
    const angle = 2 * Math.PI * uniform()
    spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
}

/** 53 bits each from the system's generator. */
function cryptographic(): Uniform {
  const BYTES = 65_536
  let pool = new DataView(new ArrayBuffer(0))
  let at = 0
  return () => {
    if (at >= pool.byteLength) {
      const bytes = randomBytes(BYTES)
      pool = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
      at = 0
    }
    const bits = pool.getBigUint64(at, true) >> 11n
    at += 8
    return (Number(bits) + 1) / 2 ** 53
  }
}
