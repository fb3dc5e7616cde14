/**
 * Attention of new tokens over a key-value cache that is written in place. The traced engine has one
 * operator for it, rotary embedding included; other engines run its definition. Knows no model.
 */
import {
  add,
  concat,
  engine,
  getBackend,
  matMul,
  mul,
  reshape,
  scalar,
  slice,
  softmax,
  stack,
  sub,
  type Tensor,
  type TensorInfo,
  tensor,
  transpose,
} from '@tensorflow/tfjs'
import { input, traced } from './kernels-elementwise.ts'
import { ONNX_TYPE } from './onnx-encode.ts'
import { TRACE_BACKEND, traceBackend as trace } from './trace-backend.ts'

/** B rows, T new tokens a row, H heads of D channels (C = H D), room for P positions. */
export interface CachedAttentionInputs {
  /** (B, T, C), not rotated. */
  readonly queries: Tensor
  readonly keys: Tensor
  readonly values: Tensor
  /** (B, H, P, D), rotated keys; the targets `presentKeys` and `presentValues` may be the same arrays. */
  readonly pastKeys: Tensor
  readonly pastValues: Tensor
  /** (B, T) int32: position of every new token. */
  readonly positions: Tensor
  /** (B) int32: position of each row's last new token. More than one row only with T = 1. */
  readonly lastPositions: Tensor
  /** (1) int32: positions of the longest row, new tokens included. */
  readonly total: Tensor
  /** (R, D / 2) each, R at least `total`: cosine and sine of every position. */
  readonly cos: Tensor
  readonly sin: Tensor
}

const KERNEL = 'CachedAttention'
const MICROSOFT = 'com.microsoft'
/** Additive mask of a later position; finite so that no row becomes NaN. */
const MASKED = -1e30

traced(KERNEL, (inputs, { heads }) => {
  const count = { name: 'num_heads', int: heads as number }
  const positions = input(inputs, 'positions')
  const index = trace.emit('Cast', [positions], positions.shape, 'int32', [
    { name: 'to', int: ONNX_TYPE.int64 },
  ])
  const rotated = (name: string): TensorInfo => {
    const x = input(inputs, name)
    const tables = [input(inputs, 'cos'), input(inputs, 'sin')]
    return trace.emit('RotaryEmbedding', [x, index, ...tables], x.shape, 'float32', [count], MICROSOFT)
  }
  const past = input(inputs, 'pastKeys')
  return trace.emitMany(
    'GroupQueryAttention',
    [
      rotated('queries'),
      rotated('keys'),
      input(inputs, 'values'),
      past,
      input(inputs, 'pastValues'),
      input(inputs, 'lastPositions'),
      input(inputs, 'total'),
    ],
    [input(inputs, 'queries'), past, past].map(({ shape }) => ({ shape, dtype: 'float32' as const })),
    [count, { name: 'kv_num_heads', int: heads as number }],
    MICROSOFT,
  )
})

/** [mixed (B, T, C), present keys, present values (B, H, P, D)] (flexolmo 1.1, attention). */
export function cachedAttention(inputs: CachedAttentionInputs, heads: number): [Tensor, Tensor, Tensor] {
  if (getBackend() === TRACE_BACKEND) {
    return engine().runKernel(KERNEL, { ...inputs }, { heads }) as Tensor[] as [Tensor, Tensor, Tensor]
  }
  const last = inputs.lastPositions.dataSync()
  const rows = Array.from({ length: inputs.queries.shape[0] as number }, (_, b) =>
    attendRow(inputs, heads, b, last[b] as number),
  )
  const column = (i: 0 | 1 | 2): Tensor => stack(rows.map((row) => row[i]))
  return [column(0), column(1), column(2)]
}

/** The definition, for one row: [mixed (T, C), keys, values (H, P, D)]. */
function attendRow(
  inputs: CachedAttentionInputs,
  heads: number,
  b: number,
  last: number,
): [Tensor, Tensor, Tensor] {
  const [, T, C] = inputs.queries.shape as [number, number, number]
  const P = inputs.pastKeys.shape[2] as number
  const D = C / heads
  const before = last + 1 - T
  const split = (x: Tensor): Tensor =>
    transpose(reshape(slice(x, [b, 0, 0], [1, T, C]), [T, heads, D]), [1, 0, 2]) // (H, T, D)
  const cos = slice(inputs.cos, [before, 0], [T, D / 2])
  const sin = slice(inputs.sin, [before, 0], [T, D / 2])
  const rotate = (x: Tensor): Tensor => {
    const first = slice(x, [0, 0, 0], [heads, T, D / 2])
    const second = slice(x, [0, 0, D / 2], [heads, T, D / 2])
    return concat([sub(mul(first, cos), mul(second, sin)), add(mul(second, cos), mul(first, sin))], 2)
  }
  const present = (past: Tensor, fresh: Tensor): Tensor => {
    const row = (from: number, count: number): Tensor =>
      reshape(slice(past, [b, 0, from, 0], [1, heads, count, D]), [heads, count, D])
    return concat([row(0, before), fresh, row(last + 1, P - last - 1)], 1)
  }
  const keys = present(inputs.pastKeys, rotate(split(inputs.keys)))
  const values = present(inputs.pastValues, split(inputs.values))
  const seen = (x: Tensor): Tensor => slice(x, [0, 0, 0], [heads, last + 1, D])
  const scores = mul(
    matMul(rotate(split(inputs.queries)) as never, seen(keys) as never, false, true) as Tensor,
    scalar(D ** -0.5),
  ) // (H, T, last + 1)
  const mask = tensor(
    Float32Array.from({ length: T * (last + 1) }, (_, i) =>
      i % (last + 1) > before + Math.floor(i / (last + 1)) ? MASKED : 0,
    ),
    [T, last + 1],
  )
  const mixed = matMul(softmax(add(scores, mask)) as never, seen(values) as never) as Tensor // (H, T, D)
  return [reshape(transpose(mixed, [1, 0, 2]), [T, C]), keys, values]
}
