/**
 * Experts whose FFN is the public FFN plus a low-rank difference (FlexMoRE, arXiv 2602.08818): computes such an expert
 * from another one. Holds the difference of one projection at a time. Does not know training or files.
 */
import { InputError } from '../lib/errors.ts'
import type { Engine } from '../tensor/engine.ts'
import type { ModelConfig } from './config.ts'
import { ProductEngine } from './matrix-products.ts'
import { projections } from './merged-weight.ts'
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
export interface LowRank<W extends Weight = Param> {
  readonly expert: Expert<W>
  /** Share of the squared norm of the difference from the public FFN that the expert keeps, over all layers: 0 to 1. */
  readonly energyKept: number
}

/**
 * Truncates an expert: every projection becomes W_public + B A, where B A is close to the best approximation of the
 * difference from the public weight, by its `rank` largest singular values (Eckart and Young, 1936). Both factors are
 * scaled by the square roots of the singular values, so they have the same magnitude in whichever format they are
 * rounded to. Router rows and bias do not change. Holds the difference of one projection in memory.
 * @param keep moves each factor to where it stays, A before B, in the order of the layers; default: memory
 * @throws RangeError for a rank outside 1 to the smaller of hidden and intermediate size: a bug of the caller; as
 * `WeightSource.read`.
 */
export async function lowRankOf(
  engine: Engine,
  expert: Expert,
  publicModel: WeightMap,
  rank: number,
  signal?: AbortSignal,
): Promise<LowRank>
export async function lowRankOf<W extends Weight>(
  engine: Engine,
  expert: Expert,
  publicModel: WeightMap,
  rank: number,
  signal: AbortSignal,
  keep: (factor: Param) => Promise<W>,
): Promise<LowRank<W>>
export async function lowRankOf(
  engine: Engine,
  expert: Expert,
  publicModel: WeightMap,
  rank: number,
  signal?: AbortSignal,
  keep: (factor: Param) => Promise<Weight> = async (factor) => factor,
): Promise<LowRank<Weight>> {
  const products = await ProductEngine.create(engine)
  try {
    return await truncated(products, expert, publicModel, rank, signal, keep)
  } finally {
    await products.dispose()
  }
}

async function truncated(
  products: ProductEngine,
  expert: Expert,
  publicModel: WeightMap,
  rank: number,
  signal: AbortSignal | undefined,
  keep: (factor: Param) => Promise<Weight>,
): Promise<LowRank<Weight>> {
  const ffn = new Map<string, Weight>()
  let kept = 0
  let total = 0
  // One buffer for all differences: gate, up and down projections have the same number of values.
  let difference = new Float32Array(0)
  for (const { key, weight, base } of projections(expert, publicModel)) {
    signal?.throwIfAborted()
    if (difference.length === 0) difference = new Float32Array(countOf(weight))
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
    ffn.set(`${key}.A`, await keep({ shape: [rank, width], data: A }))
    ffn.set(`${key}.B`, await keep({ shape: [out, rank], data: B }))
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
