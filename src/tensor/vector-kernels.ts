/**
 * The kernels of decoding in WebAssembly SIMD: products of a few rows with a matrix, gated activation,
 * softmax and mix of one head's attention. ONNX Runtime reads four rows of a matrix at a time, which suits its caches and
 * not the memory: read row after row the same matrix arrives half as fast again. Addresses are bytes in
 * the memory of the instance, counts are floats and multiples of four. Knows no threads and no model.
 */
import { QUANTIZED_BLOCK } from './quantized.ts'
import {
  type Code,
  encodeModule,
  FunctionBuilder,
  f32,
  f32x4,
  i8x16,
  i16x8,
  i32,
  i32x4,
  type Local,
  v128,
  type WasmFunction,
  whenTrue,
  whileLoop,
} from './wasm-encode.ts'

/** What an instance of the module offers. */
export interface VectorKernels {
  /** y[row] = W[row] . x for `rows` rows of W (rows, width). */
  product1(x: number, w: number, y: number, rows: number, width: number): void
  /**
   * The same for four vectors at once, `rows` a multiple of four but in the last call for a matrix. The
   * vectors lie interleaved, x and y alike: four values of the first, of the second, third and fourth, then
   * the next four of each.
   */
  product4(x: number, w: number, y: number, rows: number, width: number): void
  /**
   * y[row] = W[row] . x for codes of 8 or 4 bits in blocks of 32, a float scale for each in `scales`. x is an
   * `encodeVector` of the same bits.
   */
  product8bit(x: number, w: number, scales: number, y: number, rows: number, width: number): void
  product4bit(x: number, w: number, scales: number, y: number, rows: number, width: number): void
  /** gate = silu(gate) * up. */
  gated(gate: number, up: number, count: number): void
  /**
   * out = softmax(scores * scale) V for V (length, width). The scores are overwritten, and so are up to three
   * floats behind them.
   */
  mix(scores: number, values: number, out: number, length: number, width: number, scale: number): void
}

/** Of WebAssembly with 32-bit addresses. */
export const MAX_PAGES = 65_536
export const PAGE_BYTES = 65_536

const ZERO = f32x4.splat(f32.const(0))

/** An encoded vector begins with its scale; values follow at this distance. */
export const VECTOR_HEAD_BYTES = 16
const CODE_BLOCK = QUANTIZED_BLOCK

/** Four vectors fill the registers; with five the same work takes twice as long. */
export const VECTORS_AT_ONCE = 4

export function vectorModule(): Uint8Array<ArrayBuffer> {
  return encodeModule(
    [productOfOne(), productOfFour(), coded('product8bit', 8), coded('product4bit', 4), gated(), mix()],
    MAX_PAGES,
  )
}

/** a * b + c, rounded twice. */
function multiplyAdd(a: Code, b: Code, c: Code): Code {
  return f32x4.add(f32x4.mul(a, b), c)
}

/** Sums of one row, so that no addition waits for the one before. */
const ROW_SUMS = 4

