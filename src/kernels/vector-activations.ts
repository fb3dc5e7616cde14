/**
 * Kernels of vector-kernels.ts that need an exponential: the gated activation (SwiGLU), and softmax with the weighted
 * sum of values for one attention head. Does not know threads or models.
 */
import {
  type Code,
  FunctionBuilder,
  f32,
  f32x4,
  i32,
  i32x4,
  laneSum,
  multiplyAdd,
  v128,
  type WasmFunction,
  whenTrue,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

/** gate = silu(gate) * up, four values at a time. */
export function swiGlu(): WasmFunction {
  const f = new FunctionBuilder('swiGlu')
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
      exp.compute(f32x4.sub(ZERO, x.get)),
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

/** Groups of four channels that are summed in registers at the same time: half of a usual head. */
const GROUPS_AT_ONCE = 8
/** Positions processed together, so that their values stay in the L1 cache while every group of channels reads them. */
const POSITIONS_AT_ONCE = 32

/** out = softmax(scores * scale) V, with V (length, width). */
export function softmaxWeightedSum(): WasmFunction {
  const f = new FunctionBuilder('softmaxWeightedSum')
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
  const channel = f.local('i32')
  const stretchEnd = f.local('i32')
  const peak = f.local('v128')
  const highest = f.local('f32')
  const total = f.local('v128')
  const weight = f.local('v128')
  const sums = Array.from({ length: GROUPS_AT_ONCE }, () => f.local('v128'))
  const exp = exponential(f)
  const minusInfinity = f32.const(Number.NEGATIVE_INFINITY)
  const four = i32.const(4)
  const sixteen = i32.const(16)

  /** Adds one stretch of positions to `groups` groups of four channels. */
  const channels = (groups: number): Code[] => [
    ...sums.slice(0, groups).map((sum, g) => sum.set(v128.load(16 * g, channel.get))),
    at.set(scores.get),
    value.set(values.get),
    whileLoop(
      i32.ltU(at.get, stretchEnd.get),
      weight.set(f32x4.splat(f32.load(0, at.get))),
      ...sums
        .slice(0, groups)
        .map((sum, g) => sum.set(multiplyAdd(weight.get, v128.load(16 * g, value.get), sum.get))),
      value.set(i32.add(value.get, bytes.get)),
      at.set(i32.add(at.get, four)),
    ),
    ...sums.slice(0, groups).map((sum, g) => v128.store(16 * g, channel.get, sum.get)),
    channel.set(i32.add(channel.get, i32.const(16 * groups))),
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
    // Pad to a multiple of four with scores whose weight is zero.
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
      exp.compute(f32x4.sub(v128.load(0, at.get), peak.get)),
      v128.store(0, at.get, exp.result),
      total.set(f32x4.add(total.get, exp.result)),
      at.set(i32.add(at.get, sixteen)),
    ),
    total.set(f32x4.splat(laneSum(total.get))),
    outEnd.set(i32.add(out.get, bytes.get)),
    channel.set(out.get),
    whileLoop(
      i32.ltU(channel.get, outEnd.get),
      v128.store(0, channel.get, ZERO),
      channel.set(i32.add(channel.get, sixteen)),
    ),
    whileLoop(
      i32.ltU(scores.get, end.get),
      stretchEnd.set(i32.add(scores.get, i32.const(4 * POSITIONS_AT_ONCE))),
      whenTrue(i32.ltU(end.get, stretchEnd.get), stretchEnd.set(end.get)),
      channel.set(out.get),
      whileLoop(
        i32.ltU(i32.add(channel.get, i32.const(16 * GROUPS_AT_ONCE - 1)), outEnd.get),
        ...channels(GROUPS_AT_ONCE),
      ),
      whileLoop(i32.ltU(channel.get, outEnd.get), ...channels(1)),
      // The channel loop left `values` after the first row of the stretch; advance it to the next stretch.
      values.set(i32.add(values.get, i32.mul(bytes.get, i32.const(POSITIONS_AT_ONCE - 1)))),
      scores.set(stretchEnd.get),
    ),
    channel.set(out.get),
    whileLoop(
      i32.ltU(channel.get, outEnd.get),
      v128.store(0, channel.get, f32x4.div(v128.load(0, channel.get), total.get)),
      channel.set(i32.add(channel.get, sixteen)),
    ),
  )
}

/** Smallest and largest argument whose exponential is a normal float. */
const MIN_EXPONENT = -87.3
const MAX_EXPONENT = 88.3
/** ln 2 as a sum of two numbers; the first has so few bits that its multiples are exact (Cody and Waite, 1980). */
const LN2_HIGH = 0.693359375
const LN2_LOW = -2.1219444e-4
/**
 * Coefficients of (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2, highest power first: the Taylor series of exp up to
 * r^7.
 */
const EXP_TERMS = [1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2]

/** Four exponentials at once: exp(x) = 2^n exp(r), where n is x / ln 2 rounded to an integer and r = x - n ln 2. */
function exponential(f: FunctionBuilder): { compute(x: Code): Code; readonly result: Code } {
  const x = f.local('v128')
  const n = f.local('v128')
  const r = f.local('v128')
  const p = f.local('v128')
  const constant = (value: number): Code => f32x4.splat(f32.const(value))
  return {
    compute: (argument) =>
      [
        x.set(f32x4.min(f32x4.max(argument, constant(MIN_EXPONENT)), constant(MAX_EXPONENT))),
        n.set(f32x4.nearest(f32x4.mul(x.get, constant(Math.LOG2E)))),
        r.set(multiplyAdd(n.get, constant(-LN2_HIGH), x.get)),
        r.set(multiplyAdd(n.get, constant(-LN2_LOW), r.get)),
        p.set(constant(EXP_TERMS[0] as number)),
        ...EXP_TERMS.slice(1).map((term) => p.set(multiplyAdd(p.get, r.get, constant(term)))),
        p.set(multiplyAdd(f32x4.mul(r.get, r.get), p.get, f32x4.add(r.get, constant(1)))),
        // Multiply by 2^n, built from its exponent bits.
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
