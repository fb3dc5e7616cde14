/** A gate solved from statistics: its definition, the same in a graph, where tokens are decoded, and by selection. */

import type { Tensor } from '@tensorflow/tfjs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { referenceExpert } from '../../scripts/bench/inference/reference-models.ts'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { type Composition, compose } from '../../src/composition/compose.ts'
import { type Selection, selectionRouting } from '../../src/composition/selection.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { biasName, routerName } from '../../src/lib/tensor-names.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { gateLogits } from '../../src/model/gate-graph.ts'
import { Gates } from '../../src/model/gates.ts'
import type { Param } from '../../src/model/params.ts'
import { LEFT_OUT } from '../../src/model/router.ts'
import {
  GATE_CALIBRATION,
  type Gate,
  gateToken,
  type RouterStatistics,
  solveGate,
} from '../../src/model/solved-router.ts'
import { forward } from '../../src/model/transformer.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { absent, onnx, present } from '../support/engines.ts'
import { goldenConfig, goldenMixture, goldenPublic } from '../support/golden.ts'
import { madeUpStatistics, naiveBayes } from '../support/router-statistics.ts'

const { hiddenSize: C, numHiddenLayers: L, vocabSize: V } = goldenConfig
const E = 3
const statistics = Array.from({ length: E }, (_, e) => madeUpStatistics(V, e + 1))
const gate = solveGate(statistics)
const params = new Map<string, Param>(goldenMixture([0, 1, 2]))
for (let layer = 0; layer < L; layer++) {
  params.set(biasName(layer), { shape: [E], data: Float32Array.of(0, -0.3, 0.2) })
}

