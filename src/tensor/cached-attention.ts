/**
 * Attention of new tokens over a key-value cache. The traced engine has operators for it, rotary
 * embedding included; other engines run its definition. The cache is not a result: ONNX Runtime for
 * Node copies every result, and the whole cache for one token would cost more than the token, so the
 * caller writes the new keys and values itself. Knows no model.
 */
import {
  add,
  concat,
  engine,
  getBackend,
  split as halves,
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

/**
 * B rows, T new tokens a row, H heads of D channels (C = H D), room for P positions; H / J heads share each
 * of the J heads of keys and values (K = J D).
 */
export interface AttentionHeads {
  /** H. */
  readonly queries: number
  /** J. */
  readonly keys: number
}

export interface CachedAttentionInputs {
  /** (B, T, C), not rotated. */
  readonly queries: Tensor
  /** (B, T, K), not rotated. */
  readonly keys: Tensor
  readonly values: Tensor
  /** (B, J, P, D), rotated keys. */
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

traced(KERNEL, (inputs, { queryHeads, keyHeads }) => {
  const count = (heads: unknown) => ({ name: 'num_heads', int: heads as number })
  const positions = input(inputs, 'positions')
  const index = trace.emit('Cast', [positions], positions.shape, 'int32', [
    { name: 'to', int: ONNX_TYPE.int64 },
  ])
  const rotated = (name: string, heads: unknown): TensorInfo => {
    const x = input(inputs, name)
    const tables = [input(inputs, 'cos'), input(inputs, 'sin')]
    return trace.emit('RotaryEmbedding', [x, index, ...tables], x.shape, 'float32', [count(heads)], MICROSOFT)
  }
  const queries = rotated('queries', queryHeads)
  const keys = rotated('keys', keyHeads)
  const past = input(inputs, 'pastKeys')
  const [mixed] = trace.emitMany(
    'GroupQueryAttention',
    [
      queries,
      keys,
      input(inputs, 'values'),
      past,
      input(inputs, 'pastValues'),
      input(inputs, 'lastPositions'),
      input(inputs, 'total'),
    ],
    [queries, past, past].map(({ shape }) => ({ shape, dtype: 'float32' as const })),
    [count(queryHeads), { name: 'kv_num_heads', int: keyHeads as number }],
    MICROSOFT,
  )
  const byHead = (x: TensorInfo): TensorInfo => {
    const [B, T, K] = x.shape as [number, number, number]
    const [, J, , D] = past.shape as [number, number, number, number]
    // Zeros keep the sizes that every run chooses.
    const apart = trace.emit('Reshape', [x, trace.int64([0, 0, J, K / J])], [B, T, J, D], 'float32')
    return trace.emit('Transpose', [apart], [B, J, T, D], 'float32', [{ name: 'perm', ints: [0, 2, 1, 3] }])
  }
  return [mixed as TensorInfo, byHead(keys), byHead(input(inputs, 'values'))]
})

export interface CachedAttentionResults {
  /** (B, T, C). */
  readonly mixed: Tensor
  /** (B, J, T, D), rotated. */
  readonly keys: Tensor
  /** (B, J, T, D). */
  readonly values: Tensor
}

/** Flexolmo 1.1, attention. */
export function cachedAttention(
  inputs: CachedAttentionInputs,
  heads: AttentionHeads,
): CachedAttentionResults {
  if (getBackend() === TRACE_BACKEND) {
    const counts = { queryHeads: heads.queries, keyHeads: heads.keys }
    const results = engine().runKernel(KERNEL, { ...inputs }, counts) as Tensor[]
    const [mixed, keys, values] = results as [Tensor, Tensor, Tensor]
    return { mixed, keys, values }
  }
  const last = inputs.lastPositions.dataSync()
  const rows = Array.from({ length: inputs.queries.shape[0] as number }, (_, b) =>
    attendRow(inputs, heads, b, last[b] as number),
  )
  const column = (name: keyof CachedAttentionResults): Tensor => stack(rows.map((row) => row[name]))
  return { mixed: column('mixed'), keys: column('keys'), values: column('values') }
}

/** The definition, for one row: mixed (T, C), rotated keys and values (J, T, D). */
function attendRow(
  inputs: CachedAttentionInputs,
  heads: AttentionHeads,
  b: number,
  last: number,
): CachedAttentionResults {
  const [, T, C] = inputs.queries.shape as [number, number, number]
  const { queries: H, keys: J } = heads
  const D = C / H
  const before = last + 1 - T
  const split = (x: Tensor, count: number): Tensor =>
    transpose(reshape(slice(x, [b, 0, 0], [1, T, count * D]), [T, count, D]), [1, 0, 2]) // (count, T, D)
  const cos = slice(inputs.cos, [before, 0], [T, D / 2])
  const sin = slice(inputs.sin, [before, 0], [T, D / 2])
  const rotate = (x: Tensor): Tensor => {
    const [first, second] = halves(x, 2, -1) as [Tensor, Tensor]
    return concat([sub(mul(first, cos), mul(second, sin)), add(mul(second, cos), mul(first, sin))], 2)
  }
  const joined = (past: Tensor, fresh: Tensor): Tensor =>
    concat([reshape(slice(past, [b, 0, 0, 0], [1, J, before, D]), [J, before, D]), fresh], 1)
  const fresh = rotate(split(inputs.keys, J)) // (J, T, D)
  const keys = joined(inputs.pastKeys, fresh) // (J, last + 1, D)
  const freshValues = split(inputs.values, J)
  const values = joined(inputs.pastValues, freshValues)
  // Heads that share keys are one head of more queries.
  const queries = reshape(rotate(split(inputs.queries, H)), [J, (H / J) * T, D])
  const scores = mul(matMul(queries as never, keys as never, false, true) as Tensor, scalar(D ** -0.5))
  const mask = tensor(
    Float32Array.from({ length: (H / J) * T * (last + 1) }, (_, i) =>
      i % (last + 1) > before + (Math.floor(i / (last + 1)) % T) ? MASKED : 0,
    ),
    [(H / J) * T, last + 1],
  )
  const mixed = matMul(softmax(add(scores, mask)) as never, values as never) as Tensor // (J, G T, D)
  const flat = reshape(transpose(reshape(mixed, [H, T, D]), [1, 0, 2]), [T, C])
  return { mixed: flat, keys: fresh, values: freshValues }
}
