/**
 * Attention of new tokens over a key-value cache, rotary embedding included. The traced engine uses ONNX operators for
 * it; other engines run the definition in plain operations. The updated cache is not a result: ONNX Runtime for Node
 * copies every result, and copying the whole cache would cost more than computing a token, so the caller writes the new
 * keys and values itself. Does not know models.
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
} from '@tensorflow/tfjs-core'
import { type Inputs, input, traced } from './kernels-elementwise.ts'
import { MASKED } from './mask.ts'
import { ONNX_TYPE } from './onnx-encode.ts'
import { TRACE_BACKEND, traceBackend as trace } from './trace-backend.ts'

/**
 * Numbers of heads. Shapes in this file: B rows, T new tokens per row, H heads of D channels (C = H D), a cache of P
 * positions; H / J query heads share each of the J heads of keys and values (K = J D).
 */
export interface AttentionHeads {
  /** H. */
  readonly queries: number
  /** J. */
  readonly keys: number
}

/** Keys and values of new tokens, before they enter the cache. */
export interface CachedKeysInputs {
  /** (B, T, K) before rotary embedding; `values` has the same shape. */
  readonly keys: Tensor
  readonly values: Tensor
  /** (B, T) int32: position of every new token. */
  readonly positions: Tensor
  /** (B) int32: position of each row's last new token. More than one row only with T = 1. */
  readonly lastPositions: Tensor
  /** Rotary tables (R, D / 2) each, with R greater than every position. */
  readonly cos: Tensor
  readonly sin: Tensor
}

export interface CachedAttentionInputs extends CachedKeysInputs {
  /** (B, T, C) before rotary embedding. */
  readonly queries: Tensor
  /** (B, J, P, D), after rotary embedding; `pastValues` has the same shape. */
  readonly pastKeys: Tensor
  readonly pastValues: Tensor
  /** (1) int32: number of positions of the longest row, new tokens included. */
  readonly total: Tensor
}

const KERNEL = 'CachedAttention'
const KEYS_KERNEL = 'CachedKeys'
const MICROSOFT = 'com.microsoft'

const count = (heads: unknown) => ({ name: 'num_heads', int: heads as number })

/** Traces the rotary embedding of x (B, T, heads D). */
function tracedRotation(inputs: Inputs, name: string, heads: unknown): TensorInfo {
  const x = input(inputs, name)
  const positions = input(inputs, 'positions')
  const index = trace.emit('Cast', [positions], positions.shape, 'int32', [
    { name: 'to', int: ONNX_TYPE.int64 },
  ])
  const tables = [input(inputs, 'cos'), input(inputs, 'sin')]
  return trace.emit('RotaryEmbedding', [x, index, ...tables], x.shape, 'float32', [count(heads)], MICROSOFT)
}

/** Traces the split into heads: x (B, T, K) -> (B, J, T, D). */
function tracedHeads(x: TensorInfo, keyHeads: unknown): TensorInfo {
  const [B, T, K] = x.shape as [number, number, number]
  const J = keyHeads as number
  // In ONNX a 0 keeps the size of the input, which here differs from run to run.
  const apart = trace.emit('Reshape', [x, trace.int64([0, 0, J, K / J])], [B, T, J, K / J], 'float32')
  return trace.emit('Transpose', [apart], [B, J, T, K / J], 'float32', [{ name: 'perm', ints: [0, 2, 1, 3] }])
}

traced(KERNEL, (inputs, { queryHeads, keyHeads }) => {
  const queries = tracedRotation(inputs, 'queries', queryHeads)
  const keys = tracedRotation(inputs, 'keys', keyHeads)
  const values = input(inputs, 'values')
  const past = input(inputs, 'pastKeys')
  const [mixed] = trace.emitMany(
    'GroupQueryAttention',
    [
      queries,
      keys,
      values,
      past,
      input(inputs, 'pastValues'),
      input(inputs, 'lastPositions'),
      input(inputs, 'total'),
    ],
    [queries, past, past].map(({ shape }) => ({ shape, dtype: 'float32' as const })),
    [count(queryHeads), { name: 'kv_num_heads', int: keyHeads as number }],
    MICROSOFT,
  )
  return [mixed as TensorInfo, tracedHeads(keys, keyHeads), tracedHeads(values, keyHeads)]
})

