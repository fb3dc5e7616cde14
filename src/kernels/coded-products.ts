/**
 * Products of a coded matrix (int8 or int4) with one or two quantized vectors, and the kernel that quantizes a vector.
 * Does not know threads or models.
 *
 * A coded matrix consists of groups of 16 rows. A group is a sequence of records, one for every 32 columns: first 16
 * (int4) or 32 (int8) vectors of codes, then 16 bf16 scales. A vector of codes has eight 16-bit lanes: the even lanes
 * belong to one column and the odd lanes to the next, the first pair of lanes to row 0 of each quad of rows, and so on.
 * A lane holds the codes of two quads (int8: rows 0-3 low, 4-7 high, then rows 8-15 in the next vector) or of all four
 * (int4: rows 0-3 in the lowest bits). So a dot product of 16-bit lanes with two activations adds to four rows at once,
 * and their scales are one vector.
 *
 * The topmost code of a lane is signed, the others have an offset of 8 or 128. The dot product of whole lanes is the sum
 * of the rows' dot products, each times its power of two, so the topmost row needs no mask: it is what remains after
 * the others are subtracted. This is exact modulo 2^32, since for 12-bit activations the topmost dot product of 32
 * columns is below 2^19 (int4, times 2^12) or 2^23 (int8, times 2^8). Stored scales are divided by the powers of two,
 * and sums start at minus the offset times the sum of the activations.
 */
