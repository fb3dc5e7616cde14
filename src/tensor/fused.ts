/**
 * Operations with hand-written gradients: fewer passes over memory than what automatic
 * differentiation of their definition would take. Every engine runs them; where the traced engine
 * has one operator for the job it is used.
 */
import {
  add,
  concat,
  customGrad,
  engine,
  exp,
  gather,
  getBackend,
  log,
  matMul,
  max,
  mean,
  mul,
  neg,
  oneHot,
  reshape,
  rsqrt,
  scalar,
  sigmoid,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  topk,
  zerosLike,
} from '@tensorflow/tfjs'
import { TRACE_BACKEND } from './trace-backend.ts'

type Save = (tensors: Tensor[]) => void

/** [x normalised and scaled, 1/rms] of x [..., C], gain [C]. */
function rmsForward(x: Tensor, gain: Tensor, epsilon: number): [Tensor, Tensor] {
  if (getBackend() === TRACE_BACKEND) {
    return engine().runKernel('RmsNormalize', { x, gain }, { epsilon }) as Tensor[] as [Tensor, Tensor]
  }
  const inverse = rsqrt(add(mean(square(x), -1, true), scalar(epsilon)))
  return [mul(mul(x, inverse), gain), inverse]
}

/** RMS(v; g) = g * v / sqrt(mean(v^2) + eps) over the last axis (flexolmo 1.1). x [..., C], gain [C]. */
export function rmsNorm(x: Tensor, gain: Tensor, epsilon: number): Tensor {
  const op = customGrad((...args) => {
    const [input, scale, save] = args as unknown[] as [Tensor, Tensor, Save]
    const [value, inverse] = rmsForward(input, scale, epsilon)
    save([input, scale, inverse])
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
      const [v, g, r] = saved as [Tensor, Tensor, Tensor]
      const normal = mul(v, r)
      const dn = mul(dy, g)
      const dx = mul(r, sub(dn, mul(normal, mean(mul(dn, normal), -1, true))))
      const rows = dy.shape.slice(0, -1).map((_, axis) => axis)
      return [dx, sum(mul(dy, normal), rows)]
    }
    return { value, gradFunc }
  })
  return op(x, gain)
}

/** silu(gate) * up, both [..., F] (flexolmo 1.1, FFN). */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  const op = customGrad((...args) => {
    const [g, u, save] = args as unknown[] as [Tensor, Tensor, Save]
    const s = sigmoid(g)
    const silu = mul(g, s)
    save([u, s, silu])
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
      const [up_, s_, silu_] = saved as [Tensor, Tensor, Tensor]
      // silu'(g) = s + silu * (1 - s) = silu + s * (1 - silu)
      const slope = add(silu_, mul(s_, sub(scalar(1), silu_)))
      return [mul(mul(dy, up_), slope), mul(dy, silu_)]
    }
    return { value: mul(silu, u), gradFunc }
  })
  return op(gate, up)
}

/**
 * Language-model head and its loss terms in one: for hidden x [N, C], head weight [V, C] and labels
 * [N], returns [N, 2] = (logsumexp of the logits, logit of the label). The gradient never builds a
 * one-hot matrix for a frozen head: d logits @ W = (p * d0) @ W + d1 * W[label].
 */
export function headLogProbs(x: Tensor, weight: Tensor, labels: Tensor, trainHead: boolean): Tensor {
  const op = customGrad((...args) => {
    const [h, w, save] = args as unknown[] as [Tensor, Tensor, Save]
    const logits = matMul(h as never, w as never, false, true) as Tensor // (N, C) x (V, C)' -> (N, V)
    const peak = max(logits, 1, true)
    const unnormal = exp(sub(logits, peak))
    const total = sum(unnormal, 1, true)
    const lse = add(log(total), peak) // (N, 1)
    const rows = gather(w, labels as Tensor1D) // (N, C)
    const picked = sum(mul(h, rows), 1, true) // (N, 1)
    save([h, w, unnormal, total, rows])
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
      const [h_, w_, e_, t_, r_] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor]
      const n = dy.shape[0] as number
      const dLse = slice(dy, [0, 0], [n, 1])
      const dPicked = slice(dy, [0, 1], [n, 1])
      const dl = mul(e_, mul(dLse, reciprocal(t_))) // (N, V): p * d0
      const dh = add(matMul(dl as never, w_ as never), mul(r_, dPicked))
      if (!trainHead) return [dh, zerosLike(w_)]
      const hot = mul(oneHot(labels as Tensor1D, w_.shape[0] as number), dPicked)
      return [dh, matMul(add(dl, hot) as never, h_ as never, true, false)]
    }
    return { value: concat([lse, picked], 1), gradFunc }
  })
  return op(x, weight)
}

function reciprocal(x: Tensor): Tensor {
  return exp(neg(log(x)))
}

/** 1 where an entry of p [N, E] is among its row's k largest, else 0; no gradient flows through it. */
export function topKMask(p: Tensor, k: number): Tensor {
  const experts = p.shape.at(-1) as number
  const op = customGrad((...args) => {
    const [input] = args as unknown[] as [Tensor]
    const { indices } = topk(input, k)
    const rows = input.shape[0] as number
    const hot = oneHot(reshape(indices, [rows * k]) as Tensor1D, experts)
    const value = sum(reshape(hot, [rows, k, experts]), 1)
    return { value, gradFunc: (dy: Tensor) => zerosLike(dy) }
  })
  return op(p)
}

/** Log-sum-exp over the last axis, keeping it: x [N, E] -> [N, 1]. */
export function logSumExpRows(x: Tensor): Tensor {
  const peak = max(x, -1, true)
  return add(log(sum(exp(sub(x, peak)), -1, true)), peak)
}
