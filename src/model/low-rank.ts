/**
 * Experts whose FFN is the public FFN plus a low-rank difference (FlexMoRE, arXiv 2602.08818): computes such an expert
 * from one of full rank, and merges it back. Holds one projection at a time. Does not know training or files.
 */

import { InputError } from '../lib/errors.ts'
import { FACTORS, FFN_PROJECTIONS, layerName } from '../lib/tensor-names.ts'
import type { ModelConfig } from './config.ts'
import { type Expert, expertFfn, expertRank } from './params.ts'
import { truncatedSvd } from './truncated-svd.ts'
import {
  type Param,
  readValues,
  requireWeight,
  type Weight,
  type WeightMap,
  type WeightSource,
  wholeValues,
} from './weights.ts'

/**
 * Checks the option `--rank`.
 * @param rank 0 for full rank
 * @throws InputError `usage` for a rank greater than the smaller of hidden and intermediate size.
 */
export function checkRank({ hiddenSize, intermediateSize }: ModelConfig, rank: number): void {
  const most = Math.min(hiddenSize, intermediateSize)
  if (rank <= most) return
  throw new InputError('usage', `--rank: expected 1 to ${most} for this public model, got ${rank}`)
}

/** A truncated expert. */
export interface LowRank {
  readonly expert: Expert<Param>
  /** Share of the squared norm of the difference from the public FFN that the expert keeps, over all layers: 0 to 1. */
  readonly energyKept: number
}

/**
 * Truncates an expert: every projection becomes W_public + B A, where B A is the best approximation of the difference
 * from the public weight, by its `rank` largest singular values (Eckart and Young, 1936). Both factors are scaled by
 * the square roots of the singular values, so they have the same magnitude in whichever format they are rounded to.
 * Router rows and bias do not change.
 * @throws RangeError for a rank outside 1 to the smaller of hidden and intermediate size: a bug of the caller.
 */
export async function lowRankOf(
  expert: Expert,
  publicModel: WeightMap,
  rank: number,
  signal?: AbortSignal,
): Promise<LowRank> {
  const ffn = new Map<string, Param>()
  let kept = 0
  let total = 0
  for (const { key, weight, base } of projections(expert, publicModel)) {
    signal?.throwIfAborted()
    const [out, width] = weight.shape as [number, number]
    const values = await wholeValues(weight, signal)
    const publicValues = await wholeValues(base, signal)
    const difference = Float64Array.from(values, (x, i) => x - (publicValues[i] as number))
    for (const x of difference) total += x * x
    const { values: singular, left, right } = truncatedSvd(difference, out, width, rank)
    const A = new Float32Array(rank * width)
    const B = new Float32Array(out * rank)
    singular.forEach((value, k) => {
      kept += value * value
      const root = Math.sqrt(value)
      for (let i = 0; i < width; i++) A[k * width + i] = root * (right[k * width + i] as number)
      for (let o = 0; o < out; o++) B[o * rank + k] = root * (left[k * out + o] as number)
    })
    ffn.set(`${key}.A`, { shape: [rank, width], data: A })
    ffn.set(`${key}.B`, { shape: [out, rank], data: B })
  }
  return { expert: { ...expert, ffn }, energyKept: total === 0 ? 1 : Math.min(1, kept / total) }
}

/**
 * The expert with merged weights, W_public + B A rounded once to float32, computed when they are read; the expert
 * itself if it has full rank.
 */
export function materialised(expert: Expert, publicModel: WeightMap): Expert {
  if (expertRank(expert) === 0) return expert
  const merged = Array.from(projections(expert, publicModel), ({ key, weight }) => [key, weight] as const)
  return { ...expert, ffn: new Map(merged) }
}

/** The weight W + B A [out, in], A [r, in] and B [out, r]; rows are computed when they are read. */
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
    for (let o = 0; o < rows; o++) {
      const start = Math.max(from, (first + o) * width)
      const end = Math.min(from + into.length, (first + o + 1) * width)
      const column = start % width
      row.set(into.subarray(start - from, end - from))
      for (let k = 0; k < rank; k++) {
        const b = B[o * rank + k] as number
        for (let i = 0, a = k * width + column; i < end - start; i++)
          row[i] = (row[i] as number) + b * (A[a + i] as number)
      }
      into.set(row.subarray(0, end - start), start - from)
    }
  }

  async readBytes(into: Uint8Array, from: number, signal?: AbortSignal): Promise<void> {
    const first = Math.floor(from / 4)
    const values = new Float32Array(Math.ceil((from + into.length) / 4) - first)
    await this.read(values, first, signal)
    into.set(new Uint8Array(values.buffer, from - 4 * first, into.length))
  }
}

/** Every projection of an expert, merged if it has low rank, with the weight of the public model as `base`. */
function* projections(
  expert: Expert,
  publicModel: WeightMap,
): Generator<{ key: string; weight: Weight; base: Weight }> {
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
