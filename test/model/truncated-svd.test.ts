import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { type MatrixProducts, ProductEngine } from '../../src/model/matrix-products.ts'
import { truncatedSvd } from '../../src/model/truncated-svd.ts'
import { onnx } from '../support/engines.ts'
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

/** Products in double precision. */
function dense(matrix: Float64Array, m: number, n: number): MatrixProducts {
  const products = (vectors: Float64Array, k: number, out: number, width: number, transposed: boolean) =>
    Float64Array.from({ length: k * out }, (_, at) => {
      const [v, o] = [Math.floor(at / out), at % out]
      let sum = 0
      for (let i = 0; i < width; i++)
        sum += (vectors[v * width + i] as number) * (matrix[transposed ? i * n + o : o * n + i] as number)
      return sum
    })
  return {
    m,
    n,
    times: async (vectors, k) => products(vectors, k, m, n, false),
    timesTransposed: async (vectors, k) => products(vectors, k, n, m, true),
    tolerance: 1e-7,
  }
}

const distance = (a: Float64Array, b: Float64Array): number =>
  Math.hypot(...a.map((x, i) => x - (b[i] as number)))

describe('truncatedSvd', () => {
  const values = Array.from({ length: 20 }, (_, i) => 8 * 0.8 ** i)

  it.each([
    [30, 20],
    [20, 30],
    [20, 20],
  ])(
    'finds the singular values of a %i x %i matrix and its best approximation of each rank',
    async (m, n) => {
      const matrix = matrixOf(m, n, values, 3)
      for (const rank of [1, 6, 20]) {
        const svd = await truncatedSvd(dense(matrix, m, n), rank)
        expect(maxDifference(svd.values, values.slice(0, rank))).toBeLessThan(1e-6)
        const tail = Math.hypot(0, ...values.slice(rank))
        expect(
          Math.abs(distance(matrix, product(m, n, svd.values, svd.left, svd.right)) - tail),
        ).toBeLessThan(1e-6)
      }
    },
  )

  it('is exact to rounding if the matrix has no higher rank', async () => {
    const matrix = matrixOf(200, 90, [5, 5, 1e-3], 4)
    const svd = await truncatedSvd(dense(matrix, 200, 90), 5)
    expect(maxDifference(svd.values, [5, 5, 1e-3, 0, 0])).toBeLessThan(1e-12)
    expect(distance(matrix, product(200, 90, svd.values, svd.left, svd.right))).toBeLessThan(1e-11)
  })

  it('is close to the best approximation if singular values fall slowly', async () => {
    const slow = Array.from({ length: 80 }, (_, i) => 1 / (1 + i / 20))
    const matrix = matrixOf(100, 80, slow, 5)
    const { values: found } = await truncatedSvd(dense(matrix, 100, 80), 8)
    const energy = (list: ArrayLike<number>): number => Array.from(list).reduce((sum, x) => sum + x * x, 0)
    expect(energy(found) / energy(slow.slice(0, 8))).toBeGreaterThan(0.9999)
  })

  it('gives zeros for the zero matrix, and refuses a rank that the matrix cannot have', async () => {
    const zero = dense(new Float64Array(12), 3, 4)
    const { values: none, left } = await truncatedSvd(zero, 2)
    expect([...none, ...left]).toEqual(new Array(8).fill(0))
    for (const rank of [0, 4, 1.5]) await expect(truncatedSvd(zero, rank)).rejects.toThrow(RangeError)
  })

  it('keeps the same energy with products of an engine as in double precision', async () => {
    const products = await ProductEngine.create(onnx)
    const spectra = [
      values,
      Array.from({ length: 80 }, (_, i) => 1 / (1 + i / 20)),
      Array.from({ length: 60 }, (_, i) => 1 - i / 120),
      [3, 2, 1],
    ]
    for (const [i, spectrum] of spectra.entries()) {
      const [m, n] = [100 + i, 80]
      const matrix = matrixOf(m, n, spectrum, 6 + i)
      const energies = [dense(matrix, m, n), products.of(Float32Array.from(matrix), m, n)].map(
        async (source) => sum((await truncatedSvd(source, 6)).values.map((x) => x * x)),
      )
      const [expected, found] = (await Promise.all(energies)) as [number, number]
      expect(Math.abs(found / expected - 1)).toBeLessThan(1e-4)
    }
    await products.dispose()
  })
})

const sum = (list: Float64Array): number => list.reduce((a, b) => a + b, 0)