function productOfOne(): WasmFunction {
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
function productOfFour(): WasmFunction {
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
function coded(name: string, bits: 8 | 4): WasmFunction {
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

function gated(): WasmFunction {
  const f = new FunctionBuilder('gated')
  const gate = f.param('i32')
  const up = f.param('i32')
  const count = f.param('i32')
  const end = f.local('i32')
  const x = f.local('v128')
  const exp = exponential(f)
  return f.finish(
    end.set(i32.add(gate.get, i32.shl(count.get, i32.const(2)))),
    whileLoop(
      i32.ltU(gate.get, end.get),
      x.set(v128.load(0, gate.get)),
      exp.of(f32x4.sub(ZERO, x.get)),
      v128.store(
        0,
        gate.get,
        f32x4.mul(f32x4.div(x.get, f32x4.add(f32x4.splat(f32.const(1)), exp.result)), v128.load(0, up.get)),
      ),
      gate.set(i32.add(gate.get, i32.const(16))),
      up.set(i32.add(up.get, i32.const(16))),
    ),
  )
}

function mix(): WasmFunction {
  const f = new FunctionBuilder('mix')
  const scores = f.param('i32')
  const values = f.param('i32')
  const out = f.param('i32')
  const length = f.param('i32')
  const width = f.param('i32')
  const scale = f.param('f32')
  const bytes = f.local('i32')
  const at = f.local('i32')
  const end = f.local('i32')
  const value = f.local('i32')
  const outEnd = f.local('i32')
  const peak = f.local('v128')
  const highest = f.local('f32')
  const total = f.local('v128')
  const weight = f.local('v128')
  const sums = Array.from({ length: 4 }, () => f.local('v128'))
  const exp = exponential(f)
  const minusInfinity = f32.const(Number.NEGATIVE_INFINITY)
  const four = i32.const(4)
  const sixteen = i32.const(16)

  /** `groups` times four channels over all positions. */
  const channels = (groups: number): Code[] => [
    ...sums.slice(0, groups).map((sum) => sum.set(ZERO)),
    at.set(scores.get),
    value.set(values.get),
    whileLoop(
      i32.ltU(at.get, end.get),
      weight.set(f32x4.splat(f32.load(0, at.get))),
      ...sums
        .slice(0, groups)
        .map((sum, g) => sum.set(multiplyAdd(weight.get, v128.load(16 * g, value.get), sum.get))),
      value.set(i32.add(value.get, bytes.get)),
      at.set(i32.add(at.get, four)),
    ),
    ...sums.slice(0, groups).map((sum, g) => v128.store(16 * g, out.get, f32x4.div(sum.get, total.get))),
    out.set(i32.add(out.get, i32.const(16 * groups))),
    values.set(i32.add(values.get, i32.const(16 * groups))),
  ]
  return f.finish(
    bytes.set(i32.shl(width.get, i32.const(2))),
    end.set(i32.add(scores.get, i32.shl(length.get, i32.const(2)))),
    at.set(scores.get),
    highest.set(minusInfinity),
    whileLoop(
      i32.ltU(at.get, end.get),
      f32.store(0, at.get, f32.mul(f32.load(0, at.get), scale.get)),
      highest.set(f32.max(highest.get, f32.load(0, at.get))),
      at.set(i32.add(at.get, four)),
    ),
    // Up to a multiple of four scores that weigh nothing.
    whileLoop(
      i32.and(i32.sub(at.get, scores.get), i32.const(15)),
      f32.store(0, at.get, minusInfinity),
      at.set(i32.add(at.get, four)),
    ),
    at.set(scores.get),
    total.set(ZERO),
    peak.set(f32x4.splat(highest.get)),
    whileLoop(
      i32.ltU(at.get, end.get),
      exp.of(f32x4.sub(v128.load(0, at.get), peak.get)),
      v128.store(0, at.get, exp.result),
      total.set(f32x4.add(total.get, exp.result)),
      at.set(i32.add(at.get, sixteen)),
    ),
    total.set(f32x4.splat(laneSum(total.get))),
    outEnd.set(i32.add(out.get, bytes.get)),
    whileLoop(i32.ltU(i32.add(out.get, i32.const(63)), outEnd.get), ...channels(4)),
    whileLoop(i32.ltU(out.get, outEnd.get), ...channels(1)),
  )
}

function laneSum(value: Code): Code {
  // The value is a local, so naming it four times computes nothing again.
  const lane = (index: number): Code => f32x4.lane(index, value)
  return f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3)))
}

/** Least and greatest argument whose exponential is a normal float. */
const MIN_EXPONENT = -87.3
const MAX_EXPONENT = 88.3
/** ln 2 in two parts, the first of so few bits that its multiples are exact (Cody and Waite, 1980). */
const LN2_HIGH = 0.693359375
const LN2_LOW = -2.1219444e-4
/** (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2 as a polynomial, highest power first: Taylor to r^7. */
const EXP_TERMS = [1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2]

/** Four exponentials at once: 2^n exp(r) with n the nearest whole number of x / ln 2. */
function exponential(f: FunctionBuilder): { of(x: Code): Code; readonly result: Code } {
  const x = f.local('v128')
  const n = f.local('v128')
  const r = f.local('v128')
  const p = f.local('v128')
  const constant = (value: number): Code => f32x4.splat(f32.const(value))
  return {
    of: (argument) =>
      [
        x.set(f32x4.min(f32x4.max(argument, constant(MIN_EXPONENT)), constant(MAX_EXPONENT))),
        n.set(f32x4.nearest(f32x4.mul(x.get, constant(Math.LOG2E)))),
        r.set(multiplyAdd(n.get, constant(-LN2_HIGH), x.get)),
        r.set(multiplyAdd(n.get, constant(-LN2_LOW), r.get)),
        p.set(constant(EXP_TERMS[0] as number)),
        ...EXP_TERMS.slice(1).map((term) => p.set(multiplyAdd(p.get, r.get, constant(term)))),
        p.set(multiplyAdd(f32x4.mul(r.get, r.get), p.get, f32x4.add(r.get, constant(1)))),
        // 2^n by its exponent bits.
        p.set(
          f32x4.mul(
            p.get,
            i32x4.shl(i32x4.add(i32x4.truncate(n.get), i32x4.splat(i32.const(127))), i32.const(23)),
          ),
        ),
      ].flat(),
    result: p.get,
  }
}
