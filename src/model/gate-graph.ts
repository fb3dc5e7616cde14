/**
 * A solved gate inside a graph of whole sequences: the same logits as `gateToken` in solved-router.ts gives token
 * by token. Knows no statistics.
 */
import { add, gather, matMul, reshape, type Tensor, type Tensor1D, tensor } from '@tensorflow/tfjs'
import { decayWeights } from './solved-router.ts'

/** Inputs of a graph, so that one compilation serves every gate. */
export interface GateTensors {
  /** (V, E). */
  readonly weights: Tensor
  /** (E). */
  readonly offsets: Tensor
  /** (): `Gate.rowScale`. */
  readonly rowScale: Tensor
}

/** Logits (N, E) of a gate for ids (B, T) int32 in sequences of T tokens, N = B T. */
export function gateLogits({ weights, offsets }: GateTensors, ids: Tensor, B: number, T: number): Tensor {
  const E = weights.shape[1] as number
  const evidence = reshape(gather(weights, reshape(ids, [B * T]) as Tensor1D), [B, T, E])
  const sums = matMul(tensor(decayWeights(T), [1, T, T]), evidence as never) as Tensor
  return add(reshape(sums, [B * T, E]), offsets)
}
