/** A gate solved from statistics: its definition, the same in a graph, where tokens are decoded, and by selection. */
import type { Tensor } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { referenceExpert } from '../scripts/bench/inference/reference-models.ts'
import {
  type AcceptedExpert,
  type Composition,
  compose,
  type Selection,
  selectionRouting,
} from '../src/composition/compose.ts'
import { digestOf } from '../src/lib/bytes.ts'
import { limit } from '../src/lib/limits.ts'
import { createEvaluator } from '../src/model/evaluate.ts'
import { biasName, type Param, routerName } from '../src/model/params.ts'
import { LEFT_OUT } from '../src/model/router.ts'
import { mulberry32 } from '../src/model/sampling.ts'
import { type Gate, gateToken, type RouterStatistics, solveGate } from '../src/model/solved-router.ts'
import { forward } from '../src/model/transformer.ts'
import type { Engine } from '../src/tensor/engine.ts'
import { absent, onnx, present } from './support/engines.ts'
import { goldenConfig, goldenMixture, goldenPublic } from './support/golden.ts'
import { DecayedMean, madeUpStatistics } from './support/router-statistics.ts'

const { hiddenSize: C, numHiddenLayers: L, vocabSize: V } = goldenConfig
const E = 3
const statistics = Array.from({ length: E }, (_, e) => madeUpStatistics(C, e + 1))
const gate = solveGate(C, statistics)
const params = new Map<string, Param>(goldenMixture([0, 1, 2]))
for (let layer = 0; layer < L; layer++) {
  params.set(biasName(layer), { shape: [E], data: Float32Array.of(0, -0.3, 0.2) })
}

/** logits (E) of a feature. */
function logitsOf({ weights, offsets }: Gate, feature: Float32Array): number[] {
  return Array.from(offsets, (offset, e) =>
    feature.reduce((sum, value, i) => sum + (weights[e * C + i] as number) * value, offset),
  )
}

/** By definition: logits (T, E) of the streams u (T, C) of one sequence. */
function definition(gate: Gate, u: Float32Array): number[][] {
  const mean = new DecayedMean(C)
  const feature = new Float32Array(C)
  return Array.from({ length: u.length / C }, (_, t) => {
    mean.next(u.subarray(t * C, (t + 1) * C), feature)
    return logitsOf(gate, feature)
  })
}

function expectNear(actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  expect(actual).toHaveLength(expected.length)
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - (actual[i] as number))))
  expect(worst).toBeLessThan(tolerance)
}

describe('a gate', () => {
  it('prefers the owner whose mean the feature is', () => {
    statistics.forEach(({ mean }, owner) => {
      const logits = logitsOf(gate, mean)
      expect(logits.indexOf(Math.max(...logits))).toBe(owner)
    })
  })

  it('is solved though a covariance is a little short of positive, and not of what is no number', () => {
    const [one, ...others] = statistics.map(({ second, mean }) => ({ second: second.slice(), mean })) as [
      RouterStatistics,
      ...RouterStatistics[],
    ]
    for (const { second, mean } of [one, ...others]) second[0] = (mean[0] as number) ** 2 - 0.01
    const { weights, offsets } = solveGate(C, [one, ...others])
    expect([...weights, ...offsets].every(Number.isFinite)).toBe(true)
    one.second[5] = Number.NaN
    expect(() => solveGate(C, [one, ...others])).toThrow(RangeError)
  })

  it('gives token by token what it gives of the decayed mean, and leaves out what a mask leaves out', () => {
    const u = Float32Array.from({ length: 9 * C }, (_, i) => Math.sin(i * i) * (1 + (i % 5)))
    const sums = new Float32Array(9 * E)
    const logits = new Float32Array(9 * E)
    const mask = Float32Array.of(0, 0, LEFT_OUT)
    for (let t = 0; t < 9; t++) gateToken(gate, mask, u, t * C, t, sums, logits, t * E)
    const inUse = (row: ArrayLike<number>): number[] => Array.from(row).filter((_, i) => i % E !== 2)
    expectNear(inUse(logits), inUse(definition(gate, u).flat()), 1e-5)
  })
})

/** Router logits of every layer (L)(B T E) and the first router inputs (B T C) in one graph. */
async function graph(engine: Engine, ids: Int32Array, B: number, gate: Gate, mask: Float32Array) {
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
        mask: weights('mask'),
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
        mask: { shape: [E] },
        gate: { shape: [E, C] },
        offsets: { shape: [E] },
        rowScale: { shape: [] },
      },
      frozen: Object.fromEntries(params),
    },
  )
  const { weights, offsets, rowScale } = gate
  const out = await compiled.run({ ids, mask, gate: weights, offsets, rowScale: Float32Array.of(rowScale) })
  await compiled.dispose()
  return out
}

it.for(absent)('a gate in a graph on $name', ({ reason }, { skip }) => skip(reason))

describe.each(present)('a gate in a graph on $label', ({ engine }) => {
  it.each([0, 0.5])(
    'is added in every layer to the rows times %d, from a new mean in each sequence',
    async (rowScale) => {
      const B = 2
      const T = 11
      const ids = Int32Array.from({ length: B * T }, (_, i) => (7 * i + 3) % V)
      const out = await graph(engine, ids, B, { ...gate, rowScale }, new Float32Array(E))
      const first = out['u0'] as Float32Array
      const gated = [0, 1].flatMap((b) => definition(gate, first.subarray(b * T * C, (b + 1) * T * C)).flat())
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
const publicStatistics = madeUpStatistics(C, 1)
const [court, hospital, archive] = ['Court', 'Hospital', 'Archive'].map(
  (institution, i): AcceptedExpert => ({
    id: digestOf(Uint8Array.of(i)),
    name: 'text',
    institution,
    peerId: '',
    expert: { ...referenceExpert(goldenConfig, random), statistics: madeUpStatistics(C, i + 2) },
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
})
