/**
 * Experts whose FFN is the public FFN plus a low-rank difference (FlexMoRE, arXiv 2602.08818): computes such an expert
 * from one of full rank, and merges it back. Does not know training or files.
 */

import { InputError } from '../lib/errors.ts'
import { FACTORS, FFN_PROJECTIONS, layerName } from '../lib/tensor-names.ts'
import type { ModelConfig } from './config.ts'
import { type Expert, expertFfn, expertRank, type Param, type Params, requireParam } from './params.ts'
import { truncatedSvd } from './truncated-svd.ts'

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
  readonly expert: Expert
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
export function lowRankOf(expert: Expert, publicModel: Params, rank: number): LowRank {
  const ffn = new Map<string, Param>()
  let kept = 0
  let total = 0
  for (const { key, shape, data, base } of projections(expert, publicModel)) {
    const [out, width] = shape
    const difference = Float64Array.from(data, (x, i) => x - (base[i] as number))
    for (const x of difference) total += x * x
    const { values, left, right } = truncatedSvd(difference, out, width, rank)
    const A = new Float32Array(rank * width)
    const B = new Float32Array(out * rank)
    values.forEach((value, k) => {
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

/** The expert with merged weights, W_public + B A rounded once to float32; the expert itself if it has full rank. */
export function materialised(expert: Expert, publicModel: Params): Expert {
  if (expertRank(expert) === 0) return expert
  const ffn = new Map<string, Param>()
  for (const { key, shape, data } of projections(expert, publicModel)) ffn.set(key, { shape, data })
  return { ...expert, ffn }
}

/** One merged projection: W_public + B A, [out, in]. */
export function materialisedWeight(base: Float32Array, A: Param, B: Param): Float32Array {
  const [out, rank] = B.shape as [number, number]
  const width = A.shape[1] as number
  const weight = new Float32Array(out * width)
  const row = new Float64Array(width)
  for (let o = 0; o < out; o++) {
    row.set(base.subarray(o * width, (o + 1) * width))
    for (let k = 0; k < rank; k++) {
      const b = B.data[o * rank + k] as number
      for (let i = 0, a = k * width; i < width; i++)
        row[i] = (row[i] as number) + b * (A.data[a + i] as number)
    }
    weight.set(row, o * width)
  }
  return weight
}

/** Every projection of an expert, merged if it has low rank, with the weight of the public model as `base`. */
function* projections(
  expert: Expert,
  publicModel: Params,
): Generator<{ key: string; shape: readonly [number, number]; data: Float32Array; base: Float32Array }> {
  for (let layer = 0; layer < expert.routerRows.length; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const key = `${layer}.${projection}`
      const { shape, data: base } = requireParam(publicModel, layerName(layer, `mlp.${projection}.weight`))
      const [A, B] = FACTORS.map((factor) => expert.ffn.get(`${key}.${factor}`))
      const data =
        A === undefined || B === undefined ? expertFfn(expert, key).data : materialisedWeight(base, A, B)
      yield { key, shape: shape as readonly [number, number], data, base }
    }
  }
}
