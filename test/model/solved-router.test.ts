/** A gate solved from statistics: its definition, and the equality of its two forms, token by token and in a graph. */

import type { Tensor } from '@tensorflow/tfjs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { routerName } from '../../src/lib/tensor-names.ts'
import { gateLogits } from '../../src/model/gate-graph.ts'
import {
  GATE_CALIBRATION,
  type Gate,
  gateToken,
  type RouterStatistics,
  solveGate,
} from '../../src/model/solved-router.ts'
import { forward } from '../../src/model/transformer.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { absent, present } from '../support/engines.ts'
import { goldenConfig } from '../support/golden.ts'
import { E, params } from '../support/golden-generator.ts'
import { madeUpStatistics, naiveBayes } from '../support/router-statistics.ts'

const { hiddenSize: C, numHiddenLayers: L, vocabSize: V } = goldenConfig
const statistics = Array.from({ length: E }, (_, e) => madeUpStatistics(V, e + 1))
const gate = solveGate(statistics)

/** Logits (T E) of a gate, computed token by token. */
function tokenByToken(gate: Gate, ids: ArrayLike<number>): Float32Array {
  const width = gate.offsets.length
  const sums = new Float32Array(ids.length * width)
  const logits = new Float32Array(ids.length * width)
  Array.from(ids).forEach((token, t) => {
    gateToken(gate, token, t, sums, logits, t * width)
  })
  return logits
}

function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual).toHaveLength(expected.length)
  const worst = Math.max(...Array.from(expected, (value, i) => Math.abs(value - (actual[i] as number))))
  expect(worst).toBeLessThan(tolerance)
}

describe('a gate', () => {
  // Token 0 is in both texts, token 1 in the public text, token 2 in the owner's, token 3 in neither.
  const two = [{ tokens: Float32Array.of(0.5, 0.5, 0, 0) }, { tokens: Float32Array.of(0.5, 0, 0.5, 0) }]
  // 0.99 * 0.5 + 0.01 * (0.9 * 0.25 + 0.1 / 4) against 0.01 * (0.9 * 0.25 + 0.1 / 4).
  const odds = Math.log(0.4975 / 0.0025)

  it('has the smoothed log-odds of each token, as computed by hand', () => {
    const plain = solveGate(two, { scale: 1, prior: 0 })
    expectNear(plain.weights, [0, 0, 0, -odds, 0, odds, 0, 0], 1e-6)
    expect([...plain.offsets, plain.rowScale]).toEqual([0, 0, 1])
    const calibrated = solveGate(two, { scale: 0.25, prior: 3 })
    expectNear(calibrated.weights, [0, 0, 0, -odds / 4, 0, odds / 4, 0, 0], 1e-6)
    expect([...calibrated.offsets, calibrated.rowScale]).toEqual([3, 0, 1])
    expect(solveGate(two)).toEqual(solveGate(two, GATE_CALIBRATION))
  })

  it('forgets a tenth of its evidence with each token, but not the prior of the public expert', () => {
    const calibration = { scale: 1, prior: 2 }
    const logits = tokenByToken(solveGate(two, calibration), [2, 0, 3, 0])
    expectNear(logits, [2, odds, 2, 0.9 * odds, 2, 0.81 * odds, 2, 0.729 * odds], 1e-5)
    const long = tokenByToken(solveGate(two, calibration), [2, ...new Array<number>(199).fill(0)])
    expectNear(long.subarray(-2), [2, 0], 1e-6)
  })

  it('adds the evidence of all tokens so far, as defined', () => {
    const ids = Int32Array.from({ length: 40 }, (_, i) => (i * i + 3 * i) % V)
    for (const calibration of [GATE_CALIBRATION, { scale: 1, prior: -0.5 }]) {
      const logits = tokenByToken(solveGate(statistics, calibration), ids)
      expectNear(logits, naiveBayes(statistics, ids, calibration).flat(), 2e-5)
    }
  })

  it('prefers the owner whose text it reads', () => {
    statistics.forEach(({ tokens }, owner) => {
      const usual = [...tokens.keys()].sort((a, b) => (tokens[b] as number) - (tokens[a] as number))
      const logits = tokenByToken(gate, usual.slice(0, 8)).subarray(-E)
      expect(logits.indexOf(Math.max(...logits))).toBe(owner)
    })
  })

  it('limits the weight of a token by smoothing, and ignores tokens that no owner used', () => {
    const onlyOne = (token: number): RouterStatistics => ({
      tokens: new Float32Array(V).fill(1, token, token + 1),
    })
    const all = [onlyOne(0), onlyOne(1), onlyOne(0)]
    const { weights } = solveGate(all, { scale: 1, prior: 0 })
    // A share of 1 against a share of 0, with the common model at 0.9 / 3 + 0.1 / V.
    expect(weights[1 * E + 1]).toBeCloseTo(Math.log(1 + 0.99 / (0.01 * (0.9 / 3 + 0.1 / V))), 5)
    expect([...weights.subarray(2 * E)]).toEqual(new Array((V - 2) * E).fill(0))
    expect(weights.every(Number.isFinite)).toBe(true)
    const unseen = tokenByToken(solveGate(all), [5, 1, 5])
    expect([...unseen.subarray(0, E)]).toEqual([GATE_CALIBRATION.prior, 0, 0])
    expect(unseen.every(Number.isFinite)).toBe(true)
  })

  const seeds = fc.uniqueArray(fc.integer({ min: 1, max: 1e6 }), { minLength: 3, maxLength: 6 })

  it('does not depend on the order of experts', () => {
    fc.assert(
      fc.property(seeds, (all) => {
        const [own, ...experts] = all.map((seed) => madeUpStatistics(V, seed)) as [
          RouterStatistics,
          ...RouterStatistics[],
        ]
        const n = all.length
        const { weights } = solveGate([own, ...experts])
        const turned = solveGate([own, ...experts.toReversed()]).weights
        const back = weights.map((_, i) => turned[i - (i % n) + ((n - (i % n)) % n)] as number)
        expectNear(back, weights, 1e-6)
      }),
      { seed: 5, numRuns: 50 },
    )
  })
})

