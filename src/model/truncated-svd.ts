/**
 * The largest singular values and vectors of a dense matrix, in double precision: subspace iteration from a seeded
 * random start (Halko, Martinsson and Tropp, 2011, arXiv 0909.4061, 4.4), then one-sided Jacobi rotations of the small
 * remaining matrix. Does not know experts.
 */
import { dot } from '../lib/dot.ts'
import { mulberry32 } from '../lib/random.ts'

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
/** Iteration stops when a step adds less than this share to the energy of the subspace. */
const ENERGY_TOLERANCE = 1e-7
const MAX_ITERATIONS = 30
/** Vectors count as orthogonal if the magnitude of their cosine is at most this. */
const COSINE_TOLERANCE = 1e-12
const MAX_SWEEPS = 30
/** A vector counts as a combination of others if orthogonalisation leaves no more than this share of its length. */
const DEPENDENT = 1e-10

/**
 * The r largest singular values of a matrix [m, n], row-major, with their vectors.
 * @throws RangeError for a rank outside 1 to min(m, n): a bug of the caller.
 */
export function truncatedSvd(matrix: ArrayLike<number>, m: number, n: number, rank: number): TruncatedSvd {
  const most = Math.min(m, n)
  if (!(Number.isInteger(rank) && rank >= 1 && rank <= most)) {
    throw new RangeError(`rank: expected 1 to ${most}, got ${rank}`)
  }
  const k = Math.min(most, rank + OVERSAMPLING)
  const random = mulberry32(SEED)
  const right = Float64Array.from({ length: k * n }, () => random() - 0.5)
  orthonormalise(right, k, n)
  let left = times(matrix, m, n, right, k)
  let energy = sumOfSquares(left)
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    orthonormalise(left, k, m)
    right.set(timesTransposed(matrix, m, n, left, k))
    orthonormalise(right, k, n)
    left = times(matrix, m, n, right, k)
    const before = energy
    energy = sumOfSquares(left)
    if (energy - before <= ENERGY_TOLERANCE * energy) break
  }
  rotateOrthogonal(left, m, right, n, k)
  return largest(left, m, right, n, k, rank)
}

/** The matrix [m, n] times each of k vectors [n]: k vectors [m]. */
function times(
  matrix: ArrayLike<number>,
  m: number,
  n: number,
  vectors: Float64Array,
  k: number,
): Float64Array {
  const out = new Float64Array(k * m)
  for (let i = 0; i < m; i++) {
    for (let v = 0; v < k; v++) {
      let sum = 0
      for (let j = 0, a = i * n, b = v * n; j < n; j++)
        sum += (matrix[a + j] as number) * (vectors[b + j] as number)
      out[v * m + i] = sum
    }
  }
  return out
}

/** The transpose of the matrix [m, n] times each of k vectors [m]: k vectors [n]. */
function timesTransposed(
  matrix: ArrayLike<number>,
  m: number,
  n: number,
  vectors: Float64Array,
  k: number,
): Float64Array {
  const out = new Float64Array(k * n)
  for (let i = 0; i < m; i++) {
    for (let v = 0; v < k; v++) {
      const x = vectors[v * m + i] as number
      for (let j = 0, a = i * n, b = v * n; j < n; j++) {
        out[b + j] = (out[b + j] as number) + x * (matrix[a + j] as number)
      }
    }
  }
  return out
}

/** Gram-Schmidt, twice because of rounding. Vectors that are combinations of others become zero. */
function orthonormalise(vectors: Float64Array, k: number, n: number): void {
  for (let v = 0; v < k; v++) {
    const own = vectors.subarray(v * n, (v + 1) * n)
    const before = Math.sqrt(sumOfSquares(own))
    for (let round = 0; round < 2; round++) {
      for (let u = 0; u < v; u++) {
        const other = vectors.subarray(u * n, (u + 1) * n)
        const share = dot(own, other)
        for (let i = 0; i < n; i++) own[i] = (own[i] as number) - share * (other[i] as number)
      }
    }
    const norm = Math.sqrt(sumOfSquares(own))
    if (norm <= DEPENDENT * before) own.fill(0)
    else for (let i = 0; i < n; i++) own[i] = (own[i] as number) / norm
  }
}

/** One-sided Jacobi: rotates pairs of left vectors until all are orthogonal, and the right vectors with them. */
function rotateOrthogonal(left: Float64Array, m: number, right: Float64Array, n: number, k: number): void {
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let hasRotated = false
    for (let p = 0; p < k; p++) {
      for (let q = p + 1; q < k; q++) {
        const a = left.subarray(p * m, (p + 1) * m)
        const b = left.subarray(q * m, (q + 1) * m)
        const aa = dot(a, a)
        const bb = dot(b, b)
        const ab = dot(a, b)
        if (Math.abs(ab) <= COSINE_TOLERANCE * Math.sqrt(aa * bb)) continue
        hasRotated = true
        const zeta = (bb - aa) / (2 * ab)
        const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta))
        const cosine = 1 / Math.sqrt(1 + tangent * tangent)
        rotate(a, b, cosine, cosine * tangent)
        rotate(
          right.subarray(p * n, (p + 1) * n),
          right.subarray(q * n, (q + 1) * n),
          cosine,
          cosine * tangent,
        )
      }
    }
    if (!hasRotated) return
  }
}

function rotate(a: Float64Array, b: Float64Array, cosine: number, sine: number): void {
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number
    const y = b[i] as number
    a[i] = cosine * x - sine * y
    b[i] = sine * x + cosine * y
  }
}

/** The `rank` largest singular values; each left vector is now a singular value times a unit vector. */
function largest(
  left: Float64Array,
  m: number,
  right: Float64Array,
  n: number,
  k: number,
  rank: number,
): TruncatedSvd {
  const norms = Array.from({ length: k }, (_, v) =>
    Math.sqrt(sumOfSquares(left.subarray(v * m, (v + 1) * m))),
  )
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
    result.left.set(
      left.subarray(v * m, (v + 1) * m).map((x) => x / value),
      i * m,
    )
    result.right.set(right.subarray(v * n, (v + 1) * n), i * n)
  }
  return result
}

function sumOfSquares(a: Float64Array): number {
  return dot(a, a)
}
