import { describe, expect, it } from 'vitest'
import { BlockLayout } from '../../src/kernels/block-layout.ts'
import type { Matrix, MatrixFormat } from '../../src/kernels/matrix-format.ts'
import {
  type Block,
  countPieces,
  encodeJob,
  type Job,
  withFewerPieces,
  withVectors,
} from '../../src/kernels/vector-jobs.ts'
import { VectorThreads } from '../../src/kernels/vector-threads.ts'
import { dot, drawer, multiply, TestBlock, worstError } from './test-block.ts'

function expectClose(found: Float32Array, expected: readonly number[]): void {
  expect(found).toHaveLength(expected.length)
  expect(worstError(found, expected)).toBeLessThan(2e-5)
}

describe.each([1, 2, 4])('VectorThreads with %i threads', (count) => {
  it.each([4, 20, 32, 36, 64, 128])(
    'computes attention with heads of %i channels that share keys',
    async (width) => {
      const values = drawer(5)
      const threads = await VectorThreads.create(count, 1)
      const [heads, keyValueHeads, positions] = [6, 2, 70]
      const used = [1, 2, 32, 33, 64, 70]
      const layout = new BlockLayout()
      const cacheFloats = used.length * keyValueHeads * positions * width
      const at = {
        q: layout.reserve(used.length * heads * width),
        out: layout.reserve(used.length * heads * width),
        keys: layout.reserve(cacheFloats),
        values: layout.reserve(cacheFloats),
        lengths: layout.reserve(used.length),
        scores: layout.reserve(count * (positions + 4)),
      }
      const block = threads.block(layout.bytes)
      const fill = (address: number, data: Float32Array): Float32Array => {
        const view = new Float32Array(block.buffer, address, data.length)
        view.set(data)
        return view
      }
      const q = fill(at.q, values(used.length * heads * width, 4))
      const keys = fill(at.keys, values(cacheFloats))
      const past = fill(at.values, values(cacheFloats))
      new Int32Array(block.buffer, at.lengths, used.length).set(used)
      threads.run([
        { kind: 'attend', block, ...at, sequences: used.length, heads, keyValueHeads, positions, width },
      ])
      const out = new Float32Array(block.buffer, at.out, used.length * heads * width)
      used.forEach((length, sequence) => {
        for (let head = 0; head < heads; head++) {
          const vector = (sequence * heads + head) * width
          const shared = sequence * keyValueHeads + Math.floor((head * keyValueHeads) / heads)
          const row = (from: Float32Array, p: number): Float32Array =>
            from.subarray((shared * positions + p) * width, (shared * positions + p + 1) * width)
          const query = q.subarray(vector, vector + width)
          const scores = Array.from({ length }, (_, p) =>
            Math.exp(dot(row(keys, p), query) / Math.sqrt(width)),
          )
          const total = scores.reduce((a, b) => a + b, 0)
          const expected = Array.from({ length: width }, (_, c) =>
            scores.reduce((sum, score, p) => sum + (score / total) * (row(past, p)[c] as number), 0),
          )
          expectClose(out.slice(vector, vector + width), expected)
        }
      })
      await threads.dispose()
    },
  )

  it('uses the new block after it replaces another, in many lists in a row', async () => {
    const values = drawer(6)
    const threads = await VectorThreads.create(count, 2)
    const width = 16
    let block: Block | undefined
    for (let round = 0; round < 300; round++) {
      const test = new TestBlock()
      const data = values(64 * width)
      const matrix = test.matrix('fp32', data, 64, width)
      const [x, y, z] = [test.inputs(1, width, 'fp32'), test.results(1, 64), test.results(1, 64)]
      block = test.block(threads, round % 3 === 0 ? block : undefined)
      const input = values(width)
      x.write(1, 0, input)
      const job = { kind: 'product', block, x: x.address, matrix, vectors: 1 } as const
      threads.run([
        { ...job, y: y.address },
        { ...job, y: z.address },
      ])
      for (const results of [y, z]) expectClose(results.vector(0), multiply(data, input))
    }
    await threads.dispose()
  })
})

