/**
 * Differentially private router statistics by the Gaussian mechanism. Knows no package.
 *
 * What is protected: any one document of the statistics, a stretch of at most STATISTICS_WINDOW tokens; whoever
 * sees the result can hardly tell it from that of a text in which this document was exchanged for any other. A
 * source that gave k such documents is protected at k times epsilon only. The expert's weights are trained on the
 * same text and are not protected by this, nor is `mean` or `second` published elsewhere without noise; each
 * publication with fresh noise spends its epsilon again.
 */
import { randomBytes } from 'node:crypto'
import { cholesky } from '../lib/cholesky.ts'
import type { RouterStatistics } from '../model/solved-router.ts'

/** Chance with which a document may be less protected than epsilon says. */
export const NOISE_DELTA = 1e-6
/**
 * Most that (second, mean) of one document can move, L2 over all entries of both: |f f' - g g'|^2 + |f - g|^2 =
 * 4 - 2 c^2 - 2 c for unit vectors with cosine c, largest at c = -1/2; other documents are averages of such
 * points and of shorter ones, and no average lies further apart.
 */
const DOCUMENT_DIAMETER = Math.sqrt(4.5)
/** Trace that is kept where noise took it all. */
const LEAST_TRACE = 1e-3
/** Of the trace, what a mean may take: the rest is covariance. */
const MEAN_SHARE = 0.9
/** Halvings of the interval in which the shrinkage is looked for. */
const SHRINK_STEPS = 20

/** Uniform numbers in (0, 1]. */
export type Uniform = () => number

/**
 * Standard deviation of the noise on each of the orthonormal coordinates of (second, mean). A Gaussian mechanism
 * with sensitivity D is rho-zCDP for rho = D^2 / (2 sigma^2), and rho-zCDP is (rho + 2 sqrt(rho ln(1/delta)),
 * delta)-DP (Bun and Steinke 2016, arXiv 1605.02065, propositions 1.6 and 1.3), whatever epsilon is; the
 * classical sqrt(2 ln(1.25/delta)) / epsilon (Dwork and Roth 2014, theorem A.1) is proven up to 1 only.
 */
export function noiseDeviation(documents: number, epsilon: number): number {
  const log = -Math.log(NOISE_DELTA)
  const rootRho = Math.sqrt(log + epsilon) - Math.sqrt(log)
  return DOCUMENT_DIAMETER / documents / (Math.SQRT2 * rootRho)
}

/**
 * Statistics with noise, brought back to what statistics can be: trace at most 1, mean and covariance within it,
 * covariance positive semi-definite. That step sees nothing but the noised values, so it costs no protection.
 * @param uniform for tests alone: noise that can be foreseen protects nobody.
 */
export function noisedStatistics(
  { second, mean }: RouterStatistics,
  documents: number,
  epsilon: number,
  uniform: Uniform = cryptographic(),
): RouterStatistics {
  const C = mean.length
  const deviation = noiseDeviation(documents, epsilon)
  const normal = gaussian(uniform)
  const noisedMean = Float64Array.from(mean, (value) => value + deviation * normal())
  const full = new Float64Array(C * C)
  let at = 0
  for (let i = 0; i < C; i++) {
    for (let j = i; j < C; j++) {
      // An entry off the diagonal stands for two of the matrix.
      const scale = i === j ? deviation : deviation / Math.SQRT2
      full[j * C + i] = (second[at++] as number) + scale * normal()
    }
  }
  return feasible(full, noisedMean)
}

/** @param second (C, C), lower triangle; taken over. */
function feasible(second: Float64Array, mean: Float64Array): RouterStatistics {
  const C = mean.length
  const trace = Math.min(1, Math.max(LEAST_TRACE, traceOf(second, C)))
  const squares = mean.reduce((total, value) => total + value * value, 0)
  const scale = Math.min(1, Math.sqrt((MEAN_SHARE * trace) / squares))
  const kept = mean.map((value) => value * scale)
  const covariance = second
  for (let i = 0; i < C; i++) {
    for (let j = 0; j <= i; j++) {
      covariance[i * C + j] = (covariance[i * C + j] as number) - (kept[i] as number) * (kept[j] as number)
    }
  }
  const shrunk = shrink(covariance, C, trace - squares * scale * scale)
  const packed = new Float32Array((C * (C + 1)) / 2)
  let at = 0
  for (let i = 0; i < C; i++) {
    for (let j = i; j < C; j++) {
      packed[at++] = (shrunk[j * C + i] as number) + (kept[i] as number) * (kept[j] as number)
    }
  }
  return { second: packed, mean: Float32Array.from(kept) }
}

/**
 * The nearest to A on the way to a multiple of the identity that is positive definite, with the trace given:
 * noise that is far above the small eigenvalues is averaged into all of them.
 */
function shrink(A: Float64Array, C: number, trace: number): Float64Array {
  const excess = (trace - traceOf(A, C)) / C
  const toward = (share: number): Float64Array => {
    const mixed = A.map((value) => (1 - share) * value)
    for (let i = 0; i < C; i++) {
      mixed[i * C + i] = (mixed[i * C + i] as number) + (1 - share) * excess + (share * trace) / C
    }
    return mixed
  }
  if (cholesky(toward(0), C) !== undefined) return toward(0)
  let low = 0
  let high = 1
  for (let step = 0; step < SHRINK_STEPS; step++) {
    const middle = (low + high) / 2
    if (cholesky(toward(middle), C) === undefined) low = middle
    else high = middle
  }
  return toward(high)
}

function traceOf(A: Float64Array, C: number): number {
  let trace = 0
  for (let i = 0; i < C; i++) trace += A[i * C + i] as number
  return trace
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