/** Logits (T E) of a gate, one token after the other. */
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
  // Tokens: of both texts, of the public one, of the owner's, of neither.
  const two = [{ tokens: Float32Array.of(0.5, 0.5, 0, 0) }, { tokens: Float32Array.of(0.5, 0, 0.5, 0) }]
  // 0.99 * 0.5 + 0.01 * (0.9 * 0.25 + 0.1 / 4) against 0.01 * (0.9 * 0.25 + 0.1 / 4).
  const odds = Math.log(0.4975 / 0.0025)

  it('is the smoothed log-odds of each token, worked out by hand', () => {
    const plain = solveGate(two, { scale: 1, prior: 0 })
    expectNear(plain.weights, [0, 0, 0, -odds, 0, odds, 0, 0], 1e-6)
    expect([...plain.offsets, plain.rowScale]).toEqual([0, 0, 1])
    const calibrated = solveGate(two, { scale: 0.25, prior: 3 })
    expectNear(calibrated.weights, [0, 0, 0, -odds / 4, 0, odds / 4, 0, 0], 1e-6)
    expect([...calibrated.offsets, calibrated.rowScale]).toEqual([3, 0, 1])
    expect(solveGate(two)).toEqual(solveGate(two, GATE_CALIBRATION))
  })

  it('forgets evidence by a tenth with each token, but not that text is public until told otherwise', () => {
    const calibration = { scale: 1, prior: 2 }
    const logits = tokenByToken(solveGate(two, calibration), [2, 0, 3, 0])
    expectNear(logits, [2, odds, 2, 0.9 * odds, 2, 0.81 * odds, 2, 0.729 * odds], 1e-5)
    const long = tokenByToken(solveGate(two, calibration), [2, ...new Array<number>(199).fill(0)])
    expectNear(long.subarray(-2), [2, 0], 1e-6)
  })

  it('adds up the evidence of the tokens so far, as the definition says', () => {
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

  it('gives no token more weight than smoothing leaves it, used by all, some or none', () => {
    const onlyOne = (token: number): RouterStatistics => ({
      tokens: new Float32Array(V).fill(1, token, token + 1),
    })
    const all = [onlyOne(0), onlyOne(1), onlyOne(0)]
    const { weights } = solveGate(all, { scale: 1, prior: 0 })
    // A share of 1 against a share of 0 that has 1/3 of all text in common with it.
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

  it('without some experts is, bit for bit, the gate of the others alone', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 31 }), (all, leave) => {
        const experts = all.map((seed) => madeUpStatistics(V, seed))
        const stays = experts.map((_, e) => e === 0 || ((leave >> (e - 1)) & 1) === 0)
        const mask = Float32Array.from(stays, (stay) => (stay ? 0 : LEFT_OUT))
        const found = new Gates(experts).gate(mask)
        const inUse = (values: Float32Array): number[] => [...values].filter((_, i) => stays[i % all.length])
        const expected = solveGate(experts.filter((_, e) => stays[e]))
        expect(inUse(found.weights)).toEqual([...expected.weights])
        expect(inUse(found.offsets)).toEqual([...expected.offsets])
        expect(found.weights).toHaveLength(V * all.length)
        expect(found.weights.every((weight, i) => stays[i % all.length] || weight === 0)).toBe(true)
      }),
      { seed: 6, numRuns: 50 },
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

  it('gives whole sequences what it gives token by token', async () => {
    const logits = await gateInGraph(engine, gate, ids, B)
    expectNear(
      logits,
      sequences.flatMap((part) => [...tokenByToken(gate, part)]),
      1e-5,
    )
  })

  it.each([0, 0.5])(
    'is added in every layer to the rows times %d, from nothing in each sequence',
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

const random = mulberry32(5)
const publicModel = { digest: digestOf(Uint8Array.of(9)), params: goldenPublic() }
const publicStatistics = madeUpStatistics(V, 1)
const [court, hospital, archive] = ['Court', 'Hospital', 'Archive'].map(
  (institution, i): AcceptedExpert => ({
    id: digestOf(Uint8Array.of(i)),
    name: 'text',
    institution,
    peerId: '',
    expert: { ...referenceExpert(goldenConfig, random), statistics: madeUpStatistics(V, i + 2) },
  }),
) as [AcceptedExpert, AcceptedExpert, AcceptedExpert]
const without = ({ expert, ...rest }: AcceptedExpert): AcceptedExpert => ({
  ...rest,
  expert: { ...expert, statistics: undefined },
})
const composed = (accepted: AcceptedExpert[], options = {}): Composition =>
  compose(goldenConfig, publicModel, accepted, 2, { publicStatistics, ...options })

describe('a composition', () => {
  const all = [court, hospital, archive]

  it('solves where everybody brings statistics, and its digest says so', () => {
    const solved = composed(all)
    expect([solved.router, solved.routerNote]).toEqual(['solved', undefined])
    expect(composed(all.toReversed()).digest).toBe(solved.digest)
    const rows = composed(all, { router: 'rows' })
    expect([rows.router, rows.routerNote, rows.gates]).toEqual(['rows', undefined, undefined])
    expect(rows.digest).not.toBe(solved.digest)
    expect(compose(goldenConfig, publicModel, all, 2).digest).toBe(rows.digest)
  })

  it('routes by rows where somebody does not, and says who', () => {
    const mixed = composed([court, without(hospital), archive])
    expect([mixed.router, mixed.experts.length]).toEqual(['rows', 3])
    expect(mixed.routerNote).toContain('Hospital/text')
    expect(mixed.routerNote).not.toContain('Court')
    const here = composed(all, { publicStatistics: undefined, router: 'solved' })
    expect([here.router, here.experts.length]).toEqual(['rows', 3])
    expect(here.routerNote).toContain('public text')
  })

  it('leaves them out where it is to be solved', () => {
    const solved = composed([court, without(hospital), archive], { router: 'solved' })
    expect(solved.digest).toBe(composed([court, archive]).digest)
    expect(solved.routerNote).toMatch(/left out.*Hospital\/text/)
  })

  it('answers as if an expert left out had never been composed', async () => {
    const documents = [0, 1].map((seed) => ({
      tokens: Int32Array.from({ length: 30 }, (_, i) => (i * i + 7 * seed) % V),
      bytes: 30,
    }))
    const score = async (composition: Composition, selections: Selection[]): Promise<number[]> => {
      const { params, topK, experts } = composition
      const init = { E: experts.length + 1, topK, B: 2, T: 16, endOfText: 0, gate: true }
      const evaluator = await createEvaluator(onnx, goldenConfig, params, init)
      const found: number[] = []
      for (const selection of selections) {
        const { bitsPerByte } = await evaluator.evaluate(documents, selectionRouting(composition, selection))
        found.push(bitsPerByte)
      }
      await evaluator.dispose()
      return found
    }
    const [whole, left, alone] = await score(composed(all), [
      {},
      { exclude: ['Hospital'] },
      { include: ['Court'] },
    ])
    expectNear([left as number], await score(composed(all.filter((x) => x !== hospital)), [{}]), 1e-5)
    expectNear([alone as number], await score(composed([court]), [{}]), 1e-5)
    expect(new Set([whole, left, alone].map((bits) => bits?.toFixed(3))).size).toBe(3)
  })

  it('keeps the gates of the selections used last', () => {
    const { gates } = compose(
      goldenConfig,
      publicModel,
      Array.from({ length: 6 }, (_, i) => ({ ...court, id: digestOf(Uint8Array.of(i)) })),
      2,
      { publicStatistics },
    )
    const gateOf = (set: number): Gate | undefined =>
      gates?.gate(
        Float32Array.from({ length: 7 }, (_, e) => (e === 0 || (set >> (e - 1)) & 1 ? 0 : LEFT_OUT)),
      )
    const first = gateOf(0)
    const second = gateOf(1)
    for (let set = 2; set < limit('keptGates'); set++) gateOf(set)
    expect(gateOf(0)).toBe(first)
    gateOf(limit('keptGates'))
    expect(gateOf(0)).toBe(first)
    expect(gateOf(1)).not.toBe(second)
    expect(gateOf(1)).toEqual(second)
  })

  it('keeps fewer where they are large, but always the latest', () => {
    const gateBytes = (V: number): number => 4 * 4 * V
    const owners = (V: number) => {
      const tokens = new Float32Array(V).fill(1 / V)
      return [1, 2, 3, 4].map(() => ({ tokens }))
    }
    const masks = [1, 2, 3].map((left) => new Float32Array(4).fill(LEFT_OUT, left, left + 1))
    const two = new Gates(owners(limit('keptGateBytes') / gateBytes(1) / 2))
    const [first, second, third] = masks.map((mask) => two.gate(mask))
    // Compared here: `toBe` would look through millions of values for a hint.
    const isKept = (gates: Gates, index: number, gate: Gate | undefined): boolean =>
      gates.gate(masks[index] as Float32Array) === gate
    expect(isKept(two, 1, second)).toBe(true)
    expect(isKept(two, 2, third)).toBe(true)
    expect(isKept(two, 0, first)).toBe(false)
    const none = new Gates(owners(limit('keptGateBytes') / gateBytes(1) + 1))
    const only = none.gate(masks[0] as Float32Array)
    expect(isKept(none, 0, only)).toBe(true)
    expect(isKept(none, 1, only)).toBe(false)
    expect(isKept(none, 0, only)).toBe(false)
  })
})
