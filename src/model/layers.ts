/**
 * The pieces of an OLMo-2 block as plain functions (flexolmo 1.1).
 *
 * B = batch, T = time, P = past positions, C = hidden, V = vocabulary, H = heads, D = head size,
 * F = FFN width, E = experts, K = top-k, N = B * T tokens. Weights are [out, in]; y = x W'.
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
} from '@tensorflow/tfjs'
import { gatedProjection, maskedAttention, rmsNorm } from '../tensor/fused.ts'
import type { ModelConfig } from './config.ts'

export type Weights = (name: string) => Tensor

/** Additive mask value for positions that must not be seen; finite so that no row becomes NaN. */
const MASKED = -1e30

/** x [N, I] times W [O, I] transposed -> [N, O]. */
export function linear(x: Tensor, weight: Tensor): Tensor {
  return matMul(x as never, weight as never, false, true)
}

/** cos and sin of every position and pair of channels, [length, D / 2] each (flexolmo 1.1). */
export function rotaryHalves(config: ModelConfig, length: number): { cos: Float32Array; sin: Float32Array } {
  const D = config.hiddenSize / config.numAttentionHeads
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

/** The same for every channel, [length, D]; halves repeat (rotate-half layout). */
export function rotaryTables(config: ModelConfig, length: number): { cos: Float32Array; sin: Float32Array } {
  const D = config.hiddenSize / config.numAttentionHeads
  const half = D / 2
  const halves = rotaryHalves(config, length)
  const whole = (table: Float32Array): Float32Array =>
    Float32Array.from(
      { length: length * D },
      (_, i) => table[Math.floor(i / D) * half + (i % half)] as number,
    )
  return { cos: whole(halves.cos), sin: whole(halves.sin) }
}

/** Rotate x (B, H, T, D) by cos and sin, each broadcastable to it. */
export function rotate(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  const [first, second] = split(x, 2, -1) as [Tensor, Tensor]
  const turned = concat([mul(second, scalar(-1)), first], -1) // [-v2, v1]
  return add(mul(x, cos), mul(turned, sin))
}

/** [T, T] additive causal mask. */
export function causalMask(T: number): Tensor {
  const values = new Float32Array(T * T)
  for (let row = 0; row < T; row++) values.fill(MASKED, row * T + row + 1, (row + 1) * T)
  return tensor(values, [T, T])
}

/**
 * Self-attention with full-width QK-norm before the split into heads, and norm on the output:
 * (N, C). x (N, C) with N = B * T; cos and sin broadcast to (B, H, T, D).
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
  const { numAttentionHeads: H, hiddenSize: C, rmsNormEps } = config
  const D = C / H
  const heads = (y: Tensor): Tensor => transpose(reshape(y, [B, T, H, D]), [0, 2, 1, 3]) // (B, H, T, D)
  const named = (rest: string): Tensor => weights(`${prefix}self_attn.${rest}.weight`)
  const q = rmsNorm(linear(x, named('q_proj')), named('q_norm'), rmsNormEps)
  const k = rmsNorm(linear(x, named('k_proj')), named('k_norm'), rmsNormEps)
  const queries = mul(rotate(heads(q), rotary.cos, rotary.sin), scalar(D ** -0.5))
  const keys = rotate(heads(k), rotary.cos, rotary.sin)
  const values = heads(linear(x, named('v_proj')))
  const mixed = maskedAttention(queries, keys, values, mask) // (B, H, T, D)
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
