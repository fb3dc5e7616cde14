/**
 * The FlexOlmo forward pass: OLMo-2 blocks whose FFN is a mixture of experts (flexolmo 1.1). A dense
 * public model is the mixture with one expert. Knows no training, no files and no peers.
 */

import { add, gather, mul, reshape, slice, type Tensor, type Tensor1D, tensor } from '@tensorflow/tfjs'
import {
  biasName,
  expertName,
  type FFN_PROJECTIONS,
  factorName,
  layerName,
  PUBLIC_EXPERT,
  routerName,
} from '../lib/tensor-names.ts'
import { gatedProjection, rmsNorm } from '../tensor/fused.ts'
import { headSize, type ModelConfig } from './config.ts'
import { type GateTensors, gateLogits } from './gate-graph.ts'
import {
  attention,
  causalMask,
  type Factors,
  feedForward,
  linear,
  lowRankLinear,
  rotaryTables,
  type Weights,
} from './layers.ts'
import { type Routing, route } from './router.ts'

export interface ForwardInit {
  readonly B: number
  readonly T: number
  /** Experts in the mixture, public one included. */
  readonly E: number
  readonly topK: number
  /** Whether parameters hold an expert bias. */
  readonly bias: boolean
  /** (E) additive router mask: 0 in use, very negative left out. */
  readonly mask?: Tensor
  /** Experts that parameters hold as low-rank differences from the public FFN; none where absent. */
  readonly lowRank?: ReadonlySet<number>
  /** A solved gate beside the router rows; every row of the batch is a sequence of its own. */
  readonly gate?: GateTensors
}

export interface ForwardResult {
  /** (N, C) residual stream after the final norm. */
  readonly hidden: Tensor
  readonly routing: readonly Routing[]
  /** (N, C) residual stream before each router. */
  readonly routerInputs: readonly Tensor[]
}

/** One mixture layer; `pair` of the experts' outputs weighted by the router, u (N, C) -> (N, C). */
function mixture(
  weights: Weights,
  layer: number,
  u: Tensor,
  init: ForwardInit,
  gate: { logits: Tensor; rowScale: Tensor } | undefined,
): { y: Tensor; routing: Routing } {
  const bias = init.bias ? weights(biasName(layer)) : undefined
  const routing = route(u, weights(routerName(layer)), init.topK, bias, init.mask, gate)
  const N = u.shape[0] as number
  const experts = expertFunctions(weights, layer, u, init.lowRank)
  let y: Tensor | undefined
  for (let e = 0; e < init.E; e++) {
    const ffn = experts(e)
    const weighted = mul(ffn, slice(routing.weights, [0, e], [N, 1]))
    y = y === undefined ? weighted : add(y, weighted)
  }
  return { y: y as Tensor, routing }
}

/** The FFN of expert e for u (N, C); experts of low rank share the public products. */
function expertFunctions(
  weights: Weights,
  layer: number,
  u: Tensor,
  lowRank: ReadonlySet<number> = new Set(),
): (e: number) => Tensor {
  const whole = (e: number, projection: (typeof FFN_PROJECTIONS)[number]): Tensor =>
    weights(expertName(layer, e, projection))
  if (lowRank.size === 0) {
    return (e) => feedForward(u, whole(e, 'gate_proj'), whole(e, 'up_proj'), whole(e, 'down_proj'))
  }
  const gate = linear(u, whole(PUBLIC_EXPERT, 'gate_proj'))
  const up = linear(u, whole(PUBLIC_EXPERT, 'up_proj'))
  const down = whole(PUBLIC_EXPERT, 'down_proj')
  return (e) => {
    if (e === PUBLIC_EXPERT) return gatedProjection(gate, up, down)
    if (!lowRank.has(e)) {
      return feedForward(u, whole(e, 'gate_proj'), whole(e, 'up_proj'), whole(e, 'down_proj'))
    }
    const factors = (projection: (typeof FFN_PROJECTIONS)[number]): Factors => ({
      A: weights(factorName(layer, e, projection, 'A')),
      B: weights(factorName(layer, e, projection, 'B')),
    })
    const own = {
      gate: add(gate, lowRankLinear(u, factors('gate_proj'))),
      up: add(up, lowRankLinear(u, factors('up_proj'))),
    }
    const { A, B } = factors('down_proj')
    return add(gatedProjection(own.gate, own.up, down), linear(gatedProjection(own.gate, own.up, A), B))
  }
}

/** Whole sequences at once: ids (B, T) int32 -> hidden (N, C). */
export function forward(
  config: ModelConfig,
  weights: Weights,
  ids: Tensor,
  init: ForwardInit,
): ForwardResult {
  const { B, T } = init
  const gate = init.gate && { logits: gateLogits(init.gate, ids, B, T), rowScale: init.gate.rowScale }
  return blocks(config, weights, embed(weights, ids, B * T), init, gate, attendWhole(config, weights, B, T))
}

/** Attention of whole sequences by layer. */
function attendWhole(
  config: ModelConfig,
  weights: Weights,
  B: number,
  T: number,
): (layer: number, x: Tensor) => Tensor {
  const D = headSize(config)
  const tables = rotaryTables(config, T)
  const rotary = { cos: tensor(tables.cos, [T, D]), sin: tensor(tables.sin, [T, D]) }
  const mask = causalMask(T, config.numAttentionHeads / config.numKeyValueHeads)
  return (layer, x) => attention(config, weights, layerName(layer, ''), x, B, T, rotary, mask)
}

function embed(weights: Weights, ids: Tensor, N: number): Tensor {
  return gather(weights('model.embed_tokens.weight'), reshape(ids, [N]) as Tensor1D) // (N, C)
}

function blocks(
  config: ModelConfig,
  weights: Weights,
  embedded: Tensor,
  init: ForwardInit,
  gate: { logits: Tensor; rowScale: Tensor } | undefined,
  attend: (layer: number, x: Tensor) => Tensor,
): ForwardResult {
  let x = embedded
  const routing: Routing[] = []
  const routerInputs: Tensor[] = []
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const u = add(x, attend(layer, x))
    routerInputs.push(u)
    const mixed = mixture(weights, layer, u, init, gate)
    routing.push(mixed.routing)
    x = add(
      u,
      rmsNorm(mixed.y, weights(layerName(layer, 'post_feedforward_layernorm.weight')), config.rmsNormEps),
    )
  }
  return { hidden: rmsNorm(x, weights('model.norm.weight'), config.rmsNormEps), routing, routerInputs }
}

/** Logits (N, V) of a final hidden state (N, C). */
export function head(weights: Weights, hidden: Tensor): Tensor {
  return linear(hidden, weights('lm_head.weight'))
}
