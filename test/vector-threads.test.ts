import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../src/model/sampling.ts'
import { quantize } from '../src/tensor/quantized.ts'
import type { Block, Job } from '../src/tensor/vector-jobs.ts'
import {
  BlockLayout,
  EncodedRegion,
  pairedSize,
  pairRows,
  VectorRegion,
} from '../src/tensor/vector-layout.ts'
import { VectorThreads } from '../src/tensor/vector-threads.ts'

const random = mulberry32(5)
const values = (count: number, scale = 1): Float32Array =>
  Float32Array.from({ length: count }, () => (random() - 0.5) * 2 * scale)
const dot = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, x, i) => sum + x * (b[i] as number), 0)
const silu = (x: number): number => x / (1 + Math.exp(-x))

/** A block with matrices and regions in it. */
class Desk {
  readonly #layout = new BlockLayout()
  readonly #regions: VectorRegion[] = []
  readonly #matrices: { at: number; data: Float32Array; width: number }[] = []

  matrix(data: Float32Array, width: number): number {
    const at = this.#layout.reserve(pairedSize(data.length / width, width))
    this.#matrices.push({ at, data, width })
    return at
  }
  region(capacity: number, width: number): VectorRegion {
    const region = new VectorRegion(this.#layout, capacity, width, true)
    this.#regions.push(region)
    return region
  }
  block(threads: VectorThreads, replaced?: Block): Block {
    const block = threads.block(this.#layout.bytes, replaced)
    for (const { at, data, width } of this.#matrices) {
      const size = pairedSize(data.length / width, width)
      pairRows(data, new Float32Array(block.buffer, at, size), width)
    }
    for (const region of this.#regions) region.bind(block.buffer)
    return block
  }
}

function rowsOf(matrix: Float32Array, width: number): Float32Array[] {
  return Array.from({ length: matrix.length / width }, (_, r) => matrix.subarray(r * width, (r + 1) * width))
}

function expectClose(found: Float32Array, expected: readonly number[], tolerance = 2e-5): void {
  expect(found).toHaveLength(expected.length)
  const worst = Math.max(...expected.map((x, i) => Math.abs(x - (found[i] as number)) / (1 + Math.abs(x))))
  expect(worst).toBeLessThan(tolerance)
}

describe.each([1, 2, 4])('jobs on %i threads', (count) => {
  it('multiply one vector or many with a matrix, whatever its size', async () => {
    const threads = await VectorThreads.create(count, 1)
    for (const [rows, width] of [
      [1, 4],
      [7, 20],
      [33, 64],
      [258, 100],
      [1001, 36],
      [30, 1412],
    ] as const) {
      const matrix = values(rows * width)
      for (const n of [1, 2, 3, 4, 5, 6, 7, 16]) {
        const desk = new Desk()
        const w = desk.matrix(matrix, width)
        const [x, y] = [desk.region(16, width), desk.region(16, rows)]
        const block = desk.block(threads)
        const inputs = Array.from({ length: n }, () => values(width))
        for (const [v, input] of inputs.entries()) x.write(n, v, input, 0)
        threads.run([
          {
            kind: 'product',
            block,
            x: x.address,
            matrix: { w, scales: 0 },
            y: y.address,
            rows,
            width,
            bits: 0,
            vectors: n,
          },
        ])
        for (const [v, input] of inputs.entries()) {
          const found = new Float32Array(rows)
          y.read(n, v, found, 0)
          expectClose(
            found,
            rowsOf(matrix, width).map((row) => dot(row, input)),
          )
          y.addTo(n, v, -1, found, 0)
          expect(Math.max(...found.map(Math.abs))).toBe(0)
        }
      }
    }
    await threads.dispose()
  })

  it('gate with silu, far into both of its ends', async () => {
    const threads = await VectorThreads.create(count, 1)
    const [rows, width] = [44, 8]
    const [gates, ups] = [values(rows * width, 60), values(rows * width)]
    for (const n of [1, 2, 3, 5, 6]) {
      const desk = new Desk()
      const [gateWeights, upWeights] = [desk.matrix(gates, width), desk.matrix(ups, width)]
      const [x, y, up] = [desk.region(6, width), desk.region(6, rows), desk.region(6, rows)]
      const block = desk.block(threads)
      const inputs = Array.from({ length: n }, () => values(width))
      for (const [v, input] of inputs.entries()) x.write(n, v, input, 0)
      threads.run([
        {
          kind: 'gated',
          block,
          x: x.address,
          bits: 0,
          gate: { w: gateWeights, scales: 0 },
          upward: { w: upWeights, scales: 0 },
          y: y.address,
          up: up.address,
          rows,
          width,
          vectors: n,
        },
      ])
      for (const [v, input] of inputs.entries()) {
        const found = new Float32Array(rows)
        y.read(n, v, found, 0)
        const upRows = rowsOf(ups, width)
        const expected = rowsOf(gates, width).map(
          (row, r) => silu(dot(row, input)) * dot(upRows[r] as Float32Array, input),
        )
        expectClose(found, expected)
      }
    }
    await threads.dispose()
  })

  it.each([8, 4] as const)(
    'multiply with %i-bit codes, losing what the codes lose and no more',
    async (bits) => {
      const threads = await VectorThreads.create(count, 1)
      const [rows, width] = [52, 96]
      const made = quantize(values(rows * width), rows, width, bits)
      const zero = 2 ** (bits - 1)
      const decoded = Float32Array.from({ length: rows * width }, (_, i) => {
        const byte = made.codes[(i * bits) >> 3] as number
        const code = bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15
        return (code - zero) * (made.scales[i >> 5] as number)
      })
      const codes = bits === 8 ? made.codes.map((code) => code ^ 128) : made.codes
      for (const n of [1, 3]) {
        const layout = new BlockLayout()
        const matrix = { w: layout.reserve(codes.length / 4), scales: layout.reserve(made.scales.length) }
        const x = new EncodedRegion(layout, 3, width, bits)
        const [y, up] = [new VectorRegion(layout, 3, rows, false), new VectorRegion(layout, 3, rows, false)]
        const block = threads.block(layout.bytes)
        for (const region of [x, y, up]) region.bind(block.buffer)
        new Uint8Array(block.buffer, matrix.w, codes.length).set(codes)
        new Float32Array(block.buffer, matrix.scales, made.scales.length).set(made.scales)
        const inputs = Array.from({ length: n }, () => values(width))
        for (const [v, input] of inputs.entries()) x.write(n, v, input, 0)
        const shared = { block, x: x.address, y: y.address, rows, width, bits, vectors: n } as const
        const found = new Float32Array(rows)
        const expectEach = (expected: (products: number[]) => number[]): void => {
          for (const [v, input] of inputs.entries()) {
            y.read(n, v, found, 0)
            expectClose(found, expected(rowsOf(decoded, width).map((row) => dot(row, input))), 2e-4)
          }
        }
        threads.run([{ ...shared, kind: 'product', matrix }])
        expectEach((products) => products)
        threads.run([{ ...shared, kind: 'gated', gate: matrix, upward: matrix, up: up.address }])
        expectEach((products) => products.map((z) => silu(z) * z))
      }
      await threads.dispose()
    },
  )

  it('attend over as many positions as each sequence has, heads sharing keys', async () => {
    const threads = await VectorThreads.create(count, 1)
    const [heads, keyValueHeads, positions, width] = [6, 2, 70, 36]
    const used = [1, 2, 33, 70]
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
        const scores = Array.from({ length }, (_, p) => Math.exp(dot(row(keys, p), query) / Math.sqrt(width)))
        const total = scores.reduce((a, b) => a + b, 0)
        const expected = Array.from({ length: width }, (_, c) =>
          scores.reduce((sum, score, p) => sum + (score / total) * (row(past, p)[c] as number), 0),
        )
        expectClose(out.slice(vector, vector + width), expected)
      }
    })
    await threads.dispose()
  })

  it('see a block that takes the place of another, list after list', async () => {
    const threads = await VectorThreads.create(count, 2)
    const width = 16
    let block: Block | undefined
    for (let round = 0; round < 300; round++) {
      const desk = new Desk()
      const matrix = values(64 * width)
      const w = desk.matrix(matrix, width)
      const [x, y, z] = [desk.region(1, width), desk.region(1, 64), desk.region(1, 64)]
      block = desk.block(threads, round % 3 === 0 ? block : undefined)
      const input = values(width)
      x.write(1, 0, input, 0)
      const stored = { w, scales: 0 }
      const at = { block, x: x.address, matrix: stored }
      const job = { kind: 'product', ...at, rows: 64, width, bits: 0, vectors: 1 } as const
      threads.run([
        { ...job, y: y.address },
        { ...job, y: z.address },
      ])
      for (const region of [y, z]) {
        const found = new Float32Array(64)
        region.read(1, 0, found, 0)
        expectClose(
          found,
          rowsOf(matrix, width).map((row) => dot(row, input)),
        )
      }
    }
    await threads.dispose()
  })
})

describe('a list', () => {
  it('that no control array holds is refused before any work', async () => {
    const threads = await VectorThreads.create(1, 1)
    const block = threads.block(64)
    const job: Job = {
      kind: 'product',
      block,
      x: 0,
      matrix: { w: 0, scales: 0 },
      y: 0,
      rows: 4,
      width: 4,
      bits: 0,
      vectors: 1,
    }
    expect(() => threads.run([job, job])).toThrow(/2 jobs in one list, at most 1/)
    await threads.dispose()
  })
})
