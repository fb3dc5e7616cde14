/**
 * The products of vector-kernels.ts: a float or quantized matrix times one, two or four vectors. ONNX Runtime reads
 * four rows of a matrix at a time, which suits the caches but not the memory: read as one sequential stream, the same
 * matrix arrives 1.5 times as fast. Does not know threads or models.
 */
import { QUANTIZED_BLOCK } from './quantized.ts'
import {
  type Code,
  FunctionBuilder,
  f32,
  f32x4,
  i8x16,
  i16x8,
  i32,
  i32x4,
  type Local,
  laneSum,
  multiplyAdd,
  v128,
  type WasmFunction,
  whenTrue,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

/** A quantized vector begins with its scale; its values start at this byte offset. */
export const VECTOR_HEADER_BYTES = 16

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
 * Product of paired rows (`pairRows`) with one, two or four vectors. Two rows share each load of the vectors. They are
 * stored in one stream of addresses, because two streams a page apart arrive at a quarter of the speed.
 */
export function pairedProduct(count: keyof typeof STEPS_AT_ONCE): WasmFunction {
  const f = new FunctionBuilder(`product${count}`)
  const x = f.param('i32')
  const w = f.param('i32')
  const y = f.param('i32')
  const rows = f.param('i32')
  const width = f.param('i32')
  const accumulate = f.param('i32')
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
        ...total.flatMap(([above, below], v) => [
          above.set(v128.loadZero32(16 * v, y.get)),
          below.set(v128.loadZero32(16 * v + 4, y.get)),
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
      ...total.flatMap(([above, below], v) => [
        f32.store(16 * v, y.get, laneSum(above.get)),
        f32.store(16 * v + 4, y.get, laneSum(below.get)),
      ]),
      y.set(i32.add(y.get, i32.const(8))),
      // After the fourth row, skip to this vector's next group of four.
      whenTrue(i32.eqz(i32.and(y.get, i32.const(15))), y.set(i32.add(y.get, i32.const(groupBytes - 16)))),
    ),
  )
}

/** Quantization blocks per loop iteration: the loop counter costs as much as the multiplication. */
const BLOCKS_AT_ONCE = 2

/**
 * Product with a quantized matrix: integer dot products block by block, each times its scale. 8-bit integers are
 * signed.
 */
export function quantizedProduct(name: string, bits: 8 | 4): WasmFunction {
  const f = new FunctionBuilder(name)
  const x = f.param('i32')
  const w = f.param('i32')
  const scales = f.param('i32')
  const y = f.param('i32')
  const rows = f.param('i32')
  const width = f.param('i32')
  const end = f.local('i32')
  const rowEnd = f.local('i32')
  const at = f.local('i32')
  const integers = f.local('v128')
  const block = f.local('v128')
  const sum = f.local('v128')
  const blockBytes = (QUANTIZED_BLOCK * bits) / 8
  const nibbles = i8x16.splat(i32.const(15))
  const eight = i8x16.splat(i32.const(8))
  /** For each quarter of a block: code to run first, and code that gives its eight integers as 16-bit lanes. */
  const pieces = (index: number): readonly (readonly [Code, Code])[] => {
    const from = blockBytes * index
    if (bits === 8) return [0, 8, 16, 24].map((at) => [[], i16x8.loadExtended(from + at, w.get)])
    const even = integers.set(i8x16.sub(v128.and(v128.load(from, w.get), nibbles), eight))
    const odd = integers.set(i8x16.sub(i8x16.shiftRightU(v128.load(from, w.get), i32.const(4)), eight))
    const [low, high] = [i16x8.extendLow(integers.get), i16x8.extendHigh(integers.get)]
    return [
      [even, low],
      [[], high],
      [odd, low],
      [[], high],
    ]
  }
  const advance = (blocks: number): Code[] => [
    ...Array.from({ length: blocks }, (_, index) => [
      ...pieces(index).flatMap(([before, eightIntegers], i) => {
        const product = i32x4.dot(eightIntegers, v128.load(2 * QUANTIZED_BLOCK * index + 16 * i, at.get))
        return [before, block.set(i === 0 ? product : i32x4.add(block.get, product))]
      }),
      sum.set(multiplyAdd(f32x4.convert(block.get), v128.loadSplat32(4 * index, scales.get), sum.get)),
    ]).flat(),
    w.set(i32.add(w.get, i32.const(blockBytes * blocks))),
    scales.set(i32.add(scales.get, i32.const(4 * blocks))),
    at.set(i32.add(at.get, i32.const(2 * QUANTIZED_BLOCK * blocks))),
  ]
  return f.finish(
    // `width` becomes the bytes of a row.
    ...(bits === 8 ? [] : [width.set(i32.shiftRightU(width.get, i32.const(1)))]),
    end.set(i32.add(y.get, i32.shl(rows.get, i32.const(2)))),
    whileLoop(
      i32.ltU(y.get, end.get),
      sum.set(ZERO),
      at.set(i32.add(x.get, i32.const(VECTOR_HEADER_BYTES))),
      rowEnd.set(i32.add(w.get, width.get)),
      whileLoop(
        i32.ltU(i32.add(w.get, i32.const(blockBytes * BLOCKS_AT_ONCE - 1)), rowEnd.get),
        ...advance(BLOCKS_AT_ONCE),
      ),
      whileLoop(i32.ltU(w.get, rowEnd.get), ...advance(1)),
      f32.store(0, y.get, f32.mul(laneSum(sum.get), f32.load(0, x.get))),
      y.set(i32.add(y.get, i32.const(4))),
    ),
  )
}
