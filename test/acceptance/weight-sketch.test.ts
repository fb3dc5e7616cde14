import { describe, expect, it } from 'vitest'
import {
  decodeSketch,
  encodeSketch,
  isNearlySame,
  MatrixSketch,
  type WeightSketch,
} from '../../src/acceptance/weight-sketch.ts'
import { mulberry32 } from '../../src/lib/random.ts'

const ROWS = 48
const COLUMNS = 40
const TENSORS = 12
const SEED = new Uint8Array(32).fill(7)

function randomMatrix(random: () => number, length = ROWS * COLUMNS): Float32Array {
  return Float32Array.from({ length }, () => random() + random() + random() - 1.5)
}

/** Matrices by name. */
type Matrices = ReadonlyMap<string, Float32Array>

function randomMatrices(seed: number): Matrices {
  const random = mulberry32(seed)
  return new Map(Array.from({ length: TENSORS }, (_, i) => [`tensor ${i}`, randomMatrix(random)]))
}

/** Every matrix, changed by a function of its value and its index. */
function changed(matrices: Matrices, change: (value: number, tensor: number) => number): Matrices {
  return new Map([...matrices].map(([name, values], i) => [name, values.map((value) => change(value, i))]))
}

/** @param piece number of values that arrive at once */
function sketchOf(matrices: Matrices, seed = SEED, piece = 1000): WeightSketch {
  return new Map(
    [...matrices].map(([name, values]) => {
      const sketch = new MatrixSketch(seed, name, ROWS, COLUMNS)
      for (let at = 0; at < values.length; at += piece) {
        const part = values.subarray(at, at + piece)
        sketch.add(part, new Float32Array(part.length), at)
      }
      return [name, sketch.result()]
    }),
  )
}

/** Estimated distance of two sets of weights, relative to the norm of the first, over all tensors. */
function relativeDistance(known: WeightSketch, candidate: WeightSketch): number {
  let squared = 0
  let total = 0
  for (const [name, sketch] of known) {
    const other = candidate.get(name) as Float32Array
    for (const [i, value] of sketch.entries()) {
      squared += (value - (other[i] as number)) ** 2
      total += value ** 2
    }
  }
  return Math.sqrt(squared / total)
}

describe('the sketch of weights', () => {
  const weights = randomMatrices(1)
  const sketch = sketchOf(weights)

  it('estimates the distance of two sets of weights within 20 %', () => {
    for (const size of [0.01, 0.1, 0.5]) {
      const noise = mulberry32(2)
      // Both have the same variance, so the relative distance is `size`.
      const other = changed(weights, (value) => value + size * (noise() + noise() + noise() - 1.5))
      expect(relativeDistance(sketch, sketchOf(other)) / size).toBeGreaterThan(0.8)
      expect(relativeDistance(sketch, sketchOf(other)) / size).toBeLessThan(1.2)
    }
  })

  it.each([
    ['the same weights', (value: number) => value, true],
    ['weights that are rounded', (value: number) => Math.round(value * 64) / 64, true],
    ['weights that are scaled by 1.05', (value: number) => 1.05 * value, true],
    [
      'weights of which half of the tensors are others',
      (value: number, i: number) => (i < 6 ? value : -value),
      true,
    ],
    [
      'weights of which most tensors are others',
      (value: number, i: number) => (i < 5 ? value : -value),
      false,
    ],
    ['weights that are scaled by 1.5', (value: number) => 1.5 * value, false],
    ['opposite weights', (value: number) => -value, false],
  ])('finds that %s are nearly the same: %#', (_title, change, expected) => {
    expect(isNearlySame(sketch, sketchOf(changed(weights, change)))).toBe(expected)
  })

  it('finds that other weights are not the same', () => {
    expect(isNearlySame(sketch, sketchOf(randomMatrices(3)))).toBe(false)
    expect(relativeDistance(sketch, sketchOf(randomMatrices(3)))).toBeGreaterThan(1)
  })

  it('does not depend on the pieces in which values arrive', () => {
    expect(relativeDistance(sketch, sketchOf(weights, SEED, 7))).toBeLessThan(1e-6)
  })

  it('of a product of factors is that of the product', () => {
    const random = mulberry32(4)
    const rank = 3
    const B = randomMatrix(random, ROWS * rank)
    const A = randomMatrix(random, rank * COLUMNS)
    const product = Float32Array.from({ length: ROWS * COLUMNS }, (_, at) => {
      const [row, column] = [Math.floor(at / COLUMNS), at % COLUMNS]
      let sum = 0
      for (let r = 0; r < rank; r++)
        sum += (B[row * rank + r] as number) * (A[r * COLUMNS + column] as number)
      return sum
    })
    const whole = new MatrixSketch(SEED, 'x', ROWS, COLUMNS)
    whole.add(product, new Float32Array(product.length), 0)
    const factors = new MatrixSketch(SEED, 'x', ROWS, COLUMNS)
    factors.addProduct(B, A, rank)
    for (const [i, value] of whole.result().entries()) expect(factors.result()[i]).toBeCloseTo(value, 3)
  })

  it('is another one with another seed', () => {
    const other = sketchOf(weights, new Uint8Array(32).fill(8))
    expect(isNearlySame(sketch, other)).toBe(false)
  })

  it('is stored as it is', () => {
    expect([...decodeSketch(encodeSketch(sketch))]).toEqual([...sketch])
  })
})
