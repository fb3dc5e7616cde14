/**
 * The router: softmax over all experts first, then top-k, weights not renormalised (flexolmo 1.1,
 * 1.2). Knows no expert's FFN.
 */
import { add, matMul, minimum, mul, scalar, softmax, type Tensor } from '@tensorflow/tfjs'
import { topKMask } from '../tensor/fused.ts'
import { MASKED } from '../tensor/mask.ts'

/** Value of the router mask for an expert that is left out; 0 for one in use. */
export const LEFT_OUT = MASKED

export interface Routing {
  /** (N, E) logits, bias and mask included. */
  readonly logits: Tensor
  /** (N, E) softmax over all experts. */
  readonly probabilities: Tensor
  /** (N, E) probabilities of the chosen experts, 0 elsewhere. */
  readonly weights: Tensor
}

/**
 * u (N, C) is the raw residual stream; rows (E, C); bias (E) with 0 for the public expert, used as
 * min(b, 0); mask (E) is 0 for an expert in use and very negative for one left out, which equals
 * removing its row (flexolmo 7a.5); the logits (N, E) of a gate are added to those of the rows times
 * `rowScale` ().
 */
export function route(
  u: Tensor,
  rows: Tensor,
  topK: number,
  bias?: Tensor,
  mask?: Tensor,
  gate?: { logits: Tensor; rowScale: Tensor },
): Routing {
  let logits = matMul(u as never, rows as never, false, true) as Tensor // (N, E)
  if (bias !== undefined) logits = add(logits, minimum(bias, scalar(0)))
  if (gate !== undefined) logits = add(mul(logits, gate.rowScale), gate.logits)
  if (mask !== undefined) logits = add(logits, mask)
  const probabilities = softmax(logits)
  const E = rows.shape[0] as number
  const weights = topK >= E ? probabilities : mul(probabilities, topKMask(probabilities, topK))
  return { logits, probabilities, weights }
}
