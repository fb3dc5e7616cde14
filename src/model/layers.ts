/**
 * The layers of an OLMo-2 block as plain functions, as in modeling_flex_olmo.py of Hugging Face transformers. Does not
 * know how parameters are stored.
 *
 * Letters in shapes, here and elsewhere: B = batch, T = tokens of a sequence, P = past positions, C = hidden size,
 * V = vocabulary, H = query heads, D = head size, G = query heads per head of keys and values, K = width of all keys
 * (C / G), F = FFN width, E = experts, N = B * T tokens. Weights are [out, in]; y = x W'.
 */
import {
  add,
  concat,
  matMul,
  mul,
  reshape,
  scalar,
  split,
  type Tensor,
  tensor,
  transpose,
} from '@tensorflow/tfjs-core'
import { causalAttention } from '../tensor/causal-attention.ts'
import { gatedProjection, rmsNorm } from '../tensor/fused.ts'
import { MASKED } from '../tensor/mask.ts'
import { headSize, type ModelConfig } from './config.ts'

/** A parameter by its Hugging Face name. */
export type Weights = (name: string) => Tensor

/** x [N, I] times W [O, I] transposed -> [N, O]. */
export function linear(x: Tensor, weight: Tensor): Tensor {
  return matMul(x as never, weight as never, false, true)
}

/** The matrix products of a mixture's layers with weights that a training may change. */
export interface Products {
  /** x [N, I] times the transpose of the named weight [O, I] -> [N, O]. */
  linear(x: Tensor, name: string): Tensor
  /** silu(gate) * up, both [N, F], times the transpose of the named weight [O, F] -> [N, O]. */
  gated(gate: Tensor, up: Tensor, name: string): Tensor
}

/** The products with their ordinary gradients. */
export function plainProducts(weights: Weights): Products {
  return {
    linear: (x, name) => linear(x, weights(name)),
    gated: (gate, up, name) => gatedProjection(gate, up, weights(name)),
  }
}

/** The factors of a low-rank difference B A from a weight [O, I]: A [r, I], B [O, r]. */
export interface Factors {
  readonly A: Tensor
  readonly B: Tensor
}

/** x [N, I] times (B A) transposed -> [N, O], computed without forming B A. */
export function lowRankLinear(x: Tensor, { A, B }: Factors): Tensor {
  return linear(linear(x, A), B)
}

/** Cosine and sine of the rotary angle of every position and pair of channels, (positions, D / 2) each. */
export interface RotaryHalves {
  readonly cos: Float32Array
  readonly sin: Float32Array
}

/** Rotary tables of the first `length` positions, in the rotate-half layout of transformers. */
export function rotaryHalves(config: ModelConfig, length: number): RotaryHalves {
  const D = headSize(config)
  const half = D / 2
  const cos = new Float32Array(length * half)
  const sin = new Float32Array(length * half)
  for (let position = 0; position < length; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * config.ropeTheta ** ((-2 * i) / D)
      cos[position * half + i] = Math.cos(angle)
      sin[position * half + i] = Math.sin(angle)
    }
  }
  return { cos, sin }
}

/** Rotary tables by channel, [length, D] each: the values of `rotaryHalves` twice (rotate-half layout). */
export function rotaryTables(config: ModelConfig, length: number): { cos: Float32Array; sin: Float32Array } {
  const D = headSize(config)
  const half = D / 2
  const halves = rotaryHalves(config, length)
  const byChannel = (table: Float32Array): Float32Array =>
    Float32Array.from(
      { length: length * D },
      (_, i) => table[Math.floor(i / D) * half + (i % half)] as number,
    )
  return { cos: byChannel(halves.cos), sin: byChannel(halves.sin) }
}

/** Rotary embedding of x (B, H, T, D) by the tables cos and sin, which broadcast to the shape of x. */
export function rotate(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  const [first, second] = split(x, 2, -1) as [Tensor, Tensor]
  const turned = concat([mul(second, scalar(-1)), first], -1) // [-v2, v1]
  return add(mul(x, cos), mul(turned, sin))
}

/** Additive causal mask [G T, T]: the mask of one head, repeated for each of the G heads that share keys. */
export function causalMask(T: number, G: number): Tensor {
  const values = new Float32Array(G * T * T)
  for (let row = 0; row < G * T; row++) values.fill(MASKED, row * T + (row % T) + 1, (row + 1) * T)
  return tensor(values, [G * T, T])
}

/**
 * Self-attention with QK-norm over the full width, before the split into heads, and a norm on the output:
 * x (N, C) -> (N, C). Query heads that share keys are computed as one head of G T queries.
 * @param rotary tables that broadcast to (B, H, T, D)
 * @param mask `causalMask` of T and G
 */
export function attention(
  config: ModelConfig,
  weights: Weights,
  prefix: string,
  x: Tensor,
  B: number,
  T: number,
  rotary: { cos: Tensor; sin: Tensor },
  mask: Tensor,
): Tensor {
  const { numAttentionHeads: H, numKeyValueHeads, hiddenSize: C, rmsNormEps } = config
  const D = headSize(config)
  const heads = (y: Tensor, count: number): Tensor => transpose(reshape(y, [B, T, count, D]), [0, 2, 1, 3]) // (B, count, T, D)
  const grouped = (y: Tensor, shape: [number, number, number, number]): Tensor =>
    numKeyValueHeads === H ? y : reshape(y, shape)
  const named = (rest: string): Tensor => weights(`${prefix}self_attn.${rest}.weight`)
  const q = rmsNorm(linear(x, named('q_proj')), named('q_norm'), rmsNormEps)
  const k = rmsNorm(linear(x, named('k_proj')), named('k_norm'), rmsNormEps)
  const queries = mul(rotate(heads(q, H), rotary.cos, rotary.sin), scalar(D ** -0.5))
  const keys = rotate(heads(k, numKeyValueHeads), rotary.cos, rotary.sin)
  const values = heads(linear(x, named('v_proj')), numKeyValueHeads)
  const groups = grouped(queries, [B, numKeyValueHeads, (H / numKeyValueHeads) * T, D])
  const mixed = grouped(causalAttention(groups, keys, values, mask), [B, H, T, D])
  const joined = reshape(transpose(mixed, [0, 2, 1, 3]), [B * T, C])
  return rmsNorm(
    linear(joined, named('o_proj')),
    weights(`${prefix}post_attention_layernorm.weight`),
    rmsNormEps,
  )
}

/** FFN(u) = Wdown (silu(Wgate u) * (Wup u)); u (N, C) -> (N, C). */
export function feedForward(u: Tensor, gate: Tensor, up: Tensor, down: Tensor): Tensor {
  return gatedProjection(linear(u, gate), linear(u, up), down)
}
