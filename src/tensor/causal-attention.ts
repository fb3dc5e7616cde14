/**
 * Causal self-attention for training with a hand-written gradient, computed in blocks of queries: keys that are masked
 * for a whole block are skipped. Does not know models.
 */
import {
  add,
  concat,
  customGrad,
  matMul,
  mul,
  neg,
  slice,
  softmax,
  sub,
  sum,
  type Tensor,
} from '@tensorflow/tfjs-core'

type Save = (tensors: Tensor[]) => void

/** Minimum queries per block; smaller matrix products are slow. */
const MIN_QUERIES = 64
/** More blocks would save little: four skip three eighths of all scores, eight skip seven sixteenths. */
const MAX_QUERY_BLOCKS = 4

/** Consecutive queries that are computed together, with the keys that they can see. */
interface QueryBlock {
  /** Index of the first query. */
  readonly from: number
  readonly count: number
  /** Number of keys; later ones are masked for every query of the block. */
  readonly keys: number
}

/**
 * softmax(q k' + mask) v over the last two axes -> [B, H, S, D]: q [B, H, S, D] already scaled, k and v [B, H, T, D],
 * mask [S, T] that hides from query s the keys after s mod T. S is a multiple of T: query heads that share keys are
 * stacked. The gradient recomputes the probabilities, so none are stored between forward and backward.
 */
export function causalAttention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor): Tensor {
  const [S, T] = mask.shape as [number, number]
  const blocks = queryBlocks(S, T)
  const op = customGrad((...args) => {
    const [q, k, v, save] = args as unknown[] as [Tensor, Tensor, Tensor, Save]
    const value = joined(blocks.map((block) => mixedValues(block, q, k, v, mask)))
    save([q, k, v, value, mask])
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
      const [q_, k_, v_, o_, mask_] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor]
      const grads = blocks.map((block) =>
        blockGradients(block, { q: q_, k: k_, v: v_, o: o_, mask: mask_, dy }),
      )
      const all = (name: 'dq' | 'dk' | 'dv'): Tensor[] => grads.map((grad) => grad[name])
      return [joined(all('dq')), sumOfFirstRows(all('dk')), sumOfFirstRows(all('dv'))]
    }
    return { value, gradFunc }
  })
  return op(queries, keys, values)
}

function queryBlocks(S: number, T: number): QueryBlock[] {
  const most = Math.max(MIN_QUERIES, Math.ceil(T / MAX_QUERY_BLOCKS))
  return Array.from({ length: S / T }, (_, head) =>
    Array.from({ length: Math.ceil(T / most) }, (_, block) => {
      const keys = Math.min(T, (block + 1) * most)
      return { from: head * T + block * most, count: keys - block * most, keys }
    }),
  ).flat()
}

/** Attention output of one block: (B, H, count, D). */
function mixedValues(block: QueryBlock, q: Tensor, k: Tensor, v: Tensor, mask: Tensor): Tensor {
  const { from, count, keys } = block
  const scores = matMul(rowsOf(q, from, count) as never, rowsOf(k, 0, keys) as never, false, true) as Tensor
  const p = softmax(add(scores, maskOf(mask, block))) // (B, H, count, keys)
  return matMul(p as never, rowsOf(v, 0, keys) as never) as Tensor
}

/** Tensors that the gradient needs. */
interface Saved {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  /** The output of the forward pass. */
  readonly o: Tensor
  readonly mask: Tensor
  readonly dy: Tensor
}

/**
 * Gradients with respect to the block's queries and to the keys and values that they see. With O the output:
 * dS = P * (dP - rowsum(dO * O)) (Dao et al., 2022, arXiv 2205.14135, B.4).
 */
function blockGradients(block: QueryBlock, saved: Saved): { dq: Tensor; dk: Tensor; dv: Tensor } {
  const { from, count, keys } = block
  const ofBlock = (x: Tensor): Tensor => rowsOf(x, from, count)
  const [q, o, dy] = [ofBlock(saved.q), ofBlock(saved.o), ofBlock(saved.dy)]
  const [k, v] = [rowsOf(saved.k, 0, keys), rowsOf(saved.v, 0, keys)]
  // Subtract the product with -q: ONNX Runtime would recognise the product of the forward pass and store its result
  // instead of recomputing it.
  const scores = sub(maskOf(saved.mask, block), matMul(neg(q) as never, k as never, false, true) as Tensor)
  const p = softmax(scores)
  const dp = matMul(dy as never, v as never, false, true) as Tensor
  const ds = mul(p, sub(dp, sum(mul(dy, o), -1, true)))
  return {
    dq: matMul(ds as never, k as never) as Tensor,
    dk: matMul(ds as never, q as never, true, false) as Tensor,
    dv: matMul(p as never, dy as never, true, false) as Tensor,
  }
}

function maskOf(mask: Tensor, { from, count, keys }: QueryBlock): Tensor {
  const [S, T] = mask.shape as [number, number]
  return count === S && keys === T ? mask : slice(mask, [from, 0], [count, keys])
}

/** Rows `from` to `from + count` of axis 2 of x [B, H, T, D]; x itself when that is all of them. */
function rowsOf(x: Tensor, from: number, count: number): Tensor {
  const [B, H, T, D] = x.shape as [number, number, number, number]
  return count === T ? x : slice(x, [0, 0, from, 0], [B, H, count, D])
}

function joined(parts: readonly Tensor[]): Tensor {
  return parts.length === 1 ? (parts[0] as Tensor) : concat([...parts], 2)
}

/** Sum of tensors [B, H, t, D] of different t; a tensor counts as zero beyond its last row. */
function sumOfFirstRows(parts: readonly Tensor[]): Tensor {
  const lengths = parts.map(({ shape }) => shape[2] as number)
  const ends = [...new Set(lengths)].sort((a, b) => a - b)
  return joined(
    ends.map((end, i) => {
      const from = ends[i - 1] ?? 0
      const reaching = parts.filter((_, part) => (lengths[part] as number) >= end)
      return reaching.map((part) => rowsOf(part, from, end - from)).reduce((a, b) => add(a, b))
    }),
  )
}
