import { describe, expect, it } from 'vitest'
import { isCoded, type MatrixFormat, widthMultiple } from '../../src/kernels/matrix-format.ts'
import { VectorThreads } from '../../src/kernels/vector-threads.ts'
import {
  dot,
  drawer,
  FORMATS,
  multiply,
  storedValues,
  storedVector,
  TestBlock,
  worstError,
} from './test-block.ts'

const silu = (x: number): number => x / (1 + Math.exp(-x))
const COUNTS = [1, 2, 3, 4, 5, 6, 7, 16]

/** Sizes of matrices; widths are rounded up to what the format supports. */
const SIZES = [
  [1, 4],
  [7, 20],
  [33, 64],
  [258, 100],
  [1001, 36],
  [30, 1412],
  [21, 4128],
] as const

function widthFor(format: MatrixFormat, width: number): number {
  return Math.ceil(width / widthMultiple(format)) * widthMultiple(format)
}

describe.each([1, 2, 4])('products with %i threads', (count) => {
  it.each(FORMATS)('multiply %s matrices of many sizes with one to sixteen vectors', async (format) => {
    const values = drawer(5)
    const threads = await VectorThreads.create(count, 1)
    for (const [rows, size] of SIZES) {
      const width = widthFor(format, size)
      const data = values(rows * width)
      const stored = storedValues(format, data, rows, width)
      const test = new TestBlock()
      const matrix = test.matrix(format, data, rows, width)
      const [x, y] = [test.inputs(16, width, format), test.results(16, rows)]
      const block = test.block(threads)
      for (const n of COUNTS) {
        const inputs = Array.from({ length: n }, () => values(width))
        for (const [v, input] of inputs.entries()) x.write(n, v, input)
        y.floats(16).fill(99)
        threads.run([{ kind: 'product', block, x: x.address, matrix, y: y.address, vectors: n }])
        for (const [v, input] of inputs.entries()) {
          const expected = multiply(stored, storedVector(format, input))
          expect(worstError(y.vector(v), expected)).toBeLessThan(2e-5)
        }
      }
    }
    await threads.dispose()
  })

  it.each(FORMATS)('write the results of a %s matrix and nothing behind them', async (format) => {
    const values = drawer(8)
    const threads = await VectorThreads.create(count, 1)
    const [rows, width] = [21, 64]
    for (const capacity of [1, 2, 3, 5, 7]) {
      const test = new TestBlock()
      const matrix = test.matrix(format, values(rows * width), rows, width)
      const x = test.inputs(capacity, width, format)
      const [y, behind] = [test.results(capacity, rows), test.results(capacity, rows)]
      const block = test.block(threads)
      for (let v = 0; v < capacity; v++) x.write(capacity, v, values(width))
      const before = behind.floats(capacity).fill(99).slice()
      threads.run([{ kind: 'product', block, x: x.address, matrix, y: y.address, vectors: capacity }])
      expect(behind.floats(capacity)).toEqual(before)
    }
    await threads.dispose()
  })

  it.each(FORMATS)('add the product with a %s matrix to results of another', async (format) => {
    const values = drawer(6)
    const threads = await VectorThreads.create(count, 1)
    const [rows, width, rank] = [52, 1440, 32]
    const [publicWeights, factor] = [values(rows * width), values(rows * rank)]
    const test = new TestBlock()
    const matrix = test.matrix('int4', publicWeights, rows, width)
    const added = test.matrix(format, factor, rows, rank)
    const [x, t] = [test.inputs(5, width, 'int4'), test.inputs(5, rank, format)]
    const y = test.results(5, rows)
    const block = test.block(threads)
    const storedPublic = storedValues('int4', publicWeights, rows, width)
    const storedFactor = storedValues(format, factor, rows, rank)
    for (const n of [1, 2, 3, 5]) {
      const inputs = Array.from({ length: n }, () => [values(width), values(rank)] as const)
      for (const [v, [input, inner]] of inputs.entries()) {
        x.write(n, v, input)
        t.write(n, v, inner)
      }
      const at = { block, y: y.address, vectors: n } as const
      threads.run([{ ...at, kind: 'product', matrix, x: x.address }])
      threads.run([{ ...at, kind: 'product', matrix: added, x: t.address, accumulate: true }])
      for (const [v, [input, inner]] of inputs.entries()) {
        const base = multiply(storedPublic, storedVector('int4', input))
        const more = multiply(storedFactor, storedVector(format, inner))
        const expected = base.map((value, r) => value + (more[r] as number))
        expect(worstError(y.vector(v), expected)).toBeLessThan(2e-5)
      }
    }
    await threads.dispose()
  })

  it.each(FORMATS)(
    'compute SwiGLU of %s matrices, also for large positive and negative gates',
    async (format) => {
      const values = drawer(7)
      const threads = await VectorThreads.create(count, 1)
      for (const [rows, size, n] of [
        [44, 8, 1],
        [44, 8, 3],
        [46, 8, 5],
        [132, 1412, 7],
      ] as const) {
        const width = widthFor(format, size)
        const [gates, ups] = [values(rows * width, 480 / width), values(rows * width)]
        const test = new TestBlock()
        const gateWeights = test.matrix(format, gates, rows, width)
        const upWeights = test.matrix(format, ups, rows, width)
        const [x, y, up] = [test.inputs(7, width, format), test.results(7, rows), test.results(7, rows)]
        const block = test.block(threads)
        const inputs = Array.from({ length: n }, () => values(width))
        for (const [v, input] of inputs.entries()) x.write(n, v, input)
        const at = { block, x: x.address, y: y.address, scratch: up.address, vectors: n } as const
        const storedGates = storedValues(format, gates, rows, width)
        const storedUps = storedValues(format, ups, rows, width)
        threads.run([{ ...at, kind: 'swiGlu', gateWeights, upWeights }])
        for (const [v, input] of inputs.entries()) {
          const stored = storedVector(format, input)
          const products = multiply(storedUps, stored)
          const expected = multiply(storedGates, stored).map(
            (gate, r) => silu(gate) * (products[r] as number),
          )
          // The rounding errors of two sums of up to 1412 terms multiply.
          expect(worstError(y.vector(v), expected)).toBeLessThan(5e-5)
        }
      }
      await threads.dispose()
    },
  )
})

