/**
 * The training loss, which is next-token cross-entropy + LM z-loss + router z-loss as in FlexOlmo's training script
 * (OLMoE-2x7B-anneal.py), and its gradients with respect to the trainable parameters. Imports all of TensorFlow.js,
 * because its core alone registers no gradients. Does not know optimizers or data sources.
 */
import {
  add,
  keep,
  mul,
  reshape,
  scalar,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  valueAndGrads,
} from '@tensorflow/tfjs'
import type { ModelConfig } from '../model/config.ts'
import type { Weights } from '../model/layers.ts'
import type { Routing } from '../model/router.ts'
import { type ForwardInit, forward } from '../model/transformer.ts'
import type { TensorSpec } from '../tensor/engine.ts'
import { headLogProbs, logSumExpRows } from '../tensor/fused.ts'

export const LM_Z_LOSS = 1e-5
export const ROUTER_Z_LOSS = 1e-3

export interface BatchTensors {
  /** (B, T) int32. */
  readonly ids: Tensor
  /** (N) int32. */
  readonly labels: Tensor
  /** (N): 1/n for each of the n label tokens, 0 for all others. */
  readonly labelWeights: Tensor
  /** Scalar 1/n. */
  readonly tokenScale: Tensor
}

export function batchInputs(B: number, T: number): Record<string, TensorSpec> {
  return {
    ids: { shape: [B, T], dtype: 'int32' },
    labels: { shape: [B * T], dtype: 'int32' },
    labelWeights: { shape: [B * T] },
    tokenScale: { shape: [] },
  }
}

export function batchTensors(tensors: Readonly<Record<string, Tensor>>): BatchTensors {
  const { ids, labels, labelWeights, tokenScale } = tensors as Record<keyof BatchTensors, Tensor>
  return { ids, labels, labelWeights, tokenScale }
}

export interface LossTerms {
  readonly ce: Tensor
  readonly lmZ: Tensor
  readonly routerZ: Tensor
}

/** What the loss of every token is made of. */
export interface TokenTerms {
  /** (N): cross-entropy. */
  readonly ce: Tensor
  /** (N): log-sum-exp of the logits. */
  readonly lse: Tensor
  /** By layer. */
  readonly routing: readonly Routing[]
}

export function tokenTerms(
  config: ModelConfig,
  weights: Weights,
  { ids, labels }: Pick<BatchTensors, 'ids' | 'labels'>,
  init: ForwardInit & { trainHead: boolean },
): TokenTerms {
  const N = init.B * init.T
  const { hidden, routing } = forward(config, weights, ids, init)
  const gradients = init.trainHead ? 'both' : 'input'
  const logProbs = headLogProbs(hidden, weights('lm_head.weight'), labels, gradients) // (N, 2)
  const lse = reshape(slice(logProbs, [0, 0], [N, 1]), [N])
  const picked = reshape(slice(logProbs, [0, 1], [N, 1]), [N])
  return { ce: sub(lse, picked), lse, routing }
}

/**
 * The terms of the loss. As in OLMo-core, the router z-loss sums over all positions and divides by the label tokens.
 */
export function lossTerms(
  config: ModelConfig,
  weights: Weights,
  batch: BatchTensors,
  init: ForwardInit & { trainHead: boolean },
): LossTerms {
  const terms = tokenTerms(config, weights, batch, init)
  const ce = sum(mul(terms.ce, batch.labelWeights))
  const lmZ = mul(sum(mul(square(terms.lse), batch.labelWeights)), scalar(LM_Z_LOSS))
  let routerZ: Tensor = scalar(0)
  if (init.E > 1) {
    for (const { logits } of terms.routing) routerZ = add(routerZ, sum(square(logSumExpRows(logits))))
    routerZ = mul(mul(routerZ, batch.tokenScale), scalar(ROUTER_Z_LOSS / config.numHiddenLayers))
  }
  return { ce, lmZ, routerZ }
}

/** The loss, its terms, and the gradient `d.<name>` of every trainable, for compilation. */
export function lossAndGradients(
  trainables: Readonly<Record<string, Tensor>>,
  loss: (trainables: Readonly<Record<string, Tensor>>) => LossTerms,
): Record<string, Tensor> {
  const names = Object.keys(trainables)
  let terms: LossTerms | undefined
  const objective = (...values: Tensor[]): Tensor => {
    const fresh = loss(Object.fromEntries(names.map((name, i) => [name, values[i] as Tensor])))
    // `keep`, because the tidy scope around automatic differentiation would dispose them.
    terms = { ce: keep(fresh.ce), lmZ: keep(fresh.lmZ), routerZ: keep(fresh.routerZ) }
    return add(add(terms.ce, terms.lmZ), terms.routerZ)
  }
  const { value, grads } = valueAndGrads(objective as (...args: Tensor[]) => Tensor1D)(
    names.map((name) => trainables[name] as Tensor),
  )
  const { ce, lmZ, routerZ } = terms as LossTerms
  const out: Record<string, Tensor> = { loss: value, ce, lmZ, routerZ }
  names.forEach((name, i) => {
    out[`d.${name}`] = grads[i] as Tensor
  })
  return out
}
