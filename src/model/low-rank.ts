/**
 * Experts whose FFN is the public FFN plus a low-rank difference (FlexMoRE, arXiv 2602.08818): computes such an expert
 * from another one. Holds the difference of one projection at a time. Does not know training or files.
 */
import { InputError } from '../lib/errors.ts'
import type { Engine } from '../tensor/engine.ts'
import type { ModelConfig } from './config.ts'
import { ProductEngine } from './matrix-products.ts'
import { type Projection, projections } from './merged-weight.ts'
import type { Expert } from './params.ts'
import { truncatedSvd } from './truncated-svd.ts'
import { countOf, type Param, readValues, valuePieces, type Weight, type WeightMap } from './weights.ts'

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

export interface LowRankOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the number of projections truncated so far, and of all. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/**
 * Truncates an expert: every projection becomes W_public + B A, where B A is the best approximation of the difference
 * from the public weight, by its `rank` largest singular values (Eckart and Young, 1936). Both factors are scaled by
 * the square roots of the singular values, so they have the same magnitude in whichever format they are rounded to.
 * Router rows and bias do not change. Holds the difference of one projection in memory, and the factors of all.
 * @throws RangeError for a rank outside 1 to the smaller of hidden and intermediate size: a bug of the caller.
 */
export async function lowRankOf(
  engine: Engine,
  expert: Expert,
  publicModel: WeightMap,
  rank: number,
  options: LowRankOptions = {},
): Promise<LowRank> {
  const products = await ProductEngine.create(engine)
  try {
    return await truncated(products, expert, publicModel, rank, options)
  } finally {
    await products.dispose()
  }
}

async function truncated(
  products: ProductEngine,
  expert: Expert,
  publicModel: WeightMap,
  rank: number,
  { signal, onProgress }: LowRankOptions,
): Promise<LowRank> {
  const ffn = new Map<string, Param>()
  let kept = 0
  let total = 0
  const all = [...projections(expert, publicModel)]
  // One buffer for all differences: gate, up and down projections have the same number of values.
  const difference = new Float32Array(countOf((all[0] as Projection).weight))
  for (const [index, { key, weight, base }] of all.entries()) {
    signal?.throwIfAborted()
    const [out, width] = weight.shape as [number, number]
    total += await subtract(weight, base, difference, signal)
    const matrix = products.of(difference, out, width)
    const { values: singular, left, right } = await truncatedSvd(matrix, rank, signal)
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
    onProgress?.(index + 1, all.length)
  }
  return { expert: { ...expert, ffn }, energyKept: total === 0 ? 1 : Math.min(1, kept / total) }
}

/** Writes `weight` - `base` to `into`. @returns its squared norm */
async function subtract(
  weight: Weight,
  base: Weight,
  into: Float32Array,
  signal?: AbortSignal,
): Promise<number> {
  let from = 0
  let squares = 0
  for await (const piece of valuePieces(base, signal)) {
    const difference = into.subarray(from, from + piece.length)
    await readValues(weight, difference, from, signal)
    for (let i = 0; i < piece.length; i++) {
      const x = (difference[i] as number) - (piece[i] as number)
      difference[i] = x
      squares += x * x
    }
    from += piece.length
  }
  return squares
}