describe('kernels between products', () => {
  /** Copies vectors into a block, runs a kernel on their addresses, and returns the vectors afterwards. */
  async function runOn(
    vectors: readonly Float32Array[],
    step: (kernels: Block['kernels'], addresses: number[]) => void,
  ): Promise<Float32Array[]> {
    const threads = await VectorThreads.create(1, 1)
    const layout = new BlockLayout()
    const addresses = vectors.map(({ length }) => layout.reserve(length))
    const block = threads.block(layout.bytes)
    const views = vectors.map(({ length }, i) => new Float32Array(block.buffer, addresses[i], length))
    vectors.forEach((vector, i) => {
      views[i]?.set(vector)
    })
    step(block.kernels, addresses)
    await threads.dispose()
    return views.map((view) => view.slice())
  }
  const normed = (x: Float32Array, gain: Float32Array, eps: number): number[] => {
    const rms = Math.sqrt(dot(x, x) / x.length + eps)
    return Array.from(x, (value, i) => (value / rms) * (gain[i] as number))
  }

  it('add a multiple of a vector to another', async () => {
    const values = drawer(7)
    const [x, sum] = [values(20), values(20)]
    const [, added] = await runOn([x, sum], (kernels, [from = 0, to = 0]) =>
      kernels.addScaled(from, -0.25, to, 20),
    )
    const expected = Array.from(sum, (value, i) => value - 0.25 * (x[i] as number))
    expectClose(added as Float32Array, expected)
  })

  it.each([4, 20, 512])('compute the RMS norm of %i values, in place or added to others', async (width) => {
    const values = drawer(8)
    const [x, gain, sum] = [values(width, 3), values(width), values(width)]
    const eps = 1e-3
    const expected = normed(x, gain, eps)
    const [inPlace] = await runOn([x, gain], (kernels, [at = 0, by = 0]) =>
      kernels.rmsNorm(at, by, at, width, eps),
    )
    expectClose(inPlace as Float32Array, expected)
    const [kept, , added] = await runOn([x, gain, sum], (kernels, [at = 0, by = 0, to = 0]) =>
      kernels.addRmsNorm(at, by, to, width, eps),
    )
    expect(kept).toEqual(x)
    expectClose(
      added as Float32Array,
      expected.map((value, i) => value + (sum[i] as number)),
    )
  })

  it.each([2, 5, 32])('rotate heads of 2 x %i channels', async (half) => {
    const values = drawer(9)
    const [x, angles] = [values(3 * 2 * half), values(half, 3)]
    const [cos, sin] = [angles.map(Math.cos), angles.map(Math.sin)]
    const [found] = await runOn([x, cos, sin], (kernels, [at = 0, cosines = 0, sines = 0]) =>
      kernels.rotate(at, cosines, sines, half, x.length),
    )
    const expected = Array.from(x, (value, i) => {
      const channel = i % (2 * half)
      const angle = channel % half
      const partner = x[channel < half ? i + half : i - half] as number
      return value * (cos[angle] as number) + (channel < half ? -1 : 1) * partner * (sin[angle] as number)
    })
    expectClose(found as Float32Array, expected)
  })
})

describe('encoded jobs', () => {
  const block = { index: 0, buffer: new SharedArrayBuffer(0), kernels: {} as Block['kernels'], scratch: 0 }
  const matrix = (format: MatrixFormat, rows: number): Matrix => ({ format, at: 0, rows, width: 2048 })
  /** Number of pieces of an encoded job, and rows of each. */
  const splitOf = (words: Int32Array): [number, number] => [words[3] as number, words[7] as number]
  const product = (of: Matrix): Job => ({ kind: 'product', block, matrix: of, x: 0, y: 0, vectors: 1 })

  it.each([
    ['fp32', 4],
    ['bf16', 4],
    ['int8', 16],
    ['int4', 16],
  ] as const)(
    'never exceed the maximum number of pieces, however large %s matrices are',
    (format, multiple) => {
      const [head, expert] = [matrix(format, 262_144), matrix(format, 8192)]
      const lists = [[head], [head, head], Array.from({ length: 64 }, () => expert), [expert]]
      for (const [i, matrices] of [...lists, ...lists].entries()) {
        const threads = i < lists.length ? 2 : 64
        const jobs = withFewerPieces(
          matrices.map((one) => withVectors(encodeJob(product(one), threads), 3)),
          threads,
          4095,
        )
        expect(countPieces(jobs)).toBeLessThanOrEqual(4095)
        jobs.forEach(({ words }, j) => {
          const [pieces, rows] = splitOf(words)
          const all = matrices[j]?.rows as number
          expect(words[6]).toBe(3)
          expect(rows % multiple).toBe(0)
          expect([pieces * rows >= all, (pieces - 1) * rows < all]).toEqual([true, true])
        })
      }
      const two = [encodeJob(product(head), 2), encodeJob(product(head), 2)]
      expect(() => withFewerPieces(two, 2, 1)).toThrow(/at most 1 jobs in one list, got 2/)
    },
  )

  it('have a piece for every thread, but no small pieces', () => {
    const pieces = (rows: number, threads: number): number =>
      splitOf(encodeJob(product(matrix('fp32', rows)), threads).words)[0]
    // Rows of 8 KiB: 256 KiB and 1 MiB are divided among the threads, 32 KiB and less are not divided.
    expect([pieces(32, 1), pieces(32, 2), pieces(32, 8), pieces(32, 64)]).toEqual([1, 2, 8, 8])
    expect([pieces(128, 1), pieces(128, 2), pieces(128, 8), pieces(128, 64)]).toEqual([2, 4, 16, 32])
    expect([pieces(4, 2), pieces(4, 64)]).toEqual([1, 1])
  })

  it('split the rows of a conversion, not those of its matrix, into whole groups', () => {
    const job: Job = {
      kind: 'expand',
      block,
      matrix: matrix('bf16', 100_000),
      from: 64,
      rows: 1000,
      to: block,
      address: 0,
    }
    const [pieces, rows] = splitOf(encodeJob(job, 2).words)
    expect(rows % 16).toBe(0)
    expect(pieces * rows).toBeGreaterThanOrEqual(1000)
    expect((pieces - 1) * rows).toBeLessThan(1000)
  })
})

describe('VectorThreads.run', () => {
  it('refuses a list that is longer than its maximum', async () => {
    const threads = await VectorThreads.create(1, 1)
    const block = threads.block(64)
    const matrix: Matrix = { format: 'fp32', at: 0, rows: 4, width: 4 }
    const job: Job = { kind: 'product', block, x: 0, matrix, y: 0, vectors: 1 }
    expect(() => threads.run([job, job])).toThrow(/at most 1 jobs in one list, got 2/)
    await threads.dispose()
  })
})