import { BLOCK_COLUMNS, type CodedFormat, GROUP_ROWS, recordBytes, SCALE_BYTES } from './matrix-format.ts'
import {
  type Code,
  FunctionBuilder,
  f32,
  f32x4,
  i16x8,
  i32,
  i32x4,
  type Local,
  loadConstant,
  multiplyAdd,
  v128,
  type WasmFunction,
  whenTrue,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

/**
 * Bytes of 32 quantized activations: 16-bit integers, then a float scale at `SCALE`, then at `STARTS` four 32-bit start
 * values of sums: minus the sum of the integers times 8, 128, 2048, and their total.
 */
export const ACTIVATION_BYTES = 96
const SCALE = 2 * BLOCK_COLUMNS
const STARTS = SCALE + 16
/** Largest magnitude of a quantized activation. */
export const ACTIVATION_PEAK = 2047

const PAIRS = BLOCK_COLUMNS / 2
/** Quads of rows in a group. */
const QUADS = GROUP_ROWS / 4

/** How the lanes of one format are read. */
const LANES = {
  int8: {
    /** Vectors of codes for one pair of columns. */
    vectors: 2,
    /** Masks of the codes in a lane, lowest first, without the topmost. */
    masks: [0x00ff_00ff],
    /** Index of the start value of each masked sum, then of the sum of whole lanes. */
    starts: [1, 1],
  },
  int4: { vectors: 1, masks: [0x000f_000f, 0x00f0_00f0, 0x0f00_0f00], starts: [0, 1, 2, 3] },
} as const

/**
 * y = W x, or y += W x if `accumulate` is not 0, for `groups` groups of 16 rows and `blocks` records of 32 columns. For
 * two vectors, the blocks of x alternate between them and the second result starts `stride` bytes after the first.
 */
export function codedProduct(format: CodedFormat, count: 1 | 2): WasmFunction {
  const f = new FunctionBuilder(`${format}Product${count}`)
  const x = f.param('i32')
  const w = f.param('i32')
  const y = f.param('i32')
  const groups = f.param('i32')
  const blocks = f.param('i32')
  const accumulate = f.param('i32')
  const stride = f.param('i32')
  const { vectors, masks, starts } = LANES[format]
  const end = f.local('i32')
  const groupEnd = f.local('i32')
  const recordEnd = f.local('i32')
  const at = f.local('i32')
  const activations = Array.from({ length: count }, () => f.local('v128'))
  const maskLocals = masks.map(() => f.local('v128'))
  const lanes = f.local('v128')
  const codes = f.local('v128')
  const scale = f.local('v128')
  /** By vector of x, then by quad of rows. */
  const sums = activations.map(() => Array.from({ length: QUADS }, () => f.local('v128')))
  const quadsOfLane = masks.length + 1
  const address = (n: number): Code => (n === 0 ? y.get : i32.add(y.get, stride.get))
  const addDot = (quad: number, weights: Code): Code[] =>
    sums.map((quads, n) => {
      const sum = quads[quad] as Local
      return sum.set(i32x4.add(sum.get, i32x4.dot(weights, (activations[n] as Local).get)))
    })

  /** One iteration of the inner loop; several at once would not fit into the registers. */
  const pairOfColumns: Code[] = [
    ...activations.map((two, n) => two.set(v128.loadSplat32(ACTIVATION_BYTES * n, at.get))),
    ...Array.from({ length: vectors }, (_, vector) => [
      lanes.set(v128.load(16 * vector, w.get)),
      ...maskLocals.flatMap((mask, m) => [
        codes.set(v128.and(lanes.get, mask.get)),
        ...addDot(vector * quadsOfLane + m, codes.get),
      ]),
      ...addDot(vector * quadsOfLane + masks.length, lanes.get),
    ]).flat(),
  ]
  /** Leaves the dot product of the topmost row of each lane in its sum. */
  const subtractMasked = sums.flatMap((quads) =>
    Array.from({ length: vectors }, (_, vector) => {
      const top = quads[vector * quadsOfLane + masks.length] as Local
      return masks.map((_, m) => top.set(i32x4.sub(top.get, (quads[vector * quadsOfLane + m] as Local).get)))
    }).flat(),
  )
  /** y += sums times the scales of rows and activations. Totals in memory leave the registers to the sums. */
  const addScaled = [0, 1].flatMap((half) => [
    lanes.set(v128.load(16 * half, w.get)),
    ...[0, 1].flatMap((upper) => {
      const quad = 2 * half + upper
      const bits = upper === 0 ? lanes.get : i32x4.shiftRightU(lanes.get, i32.const(16))
      return [
        scale.set(i32x4.shl(bits, i32.const(16))),
        ...sums.map((quads, n) => {
          const product = f32x4.mul(f32x4.convert((quads[quad] as Local).get), scale.get)
          const factor = v128.loadSplat32(ACTIVATION_BYTES * n, at.get)
          const total = multiplyAdd(product, factor, v128.load(16 * quad, address(n)))
          return v128.store(16 * quad, address(n), total)
        }),
      ]
    }),
  ])
  return f.finish(
    ...maskLocals.map((mask, m) => loadConstant(mask, masks[m] as number, y.get, at)),
    end.set(i32.add(y.get, i32.mul(groups.get, i32.const(4 * GROUP_ROWS)))),
    blocks.set(i32.mul(blocks.get, i32.const(recordBytes(format)))),
    whileLoop(
      i32.ltU(y.get, end.get),
      at.set(x.get),
      groupEnd.set(i32.add(w.get, blocks.get)),
      whenTrue(
        i32.eqz(accumulate.get),
        ...sums.flatMap((quads, n) => quads.map((_, quad) => v128.store(16 * quad, address(n), ZERO))),
      ),
      whileLoop(
        i32.ltU(w.get, groupEnd.get),
        ...sums.flatMap((quads, n) =>
          quads.map((sum, quad) => {
            const start = STARTS + 4 * (starts[quad % quadsOfLane] as number)
            return sum.set(v128.loadSplat32(ACTIVATION_BYTES * n + start, at.get))
          }),
        ),
        recordEnd.set(i32.add(w.get, i32.const(recordBytes(format) - SCALE_BYTES))),
        whileLoop(
          i32.ltU(w.get, recordEnd.get),
          ...pairOfColumns,
          w.set(i32.add(w.get, i32.const(16 * vectors))),
          at.set(i32.add(at.get, i32.const(4))),
        ),
        ...subtractMasked,
        ...addScaled,
        w.set(i32.add(w.get, i32.const(SCALE_BYTES))),
        at.set(i32.add(at.get, i32.const(ACTIVATION_BYTES * count - 4 * PAIRS))),
      ),
      y.set(i32.add(y.get, i32.const(4 * GROUP_ROWS))),
    ),
  )
}

/**
 * Quantizes `width` contiguous floats into blocks of 32 that start `step` bytes apart: integers of at most
 * `ACTIVATION_PEAK` in magnitude, rounded to the nearest, with the scale of their block.
 */
export function quantizeVector(): WasmFunction {
  const f = new FunctionBuilder('quantizeVector')
  const [from, to, step, width] = [f.param('i32'), f.param('i32'), f.param('i32'), f.param('i32')]
  const end = f.local('i32')
  const peak = f.local('v128')
  const value = f.local('v128')
  const factor = f.local('v128')
  const low = f.local('v128')
  const high = f.local('v128')
  const total = f.local('v128')
  const largest = f.local('f32')
  const sum = f.local('i32')
  const quarters = Array.from({ length: BLOCK_COLUMNS / 4 }, (_, index) => index)
  const integers = (index: number): Code =>
    i32x4.truncate(f32x4.nearest(f32x4.mul(v128.load(16 * index, from.get), factor.get)))
  const lane = (index: number): Code => f32x4.lane(index, peak.get)
  return f.finish(
    end.set(i32.add(from.get, i32.shl(width.get, i32.const(2)))),
    whileLoop(
      i32.ltU(from.get, end.get),
      peak.set(ZERO),
      ...quarters.flatMap((index) => [
        value.set(v128.load(16 * index, from.get)),
        peak.set(f32x4.max(peak.get, f32x4.max(value.get, f32x4.sub(ZERO, value.get)))),
      ]),
      largest.set(f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3)))),
      f32.store(SCALE, to.get, f32.mul(largest.get, f32.const(1 / ACTIVATION_PEAK))),
      // A block of zeros gets integers of 0: 0 times infinity is NaN, which truncates to 0.
      factor.set(f32x4.splat(f32.div(f32.const(ACTIVATION_PEAK), largest.get))),
      total.set(ZERO),
      ...quarters
        .filter((index) => index % 2 === 0)
        .flatMap((index) => [
          low.set(integers(index)),
          high.set(integers(index + 1)),
          total.set(i32x4.add(total.get, i32x4.add(low.get, high.get))),
          v128.store(8 * index, to.get, i16x8.narrow(low.get, high.get)),
        ]),
      sum.set(
        i32.add(
          i32.add(i32x4.lane(0, total.get), i32x4.lane(1, total.get)),
          i32.add(i32x4.lane(2, total.get), i32x4.lane(3, total.get)),
        ),
      ),
      ...[8, 128, 2048, 8 + 128 + 2048].map((offset, index) =>
        i32.store(STARTS + 4 * index, to.get, i32.mul(sum.get, i32.const(-offset))),
      ),
      from.set(i32.add(from.get, i32.const(4 * BLOCK_COLUMNS))),
      to.set(i32.add(to.get, step.get)),
    ),
  )
}
