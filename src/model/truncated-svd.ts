/**
 * The largest singular values and vectors of a dense matrix: subspace iteration from a seeded random start (Halko,
 * Martinsson and Tropp, 2011, arXiv 0909.4061, 4.4), then one-sided Jacobi rotations of a small triangular matrix. Reads
 * the large matrix only through its products; everything else is in double precision. Does not know experts.
 */
import { dot } from '../lib/dot.ts'
import { mulberry32 } from '../lib/random.ts'
import type { MatrixProducts } from './matrix-products.ts'

export interface TruncatedSvd {
  /** Singular values in descending order; 0 beyond the rank of the matrix. */
  readonly values: Float64Array
  /** A left singular vector [m] for each value, one after the other; zeros for a value of 0. */
  readonly left: Float64Array
  /** A right singular vector [n] for each value, likewise. */
  readonly right: Float64Array
}

/** Number of additional vectors in the subspace, because its last vectors are the least accurate. */
const OVERSAMPLING = 10
const SEED = 1
const MAX_ITERATIONS = 30
/** Vectors count as orthogonal if the magnitude of their cosine is at most this. */
const COSINE_TOLERANCE = 1e-12
const MAX_SWEEPS = 30
/** A vector counts as a combination of others if orthogonalisation leaves no more than this share of its length. */
const DEPENDENT = 1e-10
/** A vector that lost more of its length than this to others is orthogonalised twice because of rounding. */
const CANCELLED = 0.5

/**
 * The r largest singular values of a matrix [m, n], with their vectors. Iteration stops when a step adds less energy to
 * the subspace than the tolerance of the products, relative to all of it.
 * @throws RangeError for a rank outside 1 to min(m, n): a bug of the caller; the signal's reason.
 */
export async function truncatedSvd(
  matrix: MatrixProducts,
  rank: number,
  signal?: AbortSignal,
): Promise<TruncatedSvd> {
  const { m, n, tolerance } = matrix
  const most = Math.min(m, n)
  if (!(Number.isInteger(rank) && rank >= 1 && rank <= most)) {
    throw new RangeError(`rank: expected 1 to ${most}, got ${rank}`)
  }
  const k = Math.min(most, rank + OVERSAMPLING)
  const random = mulberry32(SEED)
  let right: Float64Array = Float64Array.from({ length: k * n }, () => random() - 0.5)
  orthonormalise(right, k, n)
  let left = await matrix.times(right, k)
  let energy = sumOfSquares(left)
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    signal?.throwIfAborted()
    orthonormalise(left, k, m)
    right = await matrix.timesTransposed(left, k)
    orthonormalise(right, k, n)
    left = await matrix.times(right, k)
    const before = energy
    energy = sumOfSquares(left)
    if (energy - before <= tolerance * energy) break
  }
  // With the left vectors as Q R, the singular values of R are those of the matrix within the subspace.
  const triangular = orthonormalise(left, k, m)
  const rotations = rotateOrthogonal(triangular, k)
  return largest({ triangular, rotations, left, right, m, n, k }, rank)
}

/**
 * Gram-Schmidt, repeated for vectors that lose much of their length. Vectors that are combinations of others become zero.
 * @returns R [k, k]: vector v was the sum over u of R[v, u] times the orthonormal vector u.
 */
function orthonormalise(vectors: Float64Array, k: number, n: number): Float64Array {
  const R = new Float64Array(k * k)
  for (let v = 0; v < k; v++) {
    const own = vectors.subarray(v * n, (v + 1) * n)
    const before = Math.sqrt(sumOfSquares(own))
    let norm = before
    for (let round = 0; round < 2; round++) {
      const previous = norm
      const shares = sharesOf(own, vectors, v)
      addCombination(
        shares.map((share) => -share),
        vectors,
        own,
      )
      for (const [u, share] of shares.entries()) R[v * k + u] = (R[v * k + u] as number) + share
      norm = Math.sqrt(sumOfSquares(own))
      if (norm > CANCELLED * previous) break
    }
    if (norm <= DEPENDENT * before) own.fill(0)
    else {
      R[v * k + v] = norm
      for (let i = 0; i < n; i++) own[i] = (own[i] as number) / norm
    }
  }
  return R
}

/**
 * One-sided Jacobi: rotates pairs of the k rows [k] of a matrix until all rows are orthogonal.
 * @returns the rotations [k, k]: row v of the result is the sum over u of rotations[v, u] times the former row u.
 */
