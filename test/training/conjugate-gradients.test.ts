import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { solvePair } from '../../src/training/conjugate-gradients.ts'

/** A symmetric positive definite matrix, and two right-hand sides. Their size is no multiple of the rows at once. */
const n = 61
const random = mulberry32(4)
const factor = Float64Array.from({ length: n * n }, () => random() - 0.5)
const A = Float64Array.from({ length: n * n }, (_, at) => {
  const [i, j] = [Math.floor(at / n), at % n]
  let sum = i === j ? 0.1 : 0
  for (let k = 0; k < n; k++) sum += (factor[i * n + k] as number) * (factor[j * n + k] as number)
  return sum
})
const side = (): Float64Array => Float64Array.from({ length: n }, () => random() - 0.5)
const sides: [Float64Array, Float64Array] = [side(), side()]

function residual(x: Float64Array, b: Float64Array): number {
  const errors = b.map((value, i) => x.reduce((sum, xk, k) => sum - (A[i * n + k] as number) * xk, value))
  return Math.hypot(...errors) / Math.hypot(...b)
}

describe('conjugate gradients for two right-hand sides', () => {
  it('solve both', async () => {
    const solutions = await solvePair(A, sides)
    solutions.forEach((x, i) => {
      expect(residual(x, sides[i] as Float64Array)).toBeLessThan(2e-6)
    })
  })

  it('give each the solution that it has alone', async () => {
    const [first, second] = await solvePair(A, sides)
    expect((await solvePair(A, [sides[0], new Float64Array(n)]))[0]).toEqual(first)
    expect((await solvePair(A, [sides[1], sides[1]]))[0]).toEqual(second)
  })

  it('stop when they are asked to', async () => {
    const stopped = AbortSignal.abort(new Error('stopped'))
    await expect(solvePair(A, sides, stopped)).rejects.toThrow('stopped')
  })
})