traced(KEYS_KERNEL, (inputs, { keyHeads }) => [
  tracedHeads(tracedRotation(inputs, 'keys', keyHeads), keyHeads),
  tracedHeads(input(inputs, 'values'), keyHeads),
])

export interface CachedKeysResults {
  /** (B, J, T, D), after rotary embedding. */
  readonly keys: Tensor
  /** (B, J, T, D). */
  readonly values: Tensor
}

export interface CachedAttentionResults extends CachedKeysResults {
  /** Attention output (B, T, C), before the output projection. */
  readonly mixed: Tensor
}

/** The keys and values of J heads that `cachedAttention` gives, without the attention itself. */
export function cachedKeys(inputs: CachedKeysInputs, J: number): CachedKeysResults {
  if (getBackend() === TRACE_BACKEND) {
    const [keys, values] = engine().runKernel(KEYS_KERNEL, { ...inputs }, { keyHeads: J }) as [Tensor, Tensor]
    return { keys, values }
  }
  const last = inputs.lastPositions.dataSync()
  const rows = Array.from(last, (position, b) => rowKeys(inputs, J, b, position))
  return { keys: stack(rows.map(({ keys }) => keys)), values: stack(rows.map(({ values }) => values)) }
}

/** Causal attention of new tokens over the cache and each other. */
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
  const rows = Array.from(last, (position, b) => attendRow(inputs, heads, b, position))
  const column = (name: keyof CachedAttentionResults): Tensor => stack(rows.map((row) => row[name]))
  return { mixed: column('mixed'), keys: column('keys'), values: column('values') }
}

/** Row b of x (B, T, count D), split into heads: (count, T, D). */
function rowHeads(x: Tensor, b: number, count: number): Tensor {
  const [, T, width] = x.shape as [number, number, number]
  return transpose(reshape(slice(x, [b, 0, 0], [1, T, width]), [T, count, width / count]), [1, 0, 2])
}

/** Rotary embedding of x (count, T, D), whose last token has position `last`. */
function rotatedRow(x: Tensor, { cos, sin }: CachedKeysInputs, last: number): Tensor {
  const [, T, D] = x.shape as [number, number, number]
  const [c, s] = [cos, sin].map((table) => slice(table, [last + 1 - T, 0], [T, D / 2])) as [Tensor, Tensor]
  const [first, second] = halves(x, 2, -1) as [Tensor, Tensor]
  return concat([sub(mul(first, c), mul(second, s)), add(mul(second, c), mul(first, s))], 2)
}

/** Definition of `cachedKeys` for row b: rotated keys and values, (J, T, D) each. */
function rowKeys(inputs: CachedKeysInputs, J: number, b: number, last: number): CachedKeysResults {
  return {
    keys: rotatedRow(rowHeads(inputs.keys, b, J), inputs, last),
    values: rowHeads(inputs.values, b, J),
  }
}

/** Definition of `cachedAttention` for row b: attention output (T, C), rotated keys and values (J, T, D). */
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
  const joined = (past: Tensor, fresh: Tensor): Tensor =>
    concat([reshape(slice(past, [b, 0, 0, 0], [1, J, before, D]), [J, before, D]), fresh], 1)
  const fresh = rowKeys(inputs, J, b, last)
  const keys = joined(inputs.pastKeys, fresh.keys) // (J, last + 1, D)
  const values = joined(inputs.pastValues, fresh.values)
  // Query heads that share keys become one head with H / J times as many queries.
  const queries = reshape(rotatedRow(rowHeads(inputs.queries, b, H), inputs, last), [J, (H / J) * T, D])
  const scores = mul(matMul(queries as never, keys as never, false, true) as Tensor, scalar(D ** -0.5))
  const mask = tensor(
    Float32Array.from({ length: (H / J) * T * (last + 1) }, (_, i) =>
      i % (last + 1) > before + (Math.floor(i / (last + 1)) % T) ? MASKED : 0,
    ),
    [(H / J) * T, last + 1],
  )
  const mixed = matMul(softmax(add(scores, mask)) as never, values as never) as Tensor // (J, G T, D)
  const flat = reshape(transpose(reshape(mixed, [H, T, D]), [1, 0, 2]), [T, C])
  return { mixed: flat, ...fresh }
}
