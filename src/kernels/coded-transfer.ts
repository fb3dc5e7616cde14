/**
 * Kernels that convert one group of 16 rows between floats and the coded formats int8 and int4 (coded-products.ts).
 * `encode` gives the same bits as `quantize`. Does not know threads or models.
 */
import { roundToBf16 } from './bf16-kernels.ts'
import { BLOCK_COLUMNS, type CodedFormat, GROUP_ROWS, recordBytes, SCALE_BYTES } from './matrix-format.ts'
import { SCALE_CANDIDATES, SMALLEST_SCALE } from './quantized.ts'
import {
  type Code,
  FunctionBuilder,
  f32,
  f32x4,
  i16x8,
  i32,
  i32x4,
  type Local,
  laneSum,
  shuffle32,
  v128,
  type WasmFunction,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

const QUADS = GROUP_ROWS / 4
/** Bytes of the codes of eight columns. */
const STEP_BYTES = { int8: 128, int4: 64 } as const
const BITS = { int8: 8, int4: 4 } as const
/** Bytes of the 16-bit codes of one row of a block. */
const CODE_ROW_BYTES = 2 * BLOCK_COLUMNS

/** Offset of a row's scale from the start of the scales of a record. */
function scaleOffset(row: number): number {
  return 2 * (8 * (row >> 3) + 2 * (row & 3) + ((row >> 2) & 1))
}

/** Position of a quad's codes in the lanes: vector within a pair of columns, and first bit. */
function placeOf(format: CodedFormat, quad: number): { vector: number; shift: number } {
  return format === 'int8' ? { vector: quad >> 1, shift: 8 * (quad & 1) } : { vector: 0, shift: 4 * quad }
}

/** Four vectors of 32-bit lanes, transposed. */
function transpose(rows: readonly Local[], scratch: readonly Local[]): Code[] {
  const [r0, r1, r2, r3] = rows as [Local, Local, Local, Local]
  const [t0, t1, t2, t3] = scratch as [Local, Local, Local, Local]
  return [
    t0.set(shuffle32([0, 4, 1, 5], r0.get, r1.get)),
    t1.set(shuffle32([2, 6, 3, 7], r0.get, r1.get)),
    t2.set(shuffle32([0, 4, 1, 5], r2.get, r3.get)),
    t3.set(shuffle32([2, 6, 3, 7], r2.get, r3.get)),
    r0.set(shuffle32([0, 1, 4, 5], t0.get, t2.get)),
    r1.set(shuffle32([2, 3, 6, 7], t0.get, t2.get)),
    r2.set(shuffle32([0, 1, 4, 5], t1.get, t3.get)),
    r3.set(shuffle32([2, 3, 6, 7], t1.get, t3.get)),
  ]
}

/** Writes 16 rows of `blocks` blocks of 32 columns as floats; the rows start `rowBytes` bytes apart. */
export function expandCoded(format: CodedFormat): WasmFunction {
  const f = new FunctionBuilder(format === 'int8' ? 'expandInt8' : 'expandInt4')
  const [w, to, blocks, rowBytes] = [f.param('i32'), f.param('i32'), f.param('i32'), f.param('i32')]
  const [end, recordEnd, scales, row] = [f.local('i32'), f.local('i32'), f.local('i32'), f.local('i32')]
  const four = Array.from({ length: 4 }, () => f.local('v128'))
  const scratch = Array.from({ length: 4 }, () => f.local('v128'))
  const scale = f.local('v128')
  const bits = BITS[format]
  const zero = 2 ** (bits - 1)
  /** Signed codes of a quad of rows as 16-bit lanes. */
  const signed = (lanes: Code, shift: number): Code => {
    if (shift === 16 - bits) return i16x8.shiftRightS(lanes, i32.const(shift))
    const code = v128.and(i16x8.shiftRightU(lanes, i32.const(shift)), i16x8.splat(i32.const(2 * zero - 1)))
    return i16x8.sub(code, i16x8.splat(i32.const(zero)))
  }
  const quadOfRows = (quad: number): Code[] => {
    const { vector, shift } = placeOf(format, quad)
    const vectorBytes = STEP_BYTES[format] / 4
    return [
      ...four.map((lanes, pair) =>
        lanes.set(signed(v128.load(vectorBytes * pair + 16 * vector, w.get), shift)),
      ),
      ...transpose(four, scratch),
      ...four.flatMap((codes, r) => {
        const stored = i32.load16U(scaleOffset(4 * quad + r), scales.get)
        const factor = f32x4.splat(f32.const(2 ** shift))
        return [
          scale.set(f32x4.mul(i32x4.splat(i32.shl(stored, i32.const(16))), factor)),
          v128.store(0, row.get, f32x4.mul(f32x4.convert(i32x4.extendLow(codes.get)), scale.get)),
          v128.store(16, row.get, f32x4.mul(f32x4.convert(i32x4.extendHigh(codes.get)), scale.get)),
          row.set(i32.add(row.get, rowBytes.get)),
        ]
      }),
    ]
  }
  return f.finish(
    end.set(i32.add(w.get, i32.mul(blocks.get, i32.const(recordBytes(format))))),
    whileLoop(
      i32.ltU(w.get, end.get),
      scales.set(i32.add(w.get, i32.const(recordBytes(format) - SCALE_BYTES))),
      recordEnd.set(scales.get),
      whileLoop(
        i32.ltU(w.get, recordEnd.get),
        row.set(to.get),
        ...Array.from({ length: QUADS }, (_, quad) => quadOfRows(quad)).flat(),
        w.set(i32.add(w.get, i32.const(STEP_BYTES[format]))),
        to.set(i32.add(to.get, i32.const(32))),
      ),
      w.set(i32.add(w.get, i32.const(SCALE_BYTES))),
    ),
  )
}

/**
 * Quantizes 16 rows of `blocks` blocks of 32 floats, which start `rowBytes` bytes apart, into records at `w`.
 * `codes` has space for the 16-bit codes of one block: 16 rows of 64 bytes.
 */
export function encodeCoded(format: CodedFormat): WasmFunction {
  const f = new FunctionBuilder(format === 'int8' ? 'encodeInt8' : 'encodeInt4')
  const [from, w, blocks] = [f.param('i32'), f.param('i32'), f.param('i32')]
  const [rowBytes, codes] = [f.param('i32'), f.param('i32')]
  const [end, recordEnd, row] = [f.local('i32'), f.local('i32'), f.local('i32')]
  const [at, index] = [f.local('i32'), f.local('i32')]
  const four = Array.from({ length: 4 }, () => f.local('v128'))
  const scratch = Array.from({ length: 4 }, () => f.local('v128'))
  const bits = BITS[format]
  const zero = 2 ** (bits - 1)
  const record = recordBytes(format)
  const quantizer = blockQuantizer(f, bits)
  /** Row `index` of the group: its offset among the scales, and the first bit of its codes in their lanes. */
  const quad = i32.shiftRightU(index.get, i32.const(2))
  const scaleAt = [
    i32.shl(i32.shiftRightU(index.get, i32.const(3)), i32.const(4)),
    i32.shl(i32.and(index.get, i32.const(3)), i32.const(2)),
    i32.shl(i32.and(quad, i32.const(1)), i32.const(1)),
  ].reduce((sum, part) => i32.add(sum, part), i32.add(w.get, i32.const(record - SCALE_BYTES)))
  const shiftOfRow =
    format === 'int8' ? i32.and(i32.shl(quad, i32.const(3)), i32.const(8)) : i32.shl(quad, i32.const(2))
  const inverseFactor = f32.reinterpret(i32.shl(i32.sub(i32.const(127), shiftOfRow), i32.const(23)))
  /** Adds the codes of eight columns to four vectors, one for each pair of columns. */
  const storeQuad = (q: number): Code[] => {
    const { vector, shift } = placeOf(format, q)
    const vectorBytes = STEP_BYTES[format] / 4
    return [
      ...four.map((ofRow, r) => ofRow.set(v128.load(CODE_ROW_BYTES * (4 * q + r), at.get))),
      ...transpose(four, scratch),
      ...four.map((lanes, pair) => {
        const offset = vectorBytes * pair + 16 * vector
        const isTop = shift === 16 - bits
        const code = isTop ? lanes.get : i16x8.add(lanes.get, i16x8.splat(i32.const(zero)))
        const shifted = i16x8.shl(code, i32.const(shift))
        return v128.store(offset, w.get, shift === 0 ? shifted : v128.or(v128.load(offset, w.get), shifted))
      }),
    ]
  }
  return f.finish(
    end.set(i32.add(w.get, i32.mul(blocks.get, i32.const(record)))),
    whileLoop(
      i32.ltU(w.get, end.get),
      row.set(from.get),
      at.set(codes.get),
      index.set(i32.const(0)),
      whileLoop(
        i32.ltU(index.get, i32.const(GROUP_ROWS)),
        ...quantizer.run(row, at),
        i32.store16(
          0,
          scaleAt,
          i32.shiftRightU(i32.reinterpret(f32.mul(quantizer.scale, inverseFactor)), i32.const(16)),
        ),
        index.set(i32.add(index.get, i32.const(1))),
        row.set(i32.add(row.get, rowBytes.get)),
        at.set(i32.add(at.get, i32.const(CODE_ROW_BYTES))),
      ),
      at.set(codes.get),
      recordEnd.set(i32.add(w.get, i32.const(record - SCALE_BYTES))),
      whileLoop(
        i32.ltU(w.get, recordEnd.get),
        ...Array.from({ length: QUADS }, (_, q) => storeQuad(q)).flat(),
        w.set(i32.add(w.get, i32.const(STEP_BYTES[format]))),
        at.set(i32.add(at.get, i32.const(16))),
      ),
      w.set(i32.add(w.get, i32.const(SCALE_BYTES))),
      from.set(i32.add(from.get, i32.const(4 * BLOCK_COLUMNS))),
    ),
  )
}

/** Code that quantizes 32 floats at `from` into 16-bit codes at `to`, and then their scale; as `quantizeBlock` does. */
function blockQuantizer(
  f: FunctionBuilder,
  bits: 8 | 4,
): { run(from: Local, to: Local): Code[]; readonly scale: Code } {
  const [largest, smallest, peak] = [f.local('v128'), f.local('v128'), f.local('v128')]
  const [scale, inverse, isUsed] = [f.local('v128'), f.local('v128'), f.local('v128')]
  const [value, errors, isBetter] = [f.local('v128'), f.local('v128'), f.local('v128')]
  const [best, bestError] = [f.local('v128'), f.local('v128')]
  const zero = 2 ** (bits - 1)
  const splat = (constant: number): Code => f32x4.splat(f32.const(constant))
  const quarters = Array.from({ length: BLOCK_COLUMNS / 4 }, (_, index) => index)
  const reduce = (all: Code, of: (a: Code, b: Code) => Code): Code =>
    of(of(f32x4.lane(0, all), f32x4.lane(1, all)), of(f32x4.lane(2, all), f32x4.lane(3, all)))
  const setInverse = (): Code[] => [
    isUsed.set(f32x4.greater(f32x4.max(scale.get, f32x4.sub(ZERO, scale.get)), splat(SMALLEST_SCALE))),
    scale.set(v128.and(scale.get, isUsed.get)),
    inverse.set(v128.and(f32x4.div(splat(1), scale.get), isUsed.get)),
  ]
  const integer = (input: Code): Code =>
    f32x4.max(f32x4.min(f32x4.nearest(f32x4.mul(input, inverse.get)), splat(zero - 1)), splat(-zero))
  const setScale = (candidate: number): Code[] => [
    scale.set(f32x4.mul(peak.get, splat(1 / candidate))),
    scale.set(roundToBf16(scale.get)),
    ...setInverse(),
  ]
  /** The candidate with the smallest sum of squared errors; the first of equals. */
  const chooseScale = (from: Local): Code[] => {
    const [first, ...others] = SCALE_CANDIDATES[bits] as [number, ...number[]]
    if (others.length === 0) return [...setScale(first), best.set(scale.get)]
    return [
      best.set(ZERO),
      bestError.set(splat(Number.POSITIVE_INFINITY)),
      ...SCALE_CANDIDATES[bits].flatMap((candidate) => [
        ...setScale(candidate),
        errors.set(ZERO),
        ...quarters.flatMap((index) => [
          value.set(v128.load(16 * index, from.get)),
          value.set(f32x4.sub(value.get, f32x4.mul(scale.get, integer(value.get)))),
          errors.set(f32x4.add(errors.get, f32x4.mul(value.get, value.get))),
        ]),
        errors.set(f32x4.splat(laneSum(errors.get))),
        isBetter.set(f32x4.greater(bestError.get, errors.get)),
        best.set(v128.select(scale.get, best.get, isBetter.get)),
        bestError.set(v128.select(errors.get, bestError.get, isBetter.get)),
      ]),
    ]
  }
  return {
    run: (from, to) => [
      largest.set(ZERO),
      smallest.set(ZERO),
      ...quarters.flatMap((index) => [
        value.set(v128.load(16 * index, from.get)),
        largest.set(f32x4.max(largest.get, value.get)),
        smallest.set(f32x4.min(smallest.get, value.get)),
      ]),
      largest.set(f32x4.splat(reduce(largest.get, f32.max))),
      smallest.set(f32x4.splat(reduce(smallest.get, f32.min))),
      peak.set(
        v128.select(largest.get, smallest.get, f32x4.greater(largest.get, f32x4.sub(ZERO, smallest.get))),
      ),
      ...chooseScale(from),
      scale.set(best.get),
      ...setInverse(),
      ...quarters
        .filter((index) => index % 2 === 0)
        .map((index) => {
          const half = (of: number): Code => i32x4.truncate(integer(v128.load(16 * of, from.get)))
          return v128.store(8 * index, to.get, i16x8.narrow(half(index), half(index + 1)))
        }),
    ],
    scale: f32x4.lane(0, best.get),
  }
}