/** Logits (B T E) of a gate alone, in one graph. */
async function gateInGraph(engine: Engine, { weights, offsets }: Gate, ids: Int32Array, B: number) {
  const T = ids.length / B
  const compiled = await engine.compile(
    (tensors) => {
      const named = (name: string): Tensor => tensors[name] as Tensor
      const rowScale = named('offsets')
      const init = { weights: named('weights'), offsets: named('offsets'), rowScale }
      return { logits: gateLogits(init, named('ids'), B, T) }
    },
    {
      inputs: {
        ids: { shape: [B, T], dtype: 'int32' },
        weights: { shape: [V, E] },
        offsets: { shape: [E] },
      },
      frozen: {},
    },
  )
  const { logits } = await compiled.run({ ids, weights, offsets })
  await compiled.dispose()
  return logits as Float32Array
}

/** Router logits of every layer (L)(B T E) and the inputs of every router (L)(B T C) in one graph. */
async function graph(engine: Engine, ids: Int32Array, B: number, gate: Gate) {
  const T = ids.length / B
  const compiled = await engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[name] as Tensor
      const { routing, routerInputs } = forward(goldenConfig, weights, weights('ids'), {
        B,
        T,
        E,
        topK: 2,
        bias: true,
        gate: { weights: weights('gate'), offsets: weights('offsets'), rowScale: weights('rowScale') },
      })
      const named = (name: string, all: Tensor[]): [string, Tensor][] => all.map((x, i) => [`${name}${i}`, x])
      return Object.fromEntries([
        ...named(
          'z',
          routing.map(({ logits }) => logits),
        ),
        ...named('u', [...routerInputs]),
      ])
    },
    {
      inputs: {
        ids: { shape: [B, T], dtype: 'int32' },
        gate: { shape: [V, E] },
        offsets: { shape: [E] },
        rowScale: { shape: [] },
      },
      frozen: Object.fromEntries(params),
    },
  )
  const { weights, offsets, rowScale } = gate
  const out = await compiled.run({ ids, gate: weights, offsets, rowScale: Float32Array.of(rowScale) })
  await compiled.dispose()
  return out
}

it.for(absent)('a gate in a graph on $name', ({ reason }, { skip }) => skip(reason))

describe.each(present)('a gate in a graph on $label', ({ engine }) => {
  const B = 2
  const T = 11
  const ids = Int32Array.from({ length: B * T }, (_, i) => (7 * i + i * i + 3) % V)
  const sequences = [ids.subarray(0, T), ids.subarray(T)]

  it('has the same logits as token by token', async () => {
    const logits = await gateInGraph(engine, gate, ids, B)
    expectNear(
      logits,
      sequences.flatMap((part) => [...tokenByToken(gate, part)]),
      1e-5,
    )
  })

  it.each([0, 0.5])(
    'is added in every layer to %d times the logits of the rows, and starts anew in each sequence',
    async (rowScale) => {
      const out = await graph(engine, ids, B, { ...gate, rowScale })
      const gated = sequences.flatMap((part) => naiveBayes(statistics, part, GATE_CALIBRATION).flat())
      for (let layer = 0; layer < L; layer++) {
        const u = out[`u${layer}`] as Float32Array
        const rows = params.get(routerName(layer))?.data as Float32Array
        const bias = [0, -0.3, 0]
        const expected = gated.map((logit, i) => {
          const [row, e] = [Math.floor(i / E), i % E]
          let z = bias[e] as number
          for (let c = 0; c < C; c++) z += (rows[e * C + c] as number) * (u[row * C + c] as number)
          return logit + rowScale * z
        })
        expectNear(out[`z${layer}`] as Float32Array, expected, 2e-4)
      }
    },
  )
})