function rotateOrthogonal(rows: Float64Array, k: number): Float64Array {
  const rotations = new Float64Array(k * k)
  for (let v = 0; v < k; v++) rotations[v * k + v] = 1
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let hasRotated = false
    for (let p = 0; p < k; p++) {
      for (let q = p + 1; q < k; q++) {
        const a = rows.subarray(p * k, (p + 1) * k)
        const b = rows.subarray(q * k, (q + 1) * k)
        const aa = dot(a, a)
        const bb = dot(b, b)
        const ab = dot(a, b)
        if (Math.abs(ab) <= COSINE_TOLERANCE * Math.sqrt(aa * bb)) continue
        hasRotated = true
        const zeta = (bb - aa) / (2 * ab)
        const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta))
        const cosine = 1 / Math.sqrt(1 + tangent * tangent)
        const sine = cosine * tangent
        rotate(a, b, cosine, sine)
        rotate(rotations.subarray(p * k, (p + 1) * k), rotations.subarray(q * k, (q + 1) * k), cosine, sine)
      }
    }
    if (!hasRotated) break
  }
  return rotations
}

function rotate(a: Float64Array, b: Float64Array, cosine: number, sine: number): void {
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number
    const y = b[i] as number
    a[i] = cosine * x - sine * y
    b[i] = sine * x + cosine * y
  }
}

interface Subspace {
  /** k orthogonal rows [k], whose lengths are the singular values: coefficients of the vectors in `left`. */
  readonly triangular: Float64Array
  /** [k, k]: coefficients of the right singular vectors in `right`. */
  readonly rotations: Float64Array
  /** k orthonormal vectors [m]. */
  readonly left: Float64Array
  /** k orthonormal vectors [n]. */
  readonly right: Float64Array
  readonly m: number
  readonly n: number
  readonly k: number
}

/** The `rank` largest singular values of a subspace. */
function largest({ triangular, rotations, left, right, m, n, k }: Subspace, rank: number): TruncatedSvd {
  const row = (matrix: Float64Array, v: number): Float64Array => matrix.subarray(v * k, (v + 1) * k)
  const norms = Array.from({ length: k }, (_, v) => Math.sqrt(sumOfSquares(row(triangular, v))))
  const order = Array.from(norms.keys()).sort((a, b) => (norms[b] as number) - (norms[a] as number))
  const result = {
    values: new Float64Array(rank),
    left: new Float64Array(rank * m),
    right: new Float64Array(rank * n),
  }
  for (let i = 0; i < rank; i++) {
    const v = order[i] as number
    const value = norms[v] as number
    if (value === 0) break
    result.values[i] = value
    addCombination(
      row(triangular, v).map((x) => x / value),
      left,
      result.left.subarray(i * m, (i + 1) * m),
    )
    addCombination(row(rotations, v), right, result.right.subarray(i * n, (i + 1) * n))
  }
  return result
}

/** Inner products of a vector with the first `count` of `vectors`, which have its length. */
function sharesOf(own: Float64Array, vectors: Float64Array, count: number): Float64Array {
  const n = own.length
  const shares = new Float64Array(count)
  let u = 0
  // Four sums at once: each waits for its own last addition only.
  for (; u + 4 <= count; u += 4) {
    let [a, b, c, d] = [0, 0, 0, 0]
    for (let i = 0, at = u * n; i < n; i++, at++) {
      const x = own[i] as number
      a += x * (vectors[at] as number)
      b += x * (vectors[at + n] as number)
      c += x * (vectors[at + 2 * n] as number)
      d += x * (vectors[at + 3 * n] as number)
    }
    shares.set([a, b, c, d], u)
  }
  for (; u < count; u++) shares[u] = dot(own, vectors.subarray(u * n, (u + 1) * n))
  return shares
}

/** Adds the sum over u of coefficients[u] times vector u, of the length of `into`, to `into`. */
function addCombination(coefficients: Float64Array, vectors: Float64Array, into: Float64Array): void {
  const n = into.length
  const count = coefficients.length
  let u = 0
  for (; u + 4 <= count; u += 4) {
    const [a = 0, b = 0, c = 0, d = 0] = coefficients.subarray(u, u + 4)
    for (let i = 0, at = u * n; i < n; i++, at++) {
      into[i] =
        (into[i] as number) +
        a * (vectors[at] as number) +
        b * (vectors[at + n] as number) +
        c * (vectors[at + 2 * n] as number) +
        d * (vectors[at + 3 * n] as number)
    }
  }
  for (; u < count; u++) {
    const share = coefficients[u] as number
    const vector = vectors.subarray(u * n, (u + 1) * n)
    for (let i = 0; i < n; i++) into[i] = (into[i] as number) + share * (vector[i] as number)
  }
}

function sumOfSquares(a: Float64Array): number {
  return dot(a, a)
}
