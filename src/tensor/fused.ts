/**
 * Operations with hand-written gradients, which take fewer passes over memory than automatic differentiation of their
 * definitions. Every engine runs them; the traced engine uses a single ONNX operator when one exists. Does not know
 * models.
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
} from '@tensorflow/tfjs-core'
import { TRACE_BACKEND } from './trace-backend.ts'

type Save = (tensors: Tensor[]) => void

/** [x * gain / rms, 1 / rms] for x [..., C] and gain [C]. */
function rmsForward(x: Tensor, gain: Tensor, epsilon: number): [Tensor, Tensor] {
  if (getBackend() === TRACE_BACKEND) {
    return engine().runKernel('RmsNormalize', { x, gain }, { epsilon }) as Tensor[] as [Tensor, Tensor]
  }
  const inverse = rsqrt(add(mean(square(x), -1, true), scalar(epsilon)))
  return [mul(mul(x, inverse), gain), inverse]
}

/** RMS norm g * v / sqrt(mean(v^2) + eps) over the last axis: x [..., C], gain [C] -> [..., C]. */
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

/** silu(x) = x * sigmoid(x). */
function silu(x: Tensor): Tensor {
  if (getBackend() === TRACE_BACKEND) return engine().runKernel('Silu', { x }) as Tensor
  return mul(x, sigmoid(x))
}

/**
 * (silu(gate) * up) down': gate and up [N, F], down [C, F] -> [N, C], an FFN after its first two products. Only gate
 * and up are stored for the gradient; the three other [N, F] tensors are recomputed, which costs little beside the
 * matrix products.
 */
export function gatedProjection(gate: Tensor, up: Tensor, down: Tensor): Tensor {
  const op = customGrad((...args) => {
    const [g, u, w, save] = args as unknown[] as [Tensor, Tensor, Tensor, Save]
    save([g, u, w])
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
      const [g_, u_, w_] = saved as [Tensor, Tensor, Tensor]
      const s = sigmoid(g_)
      const a = mul(g_, s)
      const dh = matMul(dy as never, w_ as never) as Tensor // (N, F)
      const dw = matMul(dy as never, mul(a, u_) as never, true, false) as Tensor // (C, F)
      return [mul(mul(dh, u_), siluSlope(a, s)), mul(dh, a), dw]
    }
    return { value: matMul(mul(silu(g), u) as never, w as never, false, true) as Tensor, gradFunc }
  })
  return op(gate, up, down)
}

/**
 * silu(gate) * up, both [N, F]. Only gate and up are stored for the gradient. `gatedProjection` is faster if the
 * gradient of its weight is not needed by row.
 */
export function gatedActivation(gate: Tensor, up: Tensor): Tensor {
  const op = customGrad((...args) => {
    const [g, u, save] = args as unknown[] as [Tensor, Tensor, Save]
    save([g, u])
    const gradFunc = (dh: Tensor, saved: Tensor[]): Tensor[] => {
      const [g_, u_] = saved as [Tensor, Tensor]
      const s = sigmoid(g_)
      const a = mul(g_, s)
      return [mul(mul(dh, u_), siluSlope(a, s)), mul(dh, a)]
    }
    return { value: mul(silu(g), u), gradFunc }
  })
  return op(gate, up)
}

/** silu'(x) = s + a (1 - s) = a + s (1 - a) for a = silu(x) and s = sigmoid(x). */
function siluSlope(a: Tensor, s: Tensor): Tensor {
  return add(a, mul(s, sub(scalar(1), a)))
}

/** Gradients that a head computes; `input` means with respect to x only, for a frozen head. */
export type HeadGradients = 'none' | 'input' | 'both'

/** Maximum number of logits in memory at once: 16 MiB, unless these are fewer than `LEAST_ROWS` rows. */
const LOGITS_AT_ONCE = 1 << 22
/**
 * Products of fewer rows are slow: with a weight of [25088, 2048], ONNX Runtime computed 104, 145 and 175 GFLOP/s on one
 * core of an AMD EPYC for 41, 82 and 164 rows.
 */
const LEAST_ROWS = 128

