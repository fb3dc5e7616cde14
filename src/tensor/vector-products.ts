/**
 * The products of vector-kernels.ts: rows of floats or codes with one vector or four. ONNX Runtime reads four rows
 * of a matrix at a time, which suits its caches and not the memory: read row after row the same matrix arrives
 * half as fast again. Knows no threads and no model.
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

/** An encoded vector begins with its scale; values follow at this distance. */
export const VECTOR_HEAD_BYTES = 16
const CODE_BLOCK = QUANTIZED_BLOCK

/** Four vectors fill the registers; with five the same work takes twice as long. */
export const VECTORS_AT_ONCE = 4

/** Sums of one row, so that no addition waits for the one before. */
const ROW_SUMS = 4

export function productOfOne(): WasmFunction {
  const f = new FunctionBuilder('product1')
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

/** Two rows at a time, so that four vectors are loaded once for both: here arithmetic is the limit, not memory. */
export function productOfFour(): WasmFunction {
  const f = new FunctionBuilder('product4')
  const x = f.param('i32')
  const w = f.param('i32')
  const y = f.param('i32')
  const rows = f.param('i32')
  const width = f.param('i32')
  const vectors = Array.from({ length: VECTORS_AT_ONCE }, (_, v) => v)
  const sums = vectors.map(() => [f.local('v128'), f.local('v128')] as const)
  const weight = f.local('v128')
  const below = f.local('v128')
  const value = f.local('v128')
  const at = f.local('i32')
  const second = f.local('i32')
  const rowEnd = f.local('i32')
  const end = f.local('i32')
  const groupBytes = 16 * VECTORS_AT_ONCE
  return f.finish(
    width.set(i32.shl(width.get, i32.const(2))),
    end.set(i32.add(w.get, i32.mul(rows.get, width.get))),
    whileLoop(
      i32.ltU(w.get, end.get),
      at.set(x.get),
      rowEnd.set(i32.add(w.get, width.get)),
      // A last row without a neighbour is its own.
      second.set(rowEnd.get),
      whenTrue(i32.eqz(i32.ltU(second.get, end.get)), second.set(w.get)),
      ...sums.flatMap(([sum, other]) => [sum.set(ZERO), other.set(ZERO)]),
      whileLoop(
        i32.ltU(w.get, rowEnd.get),
        weight.set(v128.load(0, w.get)),
        below.set(v128.load(0, second.get)),
        ...sums.flatMap(([sum, other], v) => [
          value.set(v128.load(16 * v, at.get)),
          sum.set(multiplyAdd(weight.get, value.get, sum.get)),
          other.set(multiplyAdd(below.get, value.get, other.get)),
        ]),
        at.set(i32.add(at.get, i32.const(groupBytes))),
        w.set(i32.add(w.get, i32.const(16))),
        second.set(i32.add(second.get, i32.const(16))),
      ),
      ...sums.map(([sum], v) => f32.store(16 * v, y.get, laneSum(sum.get))),
      y.set(i32.add(y.get, i32.const(4))),
      whenTrue(
        i32.sub(second.get, w.get),
        ...sums.map(([, other], v) => f32.store(16 * v, y.get, laneSum(other.get))),
        y.set(i32.add(y.get, i32.const(4))),
        w.set(second.get),
      ),
      // Behind the fourth lane, the next group of four.
      whenTrue(i32.eqz(i32.and(y.get, i32.const(15))), y.set(i32.add(y.get, i32.const(groupBytes - 16)))),
    ),
  )
}

/** Of codes: counting costs as much as multiplying. */
const BLOCKS_AT_ONCE = 2

/** Products in whole numbers block by block, then times the scales. Codes are signed where they have 8 bits. */
export function productOfCodes(name: string, bits: 8 | 4): WasmFunction {
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
  const codes = f.local('v128')
  const block = f.local('v128')
  const sum = f.local('v128')
  const blockBytes = (CODE_BLOCK * bits) / 8
  const nibbles = i8x16.splat(i32.const(15))
  const eight = i8x16.splat(i32.const(8))
  /** The four pieces of eight codes of a block as 16-bit numbers, and what must be done before each. */
  const pieces = (index: number): readonly (readonly [Code, Code])[] => {
    const from = blockBytes * index
    if (bits === 8) return [0, 8, 16, 24].map((at) => [[], i16x8.loadExtended(from + at, w.get)])
    const even = codes.set(i8x16.sub(v128.and(v128.load(from, w.get), nibbles), eight))
    const odd = codes.set(i8x16.sub(i8x16.shiftRightU(v128.load(from, w.get), i32.const(4)), eight))
    const [low, high] = [i16x8.extendLow(codes.get), i16x8.extendHigh(codes.get)]
    return [
      [even, low],
      [[], high],
      [odd, low],
      [[], high],
    ]
  }
  const advance = (blocks: number): Code[] => [
    ...Array.from({ length: blocks }, (_, index) => [
      ...pieces(index).flatMap(([before, eightCodes], i) => {
        const product = i32x4.dot(eightCodes, v128.load(2 * CODE_BLOCK * index + 16 * i, at.get))
        return [before, block.set(i === 0 ? product : i32x4.add(block.get, product))]
      }),
      sum.set(multiplyAdd(f32x4.convert(block.get), v128.loadSplat32(4 * index, scales.get), sum.get)),
    ]).flat(),
    w.set(i32.add(w.get, i32.const(blockBytes * blocks))),
    scales.set(i32.add(scales.get, i32.const(4 * blocks))),
    at.set(i32.add(at.get, i32.const(2 * CODE_BLOCK * blocks))),
  ]
  return f.finish(
    // Bytes of a row of codes.
    ...(bits === 8 ? [] : [width.set(i32.shiftRightU(width.get, i32.const(1)))]),
    end.set(i32.add(y.get, i32.shl(rows.get, i32.const(2)))),
    whileLoop(
      i32.ltU(y.get, end.get),
      sum.set(ZERO),
      at.set(i32.add(x.get, i32.const(VECTOR_HEAD_BYTES))),
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
