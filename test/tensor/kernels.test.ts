import * as tf from '@tensorflow/tfjs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { causalMask } from '../../src/model/layers.ts'
import { causalAttention } from '../../src/tensor/causal-attention.ts'
import type { Engine, TensorFunction, Values } from '../../src/tensor/engine.ts'
import { sizeOf } from '../../src/tensor/engine.ts'
import { gatedProjection, headLogProbs, logSumExpRows, rmsNorm, topKMask } from '../../src/tensor/fused.ts'
import { absent, onnx, optional, oracle } from '../support/engines.ts'

const RUNS = 6
const TOLERANCE = 2e-5
type T = tf.Tensor

interface Call {
  /** Shapes of float inputs a, b, ...; values come from the seed. */
  readonly shapes: readonly (readonly number[])[]
  readonly seed: number
  /** Lowest and highest value of the inputs. */
  readonly range?: readonly [number, number]
  /** Int32 inputs i0, i1, ...: values below `below`. */
  readonly ids?: readonly { readonly shape: readonly number[]; readonly below: number }[]
}

function numbers(count: number, seed: number, [low, high]: readonly [number, number]): Float32Array {
  let state = seed >>> 0 || 1
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return low + ((high - low) * state) / 2 ** 32
  })
}

/** All engines of this machine but `cpu`, which they are compared with. */
const engines: { label: string; engine: Engine }[] = [{ label: 'onnx on cpu', engine: onnx }, ...optional]
it.for(absent)('kernels on $name', ({ reason }, { skip }) => skip(reason))

type Agree = (call: Call, fn: (inputs: T[], ids: T[]) => T | T[]) => Promise<void>

/** Runs a function on the engine and on the engine `cpu`, and compares every result. */
const agreement =
  (engine: Engine): Agree =>
  async (call, fn) => {
    const inputs: Record<string, { shape: readonly number[]; dtype?: 'int32' }> = {}
    const values: Record<string, Values> = {}
    call.shapes.forEach((shape, i) => {
      inputs[`x${i}`] = { shape }
      values[`x${i}`] = numbers(sizeOf(shape), call.seed + 77 * i, call.range ?? [-2, 2])
    })
    call.ids?.forEach(({ shape, below }, i) => {
      inputs[`i${i}`] = { shape, dtype: 'int32' }
      values[`i${i}`] = Int32Array.from(
        numbers(sizeOf(shape), call.seed + 13 * i, [0, below - 0.001]),
        Math.floor,
      )
    })
    const traced: TensorFunction = (tensors) => {
      const results = fn(
        call.shapes.map((_, i) => tensors[`x${i}`] as T),
        (call.ids ?? []).map((_, i) => tensors[`i${i}`] as T),
      )
      // Adds 1, so that no result is itself an input.
      return Object.fromEntries(
        (Array.isArray(results) ? results : [results]).map((t, i) => [
          `r${i}`,
          tf.add(tf.cast(t, 'float32'), 1),
        ]),
      )
    }
    const a = await engine.compile(traced, { inputs })
    const b = await oracle.compile(traced, { inputs })
    try {
      const got = await a.run(values)
      const wanted = await b.run(values)
      expect(Object.keys(got).sort()).toEqual(Object.keys(wanted).sort())
      for (const [name, expected] of Object.entries(wanted)) {
        const actual = got[name] as Values
        expect(actual.length).toBe(expected.length)
        let worst = 0
        for (let i = 0; i < expected.length; i++) {
          const x = expected[i] as number
          worst = Math.max(worst, Math.abs(x - (actual[i] as number)) / (1 + Math.abs(x)))
        }
        expect(worst).toBeLessThan(TOLERANCE)
      }
    } finally {
      await a.dispose()
      await b.dispose()
    }
  }

const seed = fc.integer({ min: 1, max: 2 ** 30 })
const dim = fc.integer({ min: 1, max: 7 })
const shape = (rank: number): fc.Arbitrary<number[]> => fc.array(dim, { minLength: rank, maxLength: rank })
const anyShape = fc.integer({ min: 1, max: 4 }).chain(shape)
/** A shape, and another that broadcasts to it. */
const broadcast = anyShape.chain((full) =>
  fc
    .tuple(
      fc.constant(full),
      fc.tuple(...full.map((size) => fc.constantFrom(size, 1))),
      fc.integer({ min: 0, max: full.length - 1 }),
    )
    .map(([a, b, cut]) => [a, b.slice(cut)] as const),
)
const check = async <V>(values: fc.Arbitrary<V>, body: (value: V) => Promise<void>): Promise<void> =>
  fc.assert(fc.asyncProperty(values, body), { numRuns: RUNS, seed: 7 })

