/**
 * Gradients of units: their norms over everything that is trained, and the sum of the clipped ones, from the records of
 * one backward pass. A batch of U units is U groups of S consecutive rows (positions of tokens), and no row of the
 * forward pass depends on a row of another unit. Knows nothing about models, noise and sampling.
 */
import {
  add,
  concat,
  div,
  matMul,
  maximum,
  mul,
  reshape,
  scalar,
  sqrt,
  sum,
  type Tensor,
} from '@tensorflow/tfjs'
import type { ProductRecord } from './recorded-products.ts'

/** Gradients of a weight [p, d], as sums over rows of `gradients` (N, p) times `inputs` (N, d), times `scale`. */
export interface GradientParts extends Omit<ProductRecord, 'name'> {
  readonly scale: number
}

/**
 * Whether norms are computed from products of rows (S x S for a unit, "ghost norms") instead of the gradients (p x d):
 * if that takes less memory (Bu et al. 2022, arXiv 2210.00038, section 3).
 */
function usesRowProducts(S: number, p: number, d: number): boolean {
  return 2 * S * S <= p * d
}

/**
 * Squared norm of the gradient of every unit over all given weights: [U]. With A and B the inputs and gradients of a
 * unit's rows, ‖B'A‖² is the sum of the elements of (A A') ∘ (B B').
 */
export function squaredUnitNorms(parts: readonly GradientParts[], U: number, S: number): Tensor {
  const byUnit = (x: Tensor): Tensor => reshape(x, [U, S, x.shape[1] as number])
  const terms: Tensor[] = []
  /** Gradients by their inputs, since weights with the same inputs share A A'. */
  const shared = new Map<Tensor, Tensor[]>()
  for (const { inputs, gradients, scale } of parts) {
    const scaled = scale === 1 ? gradients : mul(gradients, scalar(scale))
    if (usesRowProducts(S, gradients.shape[1] as number, inputs.shape[1] as number)) {
      shared.set(inputs, [...(shared.get(inputs) ?? []), scaled])
      continue
    }
    const each = matMul(byUnit(scaled) as never, byUnit(inputs) as never, true, false) as Tensor // (U, p, d)
    terms.push(sum(mul(each, each), [1, 2]))
  }
  for (const [inputs, gradients] of shared) {
    const B = byUnit(gradients.length === 1 ? (gradients[0] as Tensor) : concat(gradients, 1))
    const A = byUnit(inputs)
    const products = mul(
      matMul(A as never, A as never, false, true) as Tensor, // (U, S, S)
      matMul(B as never, B as never, false, true) as Tensor,
    )
    terms.push(sum(products, [1, 2]))
  }
  // Rounding can make a sum of products that cancel negative.
  return maximum(
    terms.reduce((total, term) => add(total, term)),
    scalar(0),
  )
}

/**
 * Factors of units [U] for norms [U] that reduce a norm above the clip to the clip: 1 / max(1, norm / clip).
 * @param inverseClip scalar; 0 clips nothing.
 * @param isFree [U]: 1 for a unit that is not clipped, whose text is public; else 0.
 */
export function clipFactors(squaredNorms: Tensor, inverseClip: Tensor, isFree: Tensor): Tensor {
  const excess = maximum(mul(sqrt(squaredNorms), inverseClip), scalar(1))
  const factors = div(scalar(1), excess)
  return add(mul(factors, add(scalar(1), mul(isFree, scalar(-1)))), isFree)
}

/** Sum over units of their gradients times their factors [U]: [p, d]. */
export function weightedSum({ inputs, gradients, scale }: GradientParts, factors: Tensor, S: number): Tensor {
  const [U] = factors.shape as [number]
  const p = gradients.shape[1] as number
  const scaled = scale === 1 ? factors : mul(factors, scalar(scale))
  const rows = mul(reshape(gradients, [U, S * p]), reshape(scaled, [U, 1]))
  return matMul(reshape(rows, [U * S, p]) as never, inputs as never, true, false)
}
