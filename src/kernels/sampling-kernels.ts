/**
 * WebAssembly SIMD kernels for choosing a token from the logits of a large vocabulary, and the memory that they share:
 * the weights of all tokens, and sums of the weights of a block of tokens. Does not know probabilities or requests.
 */

import {
  type Code,
  encodeModule,
  FunctionBuilder,
  f32,
  f32x4,
  i32,
  i32x4,
  type Local,
  laneSum,
  multiplyAdd,
  PAGE_BYTES,
  v128,
  type WasmFunction,
  whileLoop,
  ZERO,
} from './wasm-encode.ts'

/** Number of tokens of a block. */
export const BLOCK_TOKENS = 256

interface Exports {
  /** Writes the largest of `count` floats to `to`; `count` is a multiple of four. */
  highest(from: number, to: number, count: number): void
  /** Replaces logits by exp((logit - peak) * scale). Writes the sum of each block to `sums`. */
  weigh(logits: number, sums: number, count: number, peak: number, scale: number): void
  /** Writes the sum of the weights above `limit` of each block to `sums`. */
  sumAbove(weights: number, sums: number, count: number, limit: number): void
}

/** The weights of the tokens of one distribution at a time. */
export class TokenWeights {
  readonly #memory = new WebAssembly.Memory<ArrayBuffer>({ initial: 1, maximum: 65_536, shared: false })
  readonly #kernels: Exports
  /** Number of tokens, rounded up to whole blocks. */
  #count = 0
  #weights = new Float32Array()
  #sums = new Float32Array()

  constructor() {
    const module = new WebAssembly.Module(encodeModule([highest(), weigh(), sumAbove()], 'one thread'))
    this.#kernels = new WebAssembly.Instance(module, { env: { memory: this.#memory } }).exports as Exports
  }

  /** Weights by token, then zeros up to a whole block. Valid until the next call of `weigh`. */
  get weights(): Float32Array {
    return this.#weights
  }

  /** Sums by block, of all weights or of those above the limit of the last call of `sumAbove`. */
  get sums(): Float32Array {
    return this.#sums
  }

  /** Computes exp((logit - peak) / temperature) of each logit and the sums of the blocks. */
  weigh(logits: Float32Array, temperature: number): void {
    this.#fit(logits.length)
    this.#weights.set(logits)
    this.#weights.fill(Number.NEGATIVE_INFINITY, logits.length)
    const sums = this.#sums.byteOffset
    this.#kernels.highest(0, sums, this.#count)
    this.#kernels.weigh(0, sums, this.#count, this.#sums[0] as number, 1 / temperature)
    const last = this.#sums.length - 1
    for (let i = logits.length; i < this.#count; i++) {
      this.#sums[last] = (this.#sums[last] as number) - (this.#weights[i] as number)
      this.#weights[i] = 0
    }
  }

  /** Computes the sums of the weights above a limit. */
  sumAbove(limit: number): void {
    this.#kernels.sumAbove(0, this.#sums.byteOffset, this.#count, limit)
  }

  #fit(tokens: number): void {
    const blocks = Math.ceil(tokens / BLOCK_TOKENS)
    const count = blocks * BLOCK_TOKENS
    if (count === this.#count) return
    const bytes = 4 * (count + blocks)
    const missing = Math.ceil((bytes - this.#memory.buffer.byteLength) / PAGE_BYTES)
    if (missing > 0) this.#memory.grow(missing)
    this.#count = count
    this.#weights = new Float32Array(this.#memory.buffer, 0, count)
    this.#sums = new Float32Array(this.#memory.buffer, 4 * count, blocks)
  }
}

function highest(): WasmFunction {
  const f = new FunctionBuilder('highest')
  const from = f.param('i32')
  const to = f.param('i32')
  const count = f.param('i32')
  const end = f.local('i32')
  const peak = f.local('v128')
  const lane = (index: number) => f32x4.lane(index, peak.get)
  return f.finish(
    end.set(i32.add(from.get, i32.shl(count.get, i32.const(2)))),
    peak.set(f32x4.splat(f32.const(Number.NEGATIVE_INFINITY))),
    whileLoop(
      i32.ltU(from.get, end.get),
      peak.set(f32x4.greaterOf(peak.get, v128.load(0, from.get))),
      from.set(i32.add(from.get, i32.const(16))),
    ),
    f32.store(0, to.get, f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3)))),
  )
}