describe.each(engines)('kernels of $label agree with the engine cpu on random shapes', ({ engine }) => {
  const agree = agreement(engine)
  const binary: Record<string, (a: T, b: T) => T> = {
    Add: tf.add,
    Sub: tf.sub,
    Multiply: tf.mul,
    RealDiv: tf.div,
    Maximum: tf.maximum,
    Minimum: tf.minimum,
    Pow: (a, b) => tf.pow(tf.add(tf.abs(a), 0.5), b),
    Greater: tf.greater,
    GreaterEqual: tf.greaterEqual,
    Less: tf.less,
    LessEqual: tf.lessEqual,
    Equal: (a, b) => tf.equal(tf.cast(a, 'int32'), tf.cast(b, 'int32')),
    LogicalAnd: (a, b) => tf.logicalAnd(tf.greater(a, 0), tf.greater(b, 0)),
  }
  it.each(Object.entries(binary))('%s with broadcasting', async (name, op) => {
    const range: [number, number] = name === 'RealDiv' ? [0.5, 2] : [-2, 2]
    await check(fc.tuple(broadcast, seed), ([[a, b], s]) =>
      agree({ shapes: [a, b], seed: s, range }, ([x, y]) => op(x as T, y as T)),
    )
  })

  const unary: Record<string, [(x: T) => T, [number, number]]> = {
    Exp: [tf.exp, [-3, 3]],
    Log: [tf.log, [0.1, 5]],
    Sqrt: [tf.sqrt, [0, 5]],
    Rsqrt: [tf.rsqrt, [0.1, 5]],
    Reciprocal: [tf.reciprocal, [0.2, 3]],
    Neg: [tf.neg, [-3, 3]],
    Abs: [tf.abs, [-3, 3]],
    Sigmoid: [tf.sigmoid, [-6, 6]],
    Tanh: [tf.tanh, [-3, 3]],
    Relu: [tf.relu, [-3, 3]],
    Square: [tf.square, [-3, 3]],
    LogicalNot: [(x) => tf.logicalNot(tf.greater(x, 0)), [-1, 1]],
    Cast: [(x) => tf.cast(tf.cast(x, 'int32'), 'float32'), [-5, 5]],
    ZerosLike: [tf.zerosLike, [-1, 1]],
    OnesLike: [tf.onesLike, [-1, 1]],
    Fill: [(x) => tf.mul(x, tf.fill(x.shape, 2.5)), [-1, 1]],
    Select: [(x) => tf.where(tf.greater(x, 0), x, tf.neg(x)), [-2, 2]],
    AddN: [(x) => tf.addN([x, x, tf.square(x)]), [-2, 2]],
    Identity: [(x) => tf.clone(x), [-2, 2]],
  }
  it.each(Object.entries(unary))('%s', async (_, [op, range]) => {
    await check(fc.tuple(anyShape, seed), ([a, s]) =>
      agree({ shapes: [a], seed: s, range }, ([x]) => op(x as T)),
    )
  })

  const overAxes: Record<string, (x: T, axes: number[], keep: boolean) => T> = {
    Sum: tf.sum,
    Mean: tf.mean,
    Max: tf.max,
    Min: tf.min,
  }
  it.each(Object.entries(overAxes))('%s over random axes', async (_, op) => {
    const cases = fc.tuple(anyShape, seed, fc.boolean()).chain(([a, s, keep]) =>
      fc.tuple(
        fc.constant(a),
        fc.constant(s),
        fc.constant(keep),
        fc.subarray(
          a.map((_, i) => i),
          { minLength: 1 },
        ),
      ),
    )
    await check(cases, ([a, s, keep, axes]) =>
      agree({ shapes: [a], seed: s }, ([x]) => op(x as T, axes, keep)),
    )
  })

  const rows: Record<string, (x: T) => T | T[]> = {
    Softmax: (x) => tf.softmax(x),
    LogSoftmax: (x) => tf.logSoftmax(x),
    ArgMax: (x) => tf.argMax(x, -1),
    TopK: (x) => {
      const { values, indices } = tf.topk(x, 1)
      return [values, indices]
    },
  }
  it.each(Object.entries(rows))('%s over the last axis', async (_, op) => {
    await check(fc.tuple(shape(2), seed), ([a, s]) => agree({ shapes: [a], seed: s }, ([x]) => op(x as T)))
  })

  it('BatchMatMul, with and without transposition', async () => {
    await check(fc.tuple(shape(5), seed, fc.boolean(), fc.boolean()), ([[b1, b2, m, k, n], s, ta, tb]) => {
      const lead = [b1 as number, b2 as number]
      const a = [...lead, ...(ta ? [k, m] : [m, k])] as number[]
      const b = [...lead, ...(tb ? [n, k] : [k, n])] as number[]
      return agree({ shapes: [a, b], seed: s }, ([x, y]) => tf.matMul(x as T, y as T, ta, tb))
    })
  })

  it('Transpose, Reshape, ExpandDims', async () => {
    const cases = anyShape.chain((a) =>
      fc.tuple(
        fc.constant(a),
        seed,
        fc.shuffledSubarray(
          a.map((_, i) => i),
          { minLength: a.length },
        ),
      ),
    )
    await check(cases, ([a, s, perm]) =>
      agree({ shapes: [a], seed: s }, ([x]) => [
        tf.transpose(x as T, perm),
        tf.reshape(x as T, [-1]),
        tf.expandDims(x as T, 1),
      ]),
    )
  })

  it('Slice, Split, Pad, Tile', async () => {
    const cases = shape(3).chain((a) =>
      fc.tuple(fc.constant(a), seed, fc.tuple(...a.map((size) => fc.integer({ min: 0, max: size - 1 })))),
    )
    await check(cases, ([a, s, begin]) =>
      agree({ shapes: [a], seed: s }, ([x]) => [
        tf.slice(
          x as T,
          begin,
          a.map((size, i) => size - (begin[i] as number)),
        ),
        ...tf.split(x as T, a[1] as number, 1),
        tf.pad(
          x as T,
          a.map((_, i) => [i, 1] as [number, number]),
          0.5,
        ),
        tf.tile(x as T, [2, 1, 3]),
      ]),
    )
  })

  it('Concat and Pack', async () => {
    await check(fc.tuple(shape(3), dim, seed), ([a, other, s]) => {
      const b = [a[0] as number, other, a[2] as number]
      return agree({ shapes: [a, b, a], seed: s }, ([x, y, z]) => [
        tf.concat([x as T, y as T], 1),
        tf.stack([x as T, z as T], 1),
      ])
    })
  })

  it('Gather, OneHot, UnsortedSegmentSum', async () => {
    await check(fc.tuple(shape(2), fc.integer({ min: 1, max: 9 }), seed), ([a, count, s]) => {
      const [n, c] = a as [number, number]
      return agree(
        {
          shapes: [
            [n, c],
            [count, c],
          ],
          seed: s,
          ids: [{ shape: [count], below: n }],
        },
        ([x, y], [i]) => [
          tf.gather(x as T, i as tf.Tensor1D),
          tf.oneHot(i as T, n + 1),
          tf.unsortedSegmentSum(y as T, i as tf.Tensor1D, n),
        ],
      )
    })
  })
})

