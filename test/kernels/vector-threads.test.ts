import { beforeEach, describe, expect, it } from 'vitest'
import { BlockLayout } from '../../src/kernels/block-layout.ts'
import { quantize } from '../../src/kernels/quantized.ts'
import { type Block, type Job, splitJobs } from '../../src/kernels/vector-jobs.ts'
import {
  PlainVectors,
  pairedSize,
  pairRows,
  QuantizedRegion,
  VectorRegion,
} from '../../src/kernels/vector-layout.ts'
import { VectorThreads } from '../../src/kernels/vector-threads.ts'
import { mulberry32 } from '../../src/lib/random.ts'

let random = mulberry32(5)
beforeEach(() => {
  random = mulberry32(5)
})
const values = (count: number, scale = 1): Float32Array =>
  Float32Array.from({ length: count }, () => (random() - 0.5) * 2 * scale)
const dot = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, x, i) => sum + x * (b[i] as number), 0)
const silu = (x: number): number => x / (1 + Math.exp(-x))

const MAX_WIDTH = 2000
const GUARD = 12_345

/** A block that holds matrices and vectors for products. */
class TestBlock {
  readonly #layout = new BlockLayout()
  readonly #plain = new PlainVectors(this.#layout, 1, MAX_WIDTH)
  #block: Block | undefined
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
    for (const region of [...this.#regions, this.#plain]) region.bind(block.buffer)
    this.#block = block
    return block
  }
  write(region: VectorRegion, n: number, v: number, vector: Float32Array): void {
    this.#plain.first(1).set(vector)
    this.#block?.kernels.interleave(this.#plain.at(0), region.at(v), region.step(n, v), region.width)
  }
  read(region: VectorRegion, n: number, v: number): Float32Array {
    const plain = this.#plain.first(1).fill(GUARD)
    this.#block?.kernels.deinterleave(region.at(v), region.step(n, v), this.#plain.at(0), region.width)
    expect(plain[Math.ceil(region.width / 4) * 4]).toBe(GUARD)
    return plain.slice(0, region.width)
  }
  /** `vector` plus `weight` times vector v of n. */
  added(region: VectorRegion, n: number, v: number, weight: number, vector: Float32Array): Float32Array {
    const plain = this.#plain.first(1)
    plain.set(vector)
    this.#block?.kernels.addDeinterleaved(
      region.at(v),
      region.step(n, v),
      weight,
      this.#plain.at(0),
      region.width,
    )
    return plain.slice(0, region.width)
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

describe.each([1, 2, 4])('VectorThreads with %i threads', (count) => {
  it('multiplies matrices of many sizes with one to sixteen vectors', async () => {
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
        const test = new TestBlock()
        const w = test.matrix(matrix, width)
        const [x, y] = [test.region(16, width), test.region(16, rows)]
        const block = test.block(threads)
        const inputs = Array.from({ length: n }, () => values(width))
        for (const [v, input] of inputs.entries()) test.write(x, n, v, input)
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
          const found = test.read(y, n, v)
          expectClose(
            found,
            rowsOf(matrix, width).map((row) => dot(row, input)),
          )
          expect(Math.max(...test.added(y, n, v, -1, found).map(Math.abs))).toBe(0)
        }
      }
    }
    await threads.dispose()
  })

  it('computes SwiGLU, also for large positive and negative gates', async () => {
    const threads = await VectorThreads.create(count, 1)
    for (const [rows, width, n] of [
      [44, 8, 1],
      [44, 8, 2],
      [44, 8, 3],
      [46, 8, 5],
      [44, 8, 6],
      [132, 1412, 7],
    ] as const) {
      const [gates, ups] = [values(rows * width, 480 / width), values(rows * width)]
      const test = new TestBlock()
      const [gateWeights, upWeights] = [test.matrix(gates, width), test.matrix(ups, width)]
      const [x, y, up] = [test.region(7, width), test.region(7, rows), test.region(7, rows)]
      const block = test.block(threads)
      const inputs = Array.from({ length: n }, () => values(width))
      for (const [v, input] of inputs.entries()) test.write(x, n, v, input)
      threads.run([
        {
          kind: 'swiGlu',
          block,
          x: x.address,
          bits: 0,
          gateWeights: { w: gateWeights, scales: 0 },
          upWeights: { w: upWeights, scales: 0 },
          y: y.address,
          scratch: up.address,
          rows,
          width,
          vectors: n,
        },
      ])
      for (const [v, input] of inputs.entries()) {
        const found = test.read(y, n, v)
        const upRows = rowsOf(ups, width)
        const expected = rowsOf(gates, width).map(
          (row, r) => silu(dot(row, input)) * dot(upRows[r] as Float32Array, input),
        )
        // The rounding errors of two sums of up to 1412 terms multiply.
        expectClose(found, expected, 5e-5)
      }
    }
    await threads.dispose()
  })

