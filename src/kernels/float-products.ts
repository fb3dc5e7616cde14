/**
 * Products of a float matrix with one, two or four vectors, and the kernels that bring its rows into pairs. ONNX Runtime
 * reads four rows of a matrix at a time, which suits the caches but not the memory: read as one sequential stream, the
 * same matrix arrives 1.5 times as fast. Does not know threads or models.
 */
import {
  type Code,
  FunctionBuilder,
  f32,
  f32x4,
  i32,
  type Local,
  laneSum,
  multiplyAdd,
  v128,
  type WasmFunction,
  whenTrue,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

/**
 * Two rows times four vectors need eight sums, which fill the registers; with five vectors the same work takes twice
 * as long.
 */
export const VECTORS_AT_ONCE = 4

/** Partial sums of one row, so that no addition waits for the previous one. */
const ROW_SUMS = 4

/** Product with a row-major matrix: the keys of one head, or the rows of the router. */
export function dotRows(): WasmFunction {
  const f = new FunctionBuilder('dots')
  const x = f.param('i32')
  const w = f.param('i32')
  const y = f.param('i32')
  const rows = f.param('i32')
  const width = f.param('i32')
  const sums = Array.from({ length: ROW_SUMS }, () => f.local('v128'))
  const at = f.local('i32')
  const rowEnd = f.local('i32')
  const end = f.local('i32')
  const [first, ...others] = sums as [Local, ...Local[]]

  const advance = (steps: number): Code[] => [
    ...sums
      .slice(0, steps)
      .map((sum, step) =>
        sum.set(multiplyAdd(v128.load(16 * step, w.get), v128.load(16 * step, at.get), sum.get)),
      ),
    at.set(i32.add(at.get, i32.const(16 * steps))),
    w.set(i32.add(w.get, i32.const(16 * steps))),
  ]
  return f.finish(
    width.set(i32.shl(width.get, i32.const(2))),
    end.set(i32.add(w.get, i32.mul(rows.get, width.get))),
    whileLoop(
      i32.ltU(w.get, end.get),
      at.set(x.get),
      ...sums.map((sum) => sum.set(ZERO)),
      rowEnd.set(i32.add(w.get, width.get)),
      whileLoop(i32.ltU(i32.add(w.get, i32.const(16 * ROW_SUMS - 1)), rowEnd.get), ...advance(ROW_SUMS)),
      whileLoop(i32.ltU(w.get, rowEnd.get), ...advance(1)),
      ...others.map((sum) => first.set(f32x4.add(first.get, sum.get))),
      f32.store(0, y.get, laneSum(first.get)),
      y.set(i32.add(y.get, i32.const(4))),
    ),
  )
}

/** Unrolling of the innermost loop, by number of vectors. For two or four vectors, unrolling makes it slower. */
const STEPS_AT_ONCE = { 1: 2, 2: 1, 4: 1 } as const
const PAIR_BYTES = 32

/**
 * Product of paired rows with one, two or four vectors. Two rows share each load of the vectors. They are
 * stored in one stream of addresses, because two streams a page apart arrive at a quarter of the speed. The results of
 * consecutive vectors start `stride` bytes apart.
 */
export function pairedProduct(count: keyof typeof STEPS_AT_ONCE): WasmFunction {
  const f = new FunctionBuilder(`product${count}`)
  const x = f.param('i32')
  const w = f.param('i32')
  const y = f.param('i32')
  const rows = f.param('i32')
  const width = f.param('i32')
  const accumulate = f.param('i32')
  const stride = f.param('i32')
  const atOnce = STEPS_AT_ONCE[count]
  const steps = Array.from({ length: atOnce }, (_, step) => step)
  const vectors = Array.from({ length: count }, (_, v) => v)
  /** By unrolled step, then by vector: the sum of the upper row and that of the lower. */
  const sums = steps.map(() => vectors.map(() => [f.local('v128'), f.local('v128')] as const))
  const upper = f.local('v128')
  const lower = f.local('v128')
  const value = f.local('v128')
  const at = f.local('i32')
  const pairEnd = f.local('i32')
  const end = f.local('i32')
  const into = f.local('i32')
  const groupBytes = 16 * count
  const [total = [], ...others] = sums

  const advance = (length: number): Code[] => [
    ...sums
      .slice(0, length)
      .flatMap((stepSums, step) => [
        upper.set(v128.load(PAIR_BYTES * step, w.get)),
        lower.set(v128.load(PAIR_BYTES * step + 16, w.get)),
        ...stepSums.flatMap(([above, below], v) => [
          value.set(v128.load(groupBytes * step + 16 * v, at.get)),
          above.set(multiplyAdd(upper.get, value.get, above.get)),
          below.set(multiplyAdd(lower.get, value.get, below.get)),
        ]),
      ]),
    at.set(i32.add(at.get, i32.const(groupBytes * length))),
    w.set(i32.add(w.get, i32.const(PAIR_BYTES * length))),
  ]
  return f.finish(
    // `width` becomes the bytes of a pair, `rows` the number of pairs; an odd last row is paired with zeros.
    width.set(i32.shl(width.get, i32.const(3))),
    rows.set(i32.shiftRightU(i32.add(rows.get, i32.const(1)), i32.const(1))),
    end.set(i32.add(w.get, i32.mul(rows.get, width.get))),
    whileLoop(
      i32.ltU(w.get, end.get),
      at.set(x.get),
      pairEnd.set(i32.add(w.get, width.get)),
      ...sums.flat(2).map((sum) => sum.set(ZERO)),
      whenTrue(
        accumulate.get,
        into.set(y.get),
        ...total.flatMap(([above, below]) => [
          above.set(v128.loadZero32(0, into.get)),
          below.set(v128.loadZero32(4, into.get)),
          into.set(i32.add(into.get, stride.get)),
        ]),
      ),
      whileLoop(i32.ltU(i32.add(w.get, i32.const(PAIR_BYTES * atOnce - 1)), pairEnd.get), ...advance(atOnce)),
      ...(atOnce === 1 ? [] : [whileLoop(i32.ltU(w.get, pairEnd.get), ...advance(1))]),
      ...others.flatMap((stepSums) =>
        stepSums.flatMap((pair, v) =>
          pair.map((sum, row) => {
            const into = (total[v] as (typeof total)[number])[row] as Local
            return into.set(f32x4.add(into.get, sum.get))
          }),
        ),
      ),
      into.set(y.get),
      ...total.flatMap(([above, below]) => [
        f32.store(0, into.get, laneSum(above.get)),
        f32.store(4, into.get, laneSum(below.get)),
        into.set(i32.add(into.get, stride.get)),
      ]),
      y.set(i32.add(y.get, i32.const(8))),
    ),
  )
}

/** Copies one tile of two rows, `width` floats each, to a pair: alternating four values of the upper row and the lower. */
export function pairTile(): WasmFunction {
  const f = new FunctionBuilder('pairTile')
  const [upper, lower, to, width] = [f.param('i32'), f.param('i32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  return f.finish(
    end.set(i32.add(upper.get, i32.shl(width.get, i32.const(2)))),
    whileLoop(
      i32.ltU(upper.get, end.get),
      v128.store(0, to.get, v128.load(0, upper.get)),
      v128.store(16, to.get, v128.load(0, lower.get)),
      upper.set(i32.add(upper.get, i32.const(16))),
      lower.set(i32.add(lower.get, i32.const(16))),
      to.set(i32.add(to.get, i32.const(PAIR_BYTES))),
    ),
  )
}

/** The inverse of `pairTile`. */
export function unpairTile(): WasmFunction {
  const f = new FunctionBuilder('unpairTile')
  const [from, upper, lower, width] = [f.param('i32'), f.param('i32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  return f.finish(
    end.set(i32.add(upper.get, i32.shl(width.get, i32.const(2)))),
    whileLoop(
      i32.ltU(upper.get, end.get),
      v128.store(0, upper.get, v128.load(0, from.get)),
      v128.store(0, lower.get, v128.load(16, from.get)),
      upper.set(i32.add(upper.get, i32.const(16))),
      lower.set(i32.add(lower.get, i32.const(16))),
      from.set(i32.add(from.get, i32.const(PAIR_BYTES))),
    ),
  )
}
