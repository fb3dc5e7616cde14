/**
 * Experts of low rank as whole weights: the public FFN plus the product of the factors, computed when it is read. Does
 * not know tensor libraries or files.
 */
import { setImmediate } from 'node:timers/promises'
import { FACTORS, FFN_PROJECTIONS, layerName } from '../lib/tensor-names.ts'
import { type Expert, expertFfn, expertRank } from './params.ts'
import {
  readValues,
  requireWeight,
  type Weight,
  type WeightMap,
  type WeightSource,
  wholeValues,
} from './weights.ts'

/**
 * The expert with merged weights, W_public + B A rounded once to float32, computed when they are read; the expert
 * itself if it has full rank.
 */
export function materialised(expert: Expert, publicModel: WeightMap): Expert {
  if (expertRank(expert) === 0) return expert
  const merged = Array.from(projections(expert, publicModel), ({ key, weight }) => [key, weight] as const)
  return { ...expert, ffn: new Map(merged) }
}

/** Multiplications between two pauses in which the event loop handles other events: about 10 ms. */
const PRODUCTS_AT_ONCE = 2 ** 24

/**
 * The weight W + B A [out, in], A [r, in] and B [out, r]; rows are computed when they are read. A read takes as many
 * multiplications as it has values, times the rank, and reads all of A, so a read of many rows costs less.
 */
export class MergedWeight implements WeightSource {
  readonly shape: readonly number[]
  readonly dtype = 'F32'
  readonly #base: Weight
  readonly #A: Weight
  readonly #B: Weight

  constructor(base: Weight, A: Weight, B: Weight) {
    this.shape = base.shape
    this.#base = base
    this.#A = A
    this.#B = B
  }

  async read(into: Float32Array, from: number, signal?: AbortSignal): Promise<void> {
    const width = this.shape[1] as number
    const rank = this.#A.shape[0] as number
    const first = Math.floor(from / width)
    const rows = Math.ceil((from + into.length) / width) - first
    const A = await wholeValues(this.#A, signal)
    const B = new Float32Array(rows * rank)
    await readValues(this.#B, B, first * rank, signal)
    await readValues(this.#base, into, from, signal)
    // Sums of two rows in double precision; the second one is not used for a part of a row.
    const sums = [new Float64Array(width), new Float64Array(width)] as const
    for (let at = 0, products = 0; at < into.length; ) {
      if (products >= PRODUCTS_AT_ONCE) {
        await setImmediate()
        signal?.throwIfAborted()
        products = 0
      }
      const column = (from + at) % width
      const n = Math.min(width - column, into.length - at)
      const count = n === width && at + 2 * width <= into.length ? 2 : 1
      const o = Math.floor((from + at) / width) - first
      const parts = sums.map((row) => row.subarray(0, n))
      const [one, two] = parts as [Float64Array, Float64Array]
      for (let r = 0; r < count; r++) parts[r]?.set(into.subarray(at + r * n, at + (r + 1) * n))
      addRows(one, two, B.subarray(o * rank, (o + count) * rank), A, width, column)
      for (let r = 0; r < count; r++) into.set(parts[r] as Float64Array, at + r * n)
      at += count * n
      products += count * n * rank
    }
  }

  async readBytes(into: Uint8Array, from: number, signal?: AbortSignal): Promise<void> {
    const first = Math.floor(from / 4)
    const values = new Float32Array(Math.ceil((from + into.length) / 4) - first)
    await this.read(values, first, signal)
    into.set(new Uint8Array(values.buffer, from - 4 * first, into.length))
  }
}

/**
 * Adds to two rows the sum over k of b[k] times the columns from `column` on of row k of A [r, width]. Each loaded value
 * of A serves both rows. Terms are added in order, so sums do not depend on how rows are paired.
 * @param b coefficients of both rows [2, r], or only of the first
 */
function addRows(
  first: Float64Array,
  second: Float64Array,
  b: Float32Array,
  A: Float32Array,
  width: number,
  column: number,
): void {
  const rank = A.length / width
  const n = first.length
  const columns = (k: number): Float32Array => A.subarray(k * width + column, k * width + column + n)
  let k = 0
  for (; k + 4 <= rank; k += 4) {
    const x0 = columns(k)
    const x1 = columns(k + 1)
    const x2 = columns(k + 2)
    const x3 = columns(k + 3)
    const [b0 = 0, b1 = 0, b2 = 0, b3 = 0] = b.subarray(k, k + 4)
    const [c0 = 0, c1 = 0, c2 = 0, c3 = 0] = b.subarray(rank + k, rank + k + 4)
    for (let i = 0; i < n; i++) {
      const u0 = x0[i] as number
      const u1 = x1[i] as number
      const u2 = x2[i] as number
      const u3 = x3[i] as number
      first[i] = (first[i] as number) + b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3
      second[i] = (second[i] as number) + c0 * u0 + c1 * u1 + c2 * u2 + c3 * u3
    }
  }
  for (; k < rank; k++) {
    const x = columns(k)
    const b0 = b[k] ?? 0
    const c0 = b[rank + k] ?? 0
    for (let i = 0; i < n; i++) {
      first[i] = (first[i] as number) + b0 * (x[i] as number)
      second[i] = (second[i] as number) + c0 * (x[i] as number)
    }
  }
}

/** One projection of an expert. */
export interface Projection {
  readonly key: string
  readonly weight: Weight
  /** The weight of the public model. */
  readonly base: Weight
}

/** Every projection of an expert, merged if it has low rank. */
export function* projections(expert: Expert, publicModel: WeightMap): Generator<Projection> {
  for (let layer = 0; layer < expert.routerRows.length; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const key = `${layer}.${projection}`
      const base = requireWeight(publicModel, layerName(layer, `mlp.${projection}.weight`))
      const [A, B] = FACTORS.map((factor) => expert.ffn.get(`${key}.${factor}`))
      const weight =
        A === undefined || B === undefined ? expertFfn(expert, key) : new MergedWeight(base, A, B)
      yield { key, weight, base }
    }
  }
}
