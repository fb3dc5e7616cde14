/**
 * A solved gate inside a graph that reads whole sequences. Gives the same logits as `gateToken` in solved-router.ts,
 * which works token by token; test/model/solved-router.test.ts holds the two equal. Does not know router statistics.
 */
import { add, gather, matMul, reshape, type Tensor, type Tensor1D, tensor } from '@tensorflow/tfjs-core'
import { decayWeights } from './solved-router.ts'

/** A gate as inputs of the graph, so that one compilation serves every gate. */
export interface GateTensors {
  /** (V, E). */
  readonly weights: Tensor
  /** (E). */
  readonly offsets: Tensor
  /** Scalar, shape (): `Gate.rowScale`. */
  readonly rowScale: Tensor
}

/** Logits (N, E) of a gate, with N = B T, for int32 ids (B, T); each row is a sequence of its own. */
export function gateLogits({ weights, offsets }: GateTensors, ids: Tensor, B: number, T: number): Tensor {
  const E = weights.shape[1] as number
  const evidence = reshape(gather(weights, reshape(ids, [B * T]) as Tensor1D), [B, T, E])
  const sums = matMul(tensor(decayWeights(T), [1, T, T]), evidence as never) as Tensor
  return add(reshape(sums, [B * T, E]), offsets)
}
