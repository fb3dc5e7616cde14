/** The arithmetic behind the paper's tables: baselines, features, scores. What they say is for the benchmark. */
import { describe, expect, it } from 'vitest'
import { alike } from '../scripts/bench/paper/audit.ts'
import { bestTemperature, ensemble, soup } from '../scripts/bench/paper/baselines.ts'
import { macro } from '../scripts/bench/paper/experiment.ts'
import { features, gateOf, solve, statistics } from '../scripts/bench/paper/routers.ts'
import { bitsPerByte, Scorer } from '../scripts/bench/paper/scorer.ts'
import { QUICK } from '../scripts/bench/paper/settings.ts'
import { computeOf, spread } from '../scripts/bench/paper/table.ts'
import { mixtureOfDense } from '../scripts/bench/paper/trainings.ts'
import { mulberry32 } from '../src/model/sampling.ts'
import { GATE_CALIBRATION, gateToken } from '../src/model/solved-router.ts'
import { onnx } from './support/engines.ts'
import { goldenConfig, goldenPublic } from './support/golden.ts'
import { DecayedMean } from './support/router-statistics.ts'

const { hiddenSize: C } = goldenConfig
const DECAYS = [0.9]
const publicModel = goldenPublic()

function stream(T: number, seed: number): Float32Array {
  const random = mulberry32(seed)
  return Float32Array.from({ length: T * C }, () => random() - 0.3)
}

describe('the ensemble', () => {
  it('starts even and goes over to the model that has been right', () => {
    const good = [Float32Array.of(1, 1, 1)]
    const bad = [Float32Array.of(3, 3, 3)]
    const [nats] = ensemble([good, bad], 1)
    const even = -Math.log((Math.exp(-1) + Math.exp(-3)) / 2)
    // After one token the posterior odds are e^2 to 1.
    const odds = Math.exp(2)
    const second = -Math.log((odds * Math.exp(-1) + Math.exp(-3)) / (odds + 1))
    expect(nats?.[0]).toBeCloseTo(even, 6)
    expect(nats?.[1]).toBeCloseTo(second, 6)
    expect(nats?.[2] as number).toBeLessThan(second)
  })

  it('takes the temperature that gives the fewest nats', () => {
    const good = [Float32Array.of(1, 1, 1, 1)]
    const bad = [Float32Array.of(2, 2, 2, 2)]
    expect(bestTemperature([good, bad], [10, 0.1, 1])).toBe(0.1)
    // Models that are right in turn: trusting the past is a mistake.
    const odd = [Float32Array.of(0.1, 4, 0.1, 4)]
    const even = [Float32Array.of(4, 0.1, 4, 0.1)]
    expect(bestTemperature([odd, even], [0.1, 100])).toBe(100)
  })
})

describe('scores', () => {
  const T = 8
  const random = mulberry32(3)
  const ids = Int32Array.from({ length: T }, () => Math.floor(random() * goldenConfig.vocabSize))
  const window = { document: 0, ids, labels: Int32Array.from(ids).reverse() }

  it('of a mixture of one FFN three times are those of the dense model, whatever routes', async () => {
    const scorer = new Scorer(onnx, goldenConfig)
    const dense = await scorer.score({ params: publicModel, E: 1, topK: 1 }, [window], T)
    const rows = [1, 2, 3].map((seed) =>
      Array.from({ length: goldenConfig.numHiddenLayers }, () => stream(1, seed)),
    )
    const params = mixtureOfDense(
      { ...QUICK, config: goldenConfig },
      publicModel,
      [publicModel, publicModel, publicModel],
      rows,
    )
    const mixed = await scorer.score({ params, E: 3, topK: 2 }, [window], T)
    await scorer.dispose()
    const [a, b] = [dense.nats[0] as Float32Array, mixed.nats[0] as Float32Array]
    expect(a).toHaveLength(T)
    a.forEach((value, t) => {
      expect(b[t]).toBeCloseTo(value, 4)
    })
    for (const shares of mixed.shares) expect(shares.reduce((x, y) => x + y, 0)).toBeCloseTo(1, 5)
  })

  it('are bits over bytes', () => {
    expect(bitsPerByte([Float32Array.of(Math.LN2, Math.LN2), Float32Array.of(Math.LN2)], 6)).toBeCloseTo(
      0.5,
      6,
    )
    expect(macro({ public: 1, law: 3, mixed: 100 })).toBe(2)
    expect(spread([1, 2, 3])).toEqual({ mean: 2, deviation: 1, seeds: 3 })
    expect(computeOf(goldenConfig)(1)).toBe(1)
  })

  it('of a soup of a model and itself are its own', () => {
    const twice = soup([publicModel, publicModel], [0.5, 0.5])
    for (const [name, { data }] of publicModel) expect(twice.get(name)?.data).toEqual(data)
  })
})

describe('the gate of the table', () => {
  it('reads the features that serving reads', () => {
    const T = 5
    const u = stream(T, 1)
    const mean = new DecayedMean(C)
    const expected = new Float32Array(C)
    const got = features(u, C, DECAYS)
    for (let t = 0; t < T; t++) {
      mean.next(u.subarray(t * C, (t + 1) * C), expected)
      expected.forEach((value, c) => {
        expect(got[t * C + c]).toBeCloseTo(value, 5)
      })
    }
  })

  it('gives the logits that decoding gives', () => {
    const kind = { decays: DECAYS, solver: 'discriminant', ...GATE_CALIBRATION } as const
    const owners = [1, 2, 3].map((owner) =>
      statistics([stream(40, 10 * owner), stream(40, 10 * owner + 1)], C, DECAYS),
    )
    const gate = solve(kind, C, owners)
    const u = stream(4, 9)
    const window = { document: 0, ids: new Int32Array(4), labels: new Int32Array(4) }
    const logits = gateOf(kind, gate, [u], C)(window, 0)
    const sums = new Float32Array(4 * 3)
    const one = new Float32Array(4 * 3)
    for (let t = 0; t < 4; t++) gateToken(gate, new Float32Array(3), u, t * C, t, sums, one, t * 3)
    const size = Math.max(...one.map(Math.abs))
    one.forEach((value, i) => {
      expect(Math.abs((logits[i] as number) - value)).toBeLessThan(1e-4 * size)
    })
  })
})

describe('likeness of a continuation', () => {
  it('is one less the share of changes', () => {
    expect(alike('kitten', 'sitting')).toBeCloseTo(1 - 3 / 7, 9)
    expect(alike('same', 'same')).toBe(1)
    expect(alike('', '')).toBe(1)
    expect(alike('abc', '')).toBe(0)
  })
})
