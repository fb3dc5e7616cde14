/**
 * A solved gate inside a graph of whole sequences: the same logits as `gateToken` in solved-router.ts gives token
 * by token. Knows no statistics.
 */
import { add, matMul, reshape, type Tensor, tensor } from '@tensorflow/tfjs'
import { rmsNorm } from '../tensor/fused.ts'
import { linear } from './layers.ts'
import { decayWeights } from './solved-router.ts'

/** Inputs of a graph, so that one compilation serves every gate. */
export interface GateTensors {
  /** (E, C). */
  readonly weights: Tensor
  /** (E). */
  readonly offsets: Tensor
  /** (): `Gate.rowScale`. */
  readonly rowScale: Tensor
}

/** Keeps a row of zeros finite. */
const TINY = 1e-30

/** Logits (N, E) of a gate, from the first layer's router input u (N, C) in sequences of T tokens, N = B T. */
export function gateLogits({ weights, offsets }: GateTensors, u: Tensor, B: number, T: number): Tensor {
  const [E, C] = weights.shape as [number, number]
  const unit = rmsNorm(u, tensor(new Float32Array(C).fill(C ** -0.5), [C]), TINY)
  const products = reshape(linear(unit, weights), [B, T, E])
  const means = matMul(tensor(decayWeights(T), [1, T, T]), products as never) as Tensor
  return add(reshape(means, [B * T, E]), offsets)
}
