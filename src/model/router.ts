/**
 * The router in a graph: softmax over all experts, then top-k, with weights that are not renormalised (FlexOlmo
 * paper, section 3.3.2; modeling_flex_olmo.py of Hugging Face transformers). `planRouting` in routing-plan.ts applies
 * the same rule outside of graphs. Does not know the experts' FFNs.
 */
import { add, minimum, mul, scalar, softmax, type Tensor } from '@tensorflow/tfjs-core'
import { topKMask } from '../tensor/fused.ts'

export interface Routing {
  /** (N, E): logits, bias, gate and mask included. */
  readonly logits: Tensor
  /** (N, E): softmax over all experts. */
  readonly probabilities: Tensor
  /** (N, E): probabilities of the chosen experts, 0 for the others. */
  readonly weights: Tensor
}

/**
 * Routes N tokens to E experts.
 * @param scores (N, E): the residual stream (N, C), without a norm, times the router rows (E, C)
 * @param bias (E), used as min(b, 0); 0 for the public expert
 * @param mask (E): 0 for an expert in use, `LEFT_OUT` for one left out, which has the effect of removing its row
 * @param gate logits (N, E) of a solved gate, added to `rowScale` (a scalar) times the logits of the rows and bias
 */
export function route(
  scores: Tensor,
  topK: number,
  bias?: Tensor,
  mask?: Tensor,
  gate?: { logits: Tensor; rowScale: Tensor },
): Routing {
  let logits = scores
  if (bias !== undefined) logits = add(logits, minimum(bias, scalar(0)))
  if (gate !== undefined) logits = add(mul(logits, gate.rowScale), gate.logits)
  if (mask !== undefined) logits = add(logits, mask)
  const probabilities = softmax(logits)
  const E = scores.shape[1] as number
  const weights = topK >= E ? probabilities : mul(probabilities, topKMask(probabilities, topK))
  return { logits, probabilities, weights }
}
