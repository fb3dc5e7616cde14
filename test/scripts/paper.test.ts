/** The arithmetic behind the paper's tables: baselines, features and scores. The benchmark measures the results. */
import { describe, expect, it } from 'vitest'
import { alike } from '../../scripts/paper/audit.ts'
import { bestTemperature, ensemble, soup } from '../../scripts/paper/baselines.ts'
import { macro } from '../../scripts/paper/experiment.ts'
import { spread } from '../../scripts/paper/results.ts'
import { tokenGateOf } from '../../scripts/paper/routers.ts'
import { bitsPerByte, Scorer } from '../../scripts/paper/scorer.ts'
import { QUICK } from '../../scripts/paper/settings.ts'
import { features, moments, solveStreamGate } from '../../scripts/paper/stream-gates.ts'
import { computeOf } from '../../scripts/paper/table.ts'
import { mixtureOfDense } from '../../scripts/paper/trainings.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { GATE_DECAY, gateToken, solveGate } from '../../src/model/solved-router.ts'
import { onnx } from '../support/engines.ts'
import { goldenConfig, goldenPublic } from '../support/golden.ts'

const { hiddenSize: C } = goldenConfig
const publicModel = goldenPublic()

function stream(T: number, seed: number): Float32Array {
  const random = mulberry32(seed)
  return Float32Array.from({ length: T * C }, () => random() - 0.3)
}

describe('the ensemble', () => {
  it('starts with equal weights and moves to the model with the better predictions', () => {
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

  it('uses the temperature with the fewest nats', () => {
    const good = [Float32Array.of(1, 1, 1, 1)]
    const bad = [Float32Array.of(2, 2, 2, 2)]
    expect(bestTemperature([good, bad], [10, 0.1, 1])).toBe(0.1)
    // The models are right alternately, so weights from the past are misleading.
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

  it('of a mixture of three equal FFNs are those of the dense model, for any routing', async () => {
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

  it('are bits divided by bytes', () => {
    expect(bitsPerByte([Float32Array.of(Math.LN2, Math.LN2), Float32Array.of(Math.LN2)], 6)).toBeCloseTo(
      0.5,
      6,
    )
    expect(macro({ public: 1, law: 3, mixed: 100 })).toBe(2)
    expect(spread([1, 2, 3])).toEqual({ mean: 2, deviation: 1, seeds: 3 })
    expect(computeOf(goldenConfig)(1)).toBe(1)
  })

  it('of the average of a model with itself are those of the model', () => {
    const twice = soup([publicModel, publicModel], [0.5, 0.5])
    for (const [name, { data }] of publicModel) expect(twice.get(name)?.data).toEqual(data)
  })
})

describe('gates of the table', () => {
  it('give the logits of serving', () => {
    const owners = [
      { tokens: Float32Array.of(0.7, 0.1, 0.2) },
      { tokens: Float32Array.of(0.1, 0.9, 0) },
      { tokens: Float32Array.of(0, 0.2, 0.8) },
    ]
    const gate = solveGate(owners)
    const ids = Int32Array.of(2, 0, 1, 1)
    const logits = tokenGateOf(gate, GATE_DECAY)({ document: 0, ids, labels: ids }, 0)
    const sums = new Float32Array(4 * 3)
    const one = new Float32Array(4 * 3)
    for (const [t, token] of ids.entries()) gateToken(gate, token, t, sums, one, t * 3)
    one.forEach((value, i) => {
      expect(logits[i]).toBeCloseTo(value, 4)
    })
  })

  it('of streams read decayed means of unit rows', () => {
    const u = Float32Array.of(3, 4, 0, 2)
    const got = features(u, 2, [0.5])
    // (0.6, 0.8), then the mean of it and (0, 1) with weights 1/3 and 2/3.
    const expected = [0.6, 0.8, 0.2, (0.8 + 2) / 3]
    expected.forEach((value, i) => {
      expect(got[i]).toBeCloseTo(value, 6)
    })
  })

  it('of streams distinguish owners with different streams', () => {
    const kind = { solver: 'discriminant', decays: [0.9], scale: 1, prior: 0 } as const
    const owners = [1, 2, 3].map((owner) =>
      moments([stream(40, 10 * owner), stream(40, 10 * owner + 1)], C, [0.9]),
    )
    const gate = solveStreamGate(kind, C, owners)
    owners.forEach(({ mean }, owner) => {
      const logits = [0, 1, 2].map((e) =>
        mean.reduce((sum, x, c) => sum + x * (gate.weights[e * C + c] as number), gate.offsets[e] as number),
      )
      expect(logits.indexOf(Math.max(...logits))).toBe(owner)
    })
  })
})

describe('likeness of a continuation', () => {
  it('is 1 minus the share of changed characters', () => {
    expect(alike('kitten', 'sitting')).toBeCloseTo(1 - 3 / 7, 9)
    expect(alike('same', 'same')).toBe(1)
    expect(alike('', '')).toBe(1)
    expect(alike('abc', '')).toBe(0)
  })
})