describe('quantized activations', () => {
  it('cost far less accuracy than quantized weights, also beside values of very different size', async () => {
    const values = drawer(8)
    const threads = await VectorThreads.create(1, 1)
    const [rows, width] = [64, 2048]
    const data = values(rows * width)
    const test = new TestBlock()
    const matrix = test.matrix('int8', data, rows, width)
    const [x, y] = [test.inputs(1, width, 'int8'), test.results(1, rows)]
    const block = test.block(threads)
    const input = values(width)
    input[100] = 100
    x.write(1, 0, input)
    threads.run([{ kind: 'product', block, x: x.address, matrix, y: y.address, vectors: 1 }])
    const stored = storedValues('int8', data, rows, width)
    const error = (weights: Float32Array, found: ArrayLike<number>): number => {
      const exact = multiply(weights, input)
      return Math.sqrt(
        dot(
          exact.map((value, r) => (value - (found[r] as number)) ** 2),
          exact.map(() => 1),
        ),
      )
    }
    expect(error(stored, y.vector(0))).toBeLessThan(0.2 * error(data, multiply(stored, input)))
    await threads.dispose()
  })

  it('of zeros, and of blocks with zeros only, give zeros', async () => {
    const values = drawer(9)
    const threads = await VectorThreads.create(1, 1)
    for (const format of FORMATS.filter(isCoded)) {
      const test = new TestBlock()
      const matrix = test.matrix(format, values(16 * 96), 16, 96)
      const [x, y] = [test.inputs(1, 96, format), test.results(1, 16)]
      const block = test.block(threads)
      x.write(1, 0, new Float32Array(96))
      threads.run([{ kind: 'product', block, x: x.address, matrix, y: y.address, vectors: 1 }])
      expect([...y.vector(0)].map(Math.abs)).toEqual(Array.from({ length: 16 }, () => 0))
    }
    await threads.dispose()
  })
})
