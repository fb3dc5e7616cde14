/**
 * The FlexOlmo forward pass over whole sequences in one graph, for training: OLMo-2 blocks whose FFN is a mixture of
 * experts, as in modeling_flex_olmo.py of Hugging Face transformers. The dense public model is the mixture with one
 * expert. Does not know training, files or peers.
 *
 * Four other files compute the same function: model/window-pass.ts (evaluation, layer by layer), inference/decoder.ts
 * with serving-layers.ts (serving, with a key-value cache), inference/token-decoder.ts (serving by vector kernels), and
 * model/onnx-graph.ts (export). test/model/golden.test.ts holds this file to reference values,
 * test/model/evaluate.test.ts holds evaluation equal to it, test/inference/generate.test.ts both
 * decoders, and test/model/onnx-graph.test.ts holds the exported graph equal to the decoders.
 */

import { add, gather, mul, reshape, slice, type Tensor, type Tensor1D, tensor } from '@tensorflow/tfjs-core'
import {
  biasName,
  expertName,
  type FfnProjection,
  factorName,
  layerName,
  PUBLIC_EXPERT,
  routerName,
} from '../lib/tensor-names.ts'
import { rmsNorm } from '../tensor/fused.ts'
import { headSize, type ModelConfig } from './config.ts'
import { type GateTensors, gateLogits } from './gate-graph.ts'
import {
  attention,
  causalMask,
  linear,
  type Products,
  plainProducts,
  rotaryTables,
  type Weights,
} from './layers.ts'
import { type Routing, route } from './router.ts'

export interface ForwardInit {
  /** Number of sequences. */
  readonly B: number
  /** Tokens of each sequence. */
  readonly T: number
  /** Number of experts in the mixture, the public one included. */
  readonly E: number
  readonly topK: number
  /** Whether the parameters contain expert biases. */
  readonly bias: boolean
  /** Router mask (E): 0 for an expert in use, `LEFT_OUT` for one left out. */
  readonly mask?: Tensor
  /** Experts whose parameters are low-rank differences from the public FFN; default: none. */
  readonly lowRank?: ReadonlySet<number>
  /** A solved gate, added to the logits of the router rows. */
  readonly gate?: GateTensors
  /** Products with the weights of experts and routers; default: `plainProducts`. */
  readonly products?: Products
}

export interface ForwardResult {
  /** (N, C): residual stream after the final norm. */
  readonly hidden: Tensor
  /** By layer. */
  readonly routing: readonly Routing[]
  /** By layer, (N, C): residual stream that the router reads. */
  readonly routerInputs: readonly Tensor[]
}

/** One mixture layer: the sum of all experts' outputs, weighted by the router. u (N, C) -> y (N, C). */
function mixture(
  weights: Weights,
  layer: number,
  u: Tensor,
  init: ForwardInit,
  gate: { logits: Tensor; rowScale: Tensor } | undefined,
): { y: Tensor; routing: Routing } {
  const products = init.products ?? plainProducts(weights)
  const bias = init.bias ? weights(biasName(layer)) : undefined
  const routing = route(products.linear(u, routerName(layer)), init.topK, bias, init.mask, gate)
  const N = u.shape[0] as number
  const experts = expertFunctions(products, layer, u, init.lowRank)
  let y: Tensor | undefined
  for (let e = 0; e < init.E; e++) {
    const ffn = experts(e)
    const weighted = mul(ffn, slice(routing.weights, [0, e], [N, 1]))
    y = y === undefined ? weighted : add(y, weighted)
  }
  return { y: y as Tensor, routing }
}

/** The FFN of each expert applied to u (N, C); low-rank experts share the products with the public weights. */
function expertFunctions(
  products: Products,
  layer: number,
  u: Tensor,
  lowRank: ReadonlySet<number> = new Set(),
): (e: number) => Tensor {
  const whole = (e: number): Tensor => {
    const product = (projection: FfnProjection): Tensor =>
      products.linear(u, expertName(layer, e, projection))
    return products.gated(product('gate_proj'), product('up_proj'), expertName(layer, e, 'down_proj'))
  }
  if (lowRank.size === 0) return whole
  const gate = products.linear(u, expertName(layer, PUBLIC_EXPERT, 'gate_proj'))
  const up = products.linear(u, expertName(layer, PUBLIC_EXPERT, 'up_proj'))
  const down = expertName(layer, PUBLIC_EXPERT, 'down_proj')
  return (e) => {
    if (e === PUBLIC_EXPERT) return products.gated(gate, up, down)
    if (!lowRank.has(e)) return whole(e)
    const difference = (projection: FfnProjection): Tensor =>
      products.linear(
        products.linear(u, factorName(layer, e, projection, 'A')),
        factorName(layer, e, projection, 'B'),
      )
    const own = { gate: add(gate, difference('gate_proj')), up: add(up, difference('up_proj')) }
    return add(
      products.gated(own.gate, own.up, down),
      products.linear(
        products.gated(own.gate, own.up, factorName(layer, e, 'down_proj', 'A')),
        factorName(layer, e, 'down_proj', 'B'),
      ),
    )
  }
}

/** Forward pass of B whole sequences: int32 ids (B, T) -> hidden (N, C), with N = B T. */
export function forward(
  config: ModelConfig,
  weights: Weights,
  ids: Tensor,
  init: ForwardInit,
): ForwardResult {
  const { B, T } = init
  const gate = init.gate && { logits: gateLogits(init.gate, ids, B, T), rowScale: init.gate.rowScale }
  return blocks(
    config,
    weights,
    embed(weights, ids, B * T),
    init,
    gate,
    attentionByLayer(config, weights, B, T),
  )
}

/** The attention function of each layer: x (N, C) -> (N, C). */
function attentionByLayer(
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
