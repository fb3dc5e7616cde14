/**
 * Kernels of matrices of bf16 numbers: products with one, two or four vectors, conversion to floats and back, and the
 * order of vectors that products read. Does not know threads or models.
 *
 * A bf16 number is the upper half of a float. A vector of eight numbers becomes two vectors of floats by one shift and
 * one mask: those of even columns and those of odd columns. Vectors of activations have the same order.
 */
import {
  type Code,
  FunctionBuilder,
  f32,
  f32x4,
  i32,
  i32x4,
  type Local,
  laneSum,
  loadConstant,
  multiplyAdd,
  shuffle32,
  v128,
  type WasmFunction,
  whenTrue,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

const SIXTEEN = i32.const(16)
/** Mask of the upper half of a 32-bit lane. */
const UPPER = i32x4.splat(i32.const(-65_536))

/** Vectors of eight columns per iteration of the inner loop, by number of vectors. */
const STEPS_AT_ONCE = { 1: 2, 2: 1, 4: 1 } as const

/**
 * y = W x, or y += W x if `accumulate` is not 0, for `rows` rows of `width` columns, a multiple of 8. x holds, for every
 * eight columns, the four even and the four odd values of each vector in turn. The results of consecutive vectors start
 * `stride` bytes apart.
 */
export function bf16Product(count: keyof typeof STEPS_AT_ONCE): WasmFunction {
  const f = new FunctionBuilder(`bf16Product${count}`)
  const x = f.param('i32')
  const w = f.param('i32')
  const y = f.param('i32')
  const rows = f.param('i32')
  const width = f.param('i32')
  const accumulate = f.param('i32')
  const stride = f.param('i32')
  const [end, rowEnd, at, into] = [f.local('i32'), f.local('i32'), f.local('i32'), f.local('i32')]
  const [weights, even, odd] = [f.local('v128'), f.local('v128'), f.local('v128')]
  const upper = f.local('v128')
  const steps = STEPS_AT_ONCE[count]
  const vectors = Array.from({ length: count }, (_, v) => v)
  /** By step, then by vector. A single vector has two sums per step, so that additions wait less for each other. */
  const sums = Array.from({ length: steps }, () =>
    vectors.map(() => (count === 4 ? [f.local('v128')] : [f.local('v128'), f.local('v128')])),
  )
  const xBytes = 32 * count
  const advance = (length: number): Code[] => [
    ...sums.slice(0, length).flatMap((stepSums, step) => [
      weights.set(v128.load(16 * step, w.get)),
      even.set(i32x4.shl(weights.get, SIXTEEN)),
      odd.set(v128.and(weights.get, upper.get)),
      ...stepSums.flatMap((pair, v) => {
        const [first, last] = [pair[0] as Local, pair.at(-1) as Local]
        const offset = xBytes * step + 32 * v
        return [
          first.set(multiplyAdd(even.get, v128.load(offset, at.get), first.get)),
          last.set(multiplyAdd(odd.get, v128.load(offset + 16, at.get), last.get)),
        ]
      }),
    ]),
    at.set(i32.add(at.get, i32.const(xBytes * length))),
    w.set(i32.add(w.get, i32.const(16 * length))),
  ]
  /** All sums of one vector, added up in its first. */
  const total = (v: number): Code[] => {
    const [first, ...others] = sums.flatMap((stepSums) => stepSums[v] as Local[]) as [Local, ...Local[]]
    return others.map((sum) => first.set(f32x4.add(first.get, sum.get)))
  }
  return f.finish(
    loadConstant(upper, -65_536, y.get, at),
    end.set(i32.add(y.get, i32.shl(rows.get, i32.const(2)))),
    width.set(i32.shl(width.get, i32.const(1))),
    whileLoop(
      i32.ltU(y.get, end.get),
      at.set(x.get),
      rowEnd.set(i32.add(w.get, width.get)),
      ...sums.flat(2).map((sum) => sum.set(ZERO)),
      whileLoop(i32.ltU(i32.add(w.get, i32.const(16 * steps - 1)), rowEnd.get), ...advance(steps)),
      ...(steps === 1 ? [] : [whileLoop(i32.ltU(w.get, rowEnd.get), ...advance(1))]),
      into.set(y.get),
      ...vectors.flatMap((v) => {
        const first = sums[0]?.[v]?.[0] as Local
        return [
          ...total(v),
          whenTrue(accumulate.get, first.set(f32x4.add(first.get, v128.loadZero32(0, into.get)))),
          f32.store(0, into.get, laneSum(first.get)),
          into.set(i32.add(into.get, stride.get)),
        ]
      }),
      y.set(i32.add(y.get, i32.const(4))),
    ),
  )
}

/** Copies `width` floats, a multiple of 8, to groups of four even and four odd values that start `step` bytes apart. */
export function splitPairs(): WasmFunction {
  const f = new FunctionBuilder('splitPairs')
  const [from, to, step, width] = [f.param('i32'), f.param('i32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  const [low, high] = [f.local('v128'), f.local('v128')]
  return f.finish(
    end.set(i32.add(from.get, i32.shl(width.get, i32.const(2)))),
    whileLoop(
      i32.ltU(from.get, end.get),
      low.set(v128.load(0, from.get)),
      high.set(v128.load(16, from.get)),
      v128.store(0, to.get, shuffle32([0, 2, 4, 6], low.get, high.get)),
      v128.store(16, to.get, shuffle32([1, 3, 5, 7], low.get, high.get)),
      from.set(i32.add(from.get, i32.const(32))),
      to.set(i32.add(to.get, step.get)),
    ),
  )
}

/** Converts `count` contiguous bf16 numbers, a multiple of 8, to floats. */
export function expandBf16(): WasmFunction {
  const f = new FunctionBuilder('expandBf16')
  const [from, to, count] = [f.param('i32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  const [eight, even, odd] = [f.local('v128'), f.local('v128'), f.local('v128')]
  return f.finish(
    end.set(i32.add(from.get, i32.shl(count.get, i32.const(1)))),
    whileLoop(
      i32.ltU(from.get, end.get),
      eight.set(v128.load(0, from.get)),
      even.set(i32x4.shl(eight.get, SIXTEEN)),
      odd.set(v128.and(eight.get, UPPER)),
      v128.store(0, to.get, shuffle32([0, 4, 1, 5], even.get, odd.get)),
      v128.store(16, to.get, shuffle32([2, 6, 3, 7], even.get, odd.get)),
      from.set(i32.add(from.get, SIXTEEN)),
      to.set(i32.add(to.get, i32.const(32))),
    ),
  )
}

/**
 * Rounds floats to the nearest bf16, ties to even, and leaves each in the upper half of its lane. Not for NaN.
 * `value` is encoded twice, so pass the `get` of a local.
 */
export function roundToBf16(value: Code): Code {
  const isOdd = v128.and(i32x4.shiftRightU(value, SIXTEEN), i32x4.splat(i32.const(1)))
  const rounded = i32x4.add(value, i32x4.add(isOdd, i32x4.splat(i32.const(0x7fff))))
  return v128.and(rounded, UPPER)
}

/** Rounds `count` contiguous floats, a multiple of 8, to bf16 numbers. */
export function encodeBf16(): WasmFunction {
  const f = new FunctionBuilder('encodeBf16')
  const [from, to, count] = [f.param('i32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  const [low, high, value] = [f.local('v128'), f.local('v128'), f.local('v128')]
  return f.finish(
    end.set(i32.add(from.get, i32.shl(count.get, i32.const(2)))),
    whileLoop(
      i32.ltU(from.get, end.get),
      low.set(v128.load(0, from.get)),
      high.set(v128.load(16, from.get)),
      value.set(shuffle32([0, 2, 4, 6], low.get, high.get)),
      high.set(shuffle32([1, 3, 5, 7], low.get, high.get)),
      v128.store(
        0,
        to.get,
        v128.or(i32x4.shiftRightU(roundToBf16(value.get), SIXTEEN), roundToBf16(high.get)),
      ),
      from.set(i32.add(from.get, i32.const(32))),
      to.set(i32.add(to.get, SIXTEEN)),
    ),
  )
}
