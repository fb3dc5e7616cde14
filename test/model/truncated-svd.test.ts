import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { truncatedSvd } from '../../src/model/truncated-svd.ts'
import { maxDifference } from '../support/low-rank.ts'

/** k orthonormal vectors [n], one after the other. */
function orthonormal(k: number, n: number, random: () => number): Float64Array {
  const vectors = new Float64Array(k * n)
  for (let v = 0; v < k; v++) {
    const own = Float64Array.from({ length: n }, () => random() - 0.5)
    for (let u = 0; u < v; u++) {
      const share = own.reduce((sum, x, i) => sum + x * (vectors[u * n + i] as number), 0)
      own.forEach((x, i) => {
        own[i] = x - share * (vectors[u * n + i] as number)
      })
    }
    const norm = Math.hypot(...own)
    vectors.set(
      own.map((x) => x / norm),
      v * n,
    )
  }
  return vectors
}

/** A matrix [m, n] with the given singular values and random singular vectors. */
function matrixOf(m: number, n: number, values: readonly number[], seed: number): Float64Array {
  const random = mulberry32(seed)
  const left = orthonormal(values.length, m, random)
  const right = orthonormal(values.length, n, random)
  return product(m, n, values, left, right)
}

/** The matrix [m, n] with these singular values and vectors. */
function product(
  m: number,
  n: number,
  values: ArrayLike<number>,
  left: Float64Array,
  right: Float64Array,
): Float64Array {
  const matrix = new Float64Array(m * n)
  for (let k = 0; k < values.length; k++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        const term = (values[k] as number) * (left[k * m + i] as number) * (right[k * n + j] as number)
        matrix[i * n + j] = (matrix[i * n + j] as number) + term
      }
    }
  }
  return matrix
}

const distance = (a: Float64Array, b: Float64Array): number =>
  Math.hypot(...a.map((x, i) => x - (b[i] as number)))

describe('truncatedSvd', () => {
  const values = Array.from({ length: 20 }, (_, i) => 8 * 0.8 ** i)

  it.each([
    [30, 20],
    [20, 30],
    [20, 20],
  ])('finds the singular values of a %i x %i matrix and its best approximation of each rank', (m, n) => {
    const matrix = matrixOf(m, n, values, 3)
    for (const rank of [1, 6, 20]) {
      const svd = truncatedSvd(matrix, m, n, rank)
      expect(maxDifference(svd.values, values.slice(0, rank))).toBeLessThan(1e-6)
      const tail = Math.hypot(0, ...values.slice(rank))
      expect(Math.abs(distance(matrix, product(m, n, svd.values, svd.left, svd.right)) - tail)).toBeLessThan(
        1e-6,
      )
    }
  })

  it('is exact to rounding if the matrix has no higher rank', () => {
    const matrix = matrixOf(200, 90, [5, 5, 1e-3], 4)
    const svd = truncatedSvd(matrix, 200, 90, 5)
    expect(maxDifference(svd.values, [5, 5, 1e-3, 0, 0])).toBeLessThan(1e-12)
    expect(distance(matrix, product(200, 90, svd.values, svd.left, svd.right))).toBeLessThan(1e-11)
  })

  it('is close to the best approximation if singular values fall slowly', () => {
    const slow = Array.from({ length: 80 }, (_, i) => 1 / (1 + i / 20))
    const matrix = matrixOf(100, 80, slow, 5)
    const { values: found } = truncatedSvd(matrix, 100, 80, 8)
    const energy = (list: ArrayLike<number>): number => Array.from(list).reduce((sum, x) => sum + x * x, 0)
    expect(energy(found) / energy(slow.slice(0, 8))).toBeGreaterThan(0.9999)
  })

  it('gives zeros for the zero matrix, and refuses a rank that the matrix cannot have', () => {
    const { values: none, left } = truncatedSvd(new Float64Array(12), 3, 4, 2)
    expect([...none, ...left]).toEqual(new Array(8).fill(0))
    for (const rank of [0, 4, 1.5])
      expect(() => truncatedSvd(new Float64Array(12), 3, 4, rank)).toThrow(RangeError)
  })
})