  it.each([8, 4] as const)(
    'multiplies matrices quantized to %i bits without further loss of accuracy',
    async (bits) => {
      const threads = await VectorThreads.create(count, 1)
      const [rows, width] = [52, 96]
      const quantized = quantize(values(rows * width), rows, width, bits)
      const zero = 2 ** (bits - 1)
      const dequantized = Float32Array.from({ length: rows * width }, (_, i) => {
        const byte = quantized.packed[(i * bits) >> 3] as number
        const integer = bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15
        return (integer - zero) * (quantized.scales[i >> 5] as number)
      })
      const packed = bits === 8 ? quantized.packed.map((byte) => byte ^ 128) : quantized.packed
      for (const n of [1, 3]) {
        const layout = new BlockLayout()
        const matrix = {
          w: layout.reserve(packed.length / 4),
          scales: layout.reserve(quantized.scales.length),
        }
        const x = new QuantizedRegion(layout, 3, width, bits)
        const [y, up] = [new VectorRegion(layout, 3, rows, false), new VectorRegion(layout, 3, rows, false)]
        const block = threads.block(layout.bytes)
        for (const region of [x, y, up]) region.bind(block.buffer)
        new Uint8Array(block.buffer, matrix.w, packed.length).set(packed)
        new Float32Array(block.buffer, matrix.scales, quantized.scales.length).set(quantized.scales)
        const inputs = Array.from({ length: n }, () => values(width))
        for (const [v, input] of inputs.entries()) x.write(v, input, 0)
        const shared = { block, x: x.address, y: y.address, rows, width, bits, vectors: n } as const
        const expectEach = (expected: (products: number[]) => number[]): void => {
          for (const [v, input] of inputs.entries()) {
            const from = (y.at(v) - y.address) / 4
            const found = y.floats(n).slice(from, from + rows)
            expectClose(found, expected(rowsOf(dequantized, width).map((row) => dot(row, input))), 2e-4)
          }
        }
        threads.run([{ ...shared, kind: 'product', matrix }])
        expectEach((products) => products)
        threads.run([
          { ...shared, kind: 'swiGlu', gateWeights: matrix, upWeights: matrix, scratch: up.address },
        ])
        expectEach((products) => products.map((z) => silu(z) * z))
      }
      await threads.dispose()
    },
  )

  it.each([4, 20, 32, 36, 64, 128])(
    'computes attention with heads of %i channels that share keys',
    async (width) => {
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
    const threads = await VectorThreads.create(count, 2)
    const width = 16
    let block: Block | undefined
    for (let round = 0; round < 300; round++) {
      const test = new TestBlock()
      const matrix = values(64 * width)
      const w = test.matrix(matrix, width)
      const [x, y, z] = [test.region(1, width), test.region(1, 64), test.region(1, 64)]
      block = test.block(threads, round % 3 === 0 ? block : undefined)
      const input = values(width)
      test.write(x, 1, 0, input)
      const stored = { w, scales: 0 }
      const at = { block, x: x.address, matrix: stored }
      const job = { kind: 'product', ...at, rows: 64, width, bits: 0, vectors: 1 } as const
      threads.run([
        { ...job, y: y.address },
        { ...job, y: z.address },
      ])
      for (const region of [y, z]) {
        expectClose(
          test.read(region, 1, 0),
          rowsOf(matrix, width).map((row) => dot(row, input)),
        )
      }
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

  it.each([4, 20, 512])('compute the RMS norm of %i values, in place or added to others', async (width) => {
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

describe('splitJobs', () => {
  it('never exceeds the maximum number of pieces, however large the matrices are', () => {
    const block = { index: 0, buffer: new SharedArrayBuffer(0), kernels: {} as Block['kernels'] }
    const rest = { block, x: 0, matrix: { w: 0, scales: 0 }, y: 0, bits: 0, vectors: 1 } as const
    const head: Job = { ...rest, kind: 'product', rows: 262_144, width: 2048 }
    const expert: Job = { ...rest, kind: 'product', rows: 8192, width: 2048 }
    for (const jobs of [[head], [head, head], Array.from({ length: 64 }, () => expert), [expert]]) {
      const splits = splitJobs(jobs, 4095)
      expect(splits.reduce((sum, { pieces }) => sum + pieces, 0)).toBeLessThanOrEqual(4095)
      splits.forEach(({ pieces, rows }, i) => {
        const all = (jobs[i] as typeof head).rows
        expect(rows % 4).toBe(0)
        expect([pieces * rows >= all, (pieces - 1) * rows < all]).toEqual([true, true])
      })
    }
    expect(() => splitJobs([head, head], 1)).toThrow(/at most 1 jobs in one list, got 2/)
  })
})

describe('VectorThreads.run', () => {
  it('refuses a list that is longer than its maximum', async () => {
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
    expect(() => threads.run([job, job])).toThrow(/at most 1 jobs in one list, got 2/)
    await threads.dispose()
  })
})