function weigh(): WasmFunction {
  const f = new FunctionBuilder('weigh')
  const [at, sums, count] = [f.param('i32'), f.param('i32'), f.param('i32')]
  const peak = f.param('f32')
  const scale = f.param('f32')
  const exp = negativeExponential(f)
  return f.finish(
    ...forEachBlock(f, { at, sums, count }, (sum) => [
      exp.compute(f32x4.mul(f32x4.sub(v128.load(0, at.get), f32x4.splat(peak.get)), f32x4.splat(scale.get))),
      v128.store(0, at.get, exp.result),
      sum.set(f32x4.add(sum.get, exp.result)),
    ]),
  )
}

function sumAbove(): WasmFunction {
  const f = new FunctionBuilder('sumAbove')
  const [at, sums, count] = [f.param('i32'), f.param('i32'), f.param('i32')]
  const limit = f.param('f32')
  const weight = f.local('v128')
  return f.finish(
    ...forEachBlock(f, { at, sums, count }, (sum) => [
      weight.set(v128.load(0, at.get)),
      sum.set(f32x4.add(sum.get, v128.and(weight.get, f32x4.greater(weight.get, f32x4.splat(limit.get))))),
    ]),
  )
}

/**
 * Goes through `count` floats from `at` on, four at a time, and writes one sum for each block to `sums`.
 * @param step code for the four floats at `at`, which adds to the sum of the block
 */
function forEachBlock(
  f: FunctionBuilder,
  { at, sums, count }: { readonly at: Local; readonly sums: Local; readonly count: Local },
  step: (sum: Local) => readonly Code[],
): Code[] {
  const [end, blockEnd, sum] = [f.local('i32'), f.local('i32'), f.local('v128')]
  return [
    end.set(i32.add(at.get, i32.shl(count.get, i32.const(2)))),
    whileLoop(
      i32.ltU(at.get, end.get),
      sum.set(ZERO),
      blockEnd.set(i32.add(at.get, i32.const(4 * BLOCK_TOKENS))),
      whileLoop(i32.ltU(at.get, blockEnd.get), ...step(sum), at.set(i32.add(at.get, i32.const(16)))),
      f32.store(0, sums.get, laneSum(sum.get)),
      sums.set(i32.add(sums.get, i32.const(4))),
    ),
  ]
}

/** Smallest argument whose exponential is a normal float. */
const MIN_EXPONENT = -87.3
/** ln 2 as a sum of two numbers; the first has so few bits that its multiples are exact (Cody and Waite, 1980). */
const LN2_HIGH = 0.693359375
const LN2_LOW = -2.1219444e-4
/** Coefficients of (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2, highest power first: its Taylor series up to r^6. */
const EXP_TERMS = [1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2]
/** Adding this number rounds a float of at most 2^22 to an integer, which is then in its lowest bits. */
const ROUNDING = 1.5 * 2 ** 23

/**
 * Four exponentials of numbers up to 0, in fewer instructions than those of the activations, to 10^-6 of their value:
 * exp(x) = 2^n exp(r), where n is x / ln 2 rounded to an integer and r = x - n ln 2.
 */
function negativeExponential(f: FunctionBuilder): { compute(x: Code): Code; readonly result: Code } {
  const x = f.local('v128')
  const rounded = f.local('v128')
  const n = f.local('v128')
  const r = f.local('v128')
  const p = f.local('v128')
  const constant = (value: number): Code => f32x4.splat(f32.const(value))
  return {
    compute: (argument) =>
      [
        x.set(f32x4.greaterOf(argument, constant(MIN_EXPONENT))),
        rounded.set(multiplyAdd(x.get, constant(Math.LOG2E), constant(ROUNDING))),
        n.set(f32x4.sub(rounded.get, constant(ROUNDING))),
        r.set(multiplyAdd(n.get, constant(-LN2_HIGH), x.get)),
        r.set(multiplyAdd(n.get, constant(-LN2_LOW), r.get)),
        p.set(constant(EXP_TERMS[0] as number)),
        ...EXP_TERMS.slice(1).map((term) => p.set(multiplyAdd(p.get, r.get, constant(term)))),
        p.set(multiplyAdd(f32x4.mul(r.get, r.get), p.get, f32x4.add(r.get, constant(1)))),
        // Multiply by 2^n, built from its exponent bits. The shift drops the bits of ROUNDING.
        p.set(
          f32x4.mul(p.get, i32x4.shl(i32x4.add(rounded.get, i32x4.splat(i32.const(127))), i32.const(23))),
        ),
      ].flat(),
    result: p.get,
  }
}