/**
 * Language-model head together with its loss terms: for hidden x [N, C], head weight [V, C] and int32 labels [N],
 * returns [N, 2]: the log-sum-exp of the logits, and the logit of the label. Unless the head itself is trained, it
 * builds no one-hot matrix and computes the logits of only some rows at a time.
 */
export function headLogProbs(x: Tensor, weight: Tensor, labels: Tensor, gradients: HeadGradients): Tensor {
  return gradients === 'both' ? trainedHead(x, weight, labels) : frozenHead(x, weight, labels, gradients)
}

/** Number of rows, of N, whose logits over a vocabulary of V a frozen head computes at once. */
export function headRows(N: number, V: number): number {
  return Math.max(Math.min(N, LEAST_ROWS), Math.ceil(N / Math.ceil((N * V) / LOGITS_AT_ONCE)))
}

/** For the logits of h [n, C]: exp(logits - peak) [n, V], the sum of its rows [n, 1], and the log-sum-exp [n, 1]. */
function softmaxParts(h: Tensor, w: Tensor): { unnormal: Tensor; total: Tensor; lse: Tensor } {
  const logits = matMul(h as never, w as never, false, true) as Tensor // (n, C) x (V, C)' -> (n, V)
  const peak = max(logits, 1, true)
  const unnormal = exp(sub(logits, peak))
  const total = sum(unnormal, 1, true)
  return { unnormal, total, lse: add(log(total), peak) }
}

/** The gradient of x is d0 * (p @ W) + d1 * W[label], so only p @ W [N, C] and W[label] are stored for it. */
function frozenHead(x: Tensor, weight: Tensor, labels: Tensor, gradients: HeadGradients): Tensor {
  const [N, C] = x.shape as [number, number]
  const V = weight.shape[0] as number
  const rowsAtOnce = headRows(N, V)
  const op = customGrad((...args) => {
    const [h, w, save] = args as unknown[] as [Tensor, Tensor, Save]
    const chunks: Tensor[] = []
    for (let from = 0; from < N; from += rowsAtOnce) {
      const parts = softmaxParts(slice(h, [from, 0], [Math.min(rowsAtOnce, N - from), C]), w)
      if (gradients === 'none') {
        chunks.push(parts.lse)
        continue
      }
      const expected = mul(matMul(parts.unnormal as never, w as never) as Tensor, reciprocal(parts.total))
      // Joined, so that an engine that orders operations by need finishes a chunk before it begins the next one.
      chunks.push(concat([parts.lse, expected], 1))
    }
    const joined = concat(chunks, 0) // (N, 1), or (N, 1 + C) with gradients
    const lse = slice(joined, [0, 0], [N, 1])
    const rows = gather(w, labels as Tensor1D) // (N, C)
    const picked = sum(mul(h, rows), 1, true) // (N, 1)
    save(gradients === 'none' ? [w] : [w, slice(joined, [0, 1], [N, C]), rows])
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
      const [w_, expected_, rows_] = saved as [Tensor, Tensor, Tensor]
      const dLse = slice(dy, [0, 0], [N, 1])
      const dPicked = slice(dy, [0, 1], [N, 1])
      return [add(mul(expected_, dLse), mul(rows_, dPicked)), zerosLike(w_)]
    }
    return { value: concat([lse, picked], 1), gradFunc }
  })
  return op(x, weight)
}

/** The gradient of the weight needs all probabilities, so the logits of all rows are in memory at once. */
function trainedHead(x: Tensor, weight: Tensor, labels: Tensor): Tensor {
  const op = customGrad((...args) => {
    const [h, w, save] = args as unknown[] as [Tensor, Tensor, Save]
    const { unnormal, total, lse } = softmaxParts(h, w)
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

/** [N, E]: 1 where an entry of p [N, E] is among the k largest of its row, else 0. Has no gradient. */
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

/** Log-sum-exp over the last axis: x [N, E] -> [N, 1]. */
export function logSumExpRows(x: Tensor): Tensor {
  const peak = max(x, -1, true)
  return add(log(sum(exp(sub(x, peak)), -1, true)), peak)
}
