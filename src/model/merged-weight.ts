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
    const row = new Float64Array(width)
    for (let o = 0, products = 0; o < rows; o++, products += rank * width) {
      if (products >= PRODUCTS_AT_ONCE) {
        await setImmediate()
        signal?.throwIfAborted()
        products = 0
      }
      const start = Math.max(from, (first + o) * width)
      const end = Math.min(from + into.length, (first + o + 1) * width)
      const part = row.subarray(0, end - start)
      part.set(into.subarray(start - from, end - from))
      addRows(part, B.subarray(o * rank, (o + 1) * rank), A, width, start % width)
      into.set(part, start - from)
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
 * Adds to `row` the columns from `column` on of the sum over k of b[k] times row k of A [r, width]. Four rows at once,
 * in order, so that the sum is rounded as if they were added one by one.
 */
function addRows(row: Float64Array, b: Float32Array, A: Float32Array, width: number, column: number): void {
  const n = row.length
  let k = 0
  for (; k + 4 <= b.length; k += 4) {
    const [b0 = 0, b1 = 0, b2 = 0, b3 = 0] = b.subarray(k, k + 4)
    for (let i = 0, at = k * width + column; i < n; i++, at++) {
      row[i] =
        (row[i] as number) +
        b0 * (A[at] as number) +
        b1 * (A[at + width] as number) +
        b2 * (A[at + 2 * width] as number) +
        b3 * (A[at + 3 * width] as number)
    }
  }
  for (; k < b.length; k++) {
    const share = b[k] as number
    for (let i = 0, at = k * width + column; i < n; i++, at++)
      row[i] = (row[i] as number) + share * (A[at] as number)
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