describe.each(engines)(
  'fused operations of $label and their gradients agree with their definitions on random shapes',
  ({ engine }) => {
    const agree = agreement(engine)
    const gradients = (fn: (...xs: T[]) => T, xs: T[]): T[] => {
      const { value, grads } = tf.valueAndGrads(
        (...inner: T[]) => tf.sum(tf.square(fn(...inner))) as tf.Scalar,
      )(xs)
      return [value, ...grads]
    }

    it('rmsNorm', async () => {
      await check(fc.tuple(shape(2), seed), ([a, s]) =>
        agree({ shapes: [a, [a[1] as number]], seed: s }, ([x, g]) => [
          rmsNorm(x as T, g as T, 1e-6),
          ...gradients((u, w) => rmsNorm(u, w, 1e-3), [x as T, g as T]),
        ]),
      )
    })
    /** Compares value and gradients: the engine runs the fused operation, the engine `cpu` its definition. */
    const matches = (call: Call, fast: (...xs: T[]) => T, definition: (...xs: T[]) => T): Promise<void> =>
      agree(call, (xs) => gradients(tf.getBackend() === 'cpu' ? definition : fast, xs))

    it('gatedProjection', async () => {
      const definition = (gate: T, up: T, down: T): T =>
        tf.matMul(tf.mul(tf.mul(gate, tf.sigmoid(gate)), up), down, false, true)
      await check(fc.tuple(shape(3), seed), ([[n, f, c], s]) => {
        const rows = [n as number, f as number]
        const call = { shapes: [rows, rows, [c as number, f as number]], seed: s }
        return matches(
          call,
          (...xs) => gatedProjection(...(xs as [T, T, T])),
          (...xs) => definition(...(xs as [T, T, T])),
        )
      })
    })
    const attends = ([b, h, t, d]: number[], G: number, seed: number): Promise<void> => {
      const keys = [b, h, t, d] as number[]
      const queries = [b, h, G * (t as number), d] as number[]
      const mask = (): T => causalMask(t as number, G)
      const definition = (q: T, k: T, v: T): T =>
        tf.matMul(tf.softmax(tf.add(tf.matMul(q, k, false, true), mask())), v)
      return matches(
        { shapes: [queries, keys, keys], seed },
        (...xs) => causalAttention(...(xs as [T, T, T]), mask()),
        (...xs) => definition(...(xs as [T, T, T])),
      )
    }
    it('causalAttention', async () => {
      await check(fc.tuple(shape(4), fc.integer({ min: 1, max: 3 }), seed), ([full, G, s]) =>
        attends(full, G, s),
      )
    })
    it.each([
      [65, 1],
      [150, 2],
      [300, 1],
    ])('causalAttention in several blocks: %i positions, %i query heads per key head', async (t, G) => {
      await attends([1, 2, t, 3], G, t)
    })
    it.each(['none', 'input', 'both'] as const)('headLogProbs with gradients of: %s', async (asked) => {
      await check(fc.tuple(shape(2), fc.integer({ min: 2, max: 30 }), seed), ([[n, c], v, s]) =>
        agree(
          {
            shapes: [
              [n as number, c as number],
              [v, c as number],
            ],
            seed: s,
            ids: [{ shape: [n as number], below: v }],
          },
          ([x, w], [i]) => {
            const logits = (u: T, k: T): T => tf.matMul(u, k, false, true)
            const definition = (u: T, k: T): T =>
              tf.stack(
                [logSumExpRows(logits(u, k)).flatten(), tf.sum(tf.mul(u, tf.gather(k, i as tf.Tensor1D)), 1)],
                1,
              )
            const onOracle = tf.getBackend() === 'cpu'
            const head = (u: T, k: T): T =>
              onOracle ? definition(u, k) : headLogProbs(u, k, i as tf.Tensor1D, asked)
            if (asked === 'none') return head(x as T, w as T)
            return asked === 'both'
              ? gradients(head, [x as T, w as T])
              : gradients((u) => head(u, w as T), [x as T])
          },
        ),
      )
    })
    it('headLogProbs of a batch too large for all logits at once', async () => {
      const [n, c, v] = [2200, 1, 2000]
      await agree(
        {
          shapes: [
            [n, c],
            [v, c],
          ],
          seed: 5,
          ids: [{ shape: [n], below: v }],
        },
        ([x, w], [i]) => {
          const definition = (u: T): T => logSumExpRows(tf.matMul(u, w as T, false, true))
          const head = (u: T): T =>
            tf.slice(headLogProbs(u, w as T, i as tf.Tensor1D, 'input'), [0, 0], [n, 1])
          return gradients(tf.getBackend() === 'cpu' ? definition : head, [x as T])
        },
      )
    })
    it('topKMask and logSumExpRows', async () => {
      const cases = fc
        .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 2, max: 8 }), seed)
        .chain(([n, e, s]) => fc.tuple(fc.constant([n, e]), fc.constant(s), fc.integer({ min: 1, max: e })))
      await check(cases, ([a, s, k]) =>
        agree({ shapes: [a], seed: s }, ([x]) => [
          topKMask(x as T, k),
          logSumExpRows(x as T),
          ...gradients(logSumExpRows, [x as T]),
        ]),
      )
    })
  },
)
