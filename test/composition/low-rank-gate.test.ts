/** A low-rank expert under a solved gate is served and evaluated like the full-rank expert that its factors make. */
import { describe, expect, it } from 'vitest'
import { referenceExpert } from '../../scripts/bench/inference/reference-models.ts'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { type Composition, compose } from '../../src/composition/compose.ts'
import { type Selection, selectionRouting } from '../../src/composition/selection.ts'
import { createGenerator } from '../../src/inference/generate.ts'
import type { GeneratedToken } from '../../src/inference/request-stream.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { lowRankOf } from '../../src/model/low-rank.ts'
import { materialised } from '../../src/model/merged-weight.ts'
import { expertRank, lowRankExperts } from '../../src/model/params.ts'
import type { SequenceRouting } from '../../src/model/routing-plan.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { goldenConfig, goldenPublic } from '../support/golden.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'

const engine = onnxEngine({ threads: 1 })
const { vocabSize: V } = goldenConfig
const params = goldenPublic()
const random = mulberry32(11)
const members = ['Court', 'Hospital'].map(async (institution, i): Promise<AcceptedExpert> => {
  const whole = { ...referenceExpert(goldenConfig, random), statistics: madeUpStatistics(V, i + 4) }
  return {
    id: digestOf(Uint8Array.of(i)),
    name: 'text',
    institution,
    peerId: '',
    expert: institution === 'Court' ? (await lowRankOf(engine, whole, params, 4)).expert : whole,
  }
})
const [court, hospital] = (await Promise.all(members)) as [AcceptedExpert, AcceptedExpert]
const composed = (first: AcceptedExpert): Composition =>
  compose(goldenConfig, { digest: digestOf(Uint8Array.of(9)), weights: params }, [first, hospital], 2, {
    publicStatistics: madeUpStatistics(V, 1),
  })
const low = composed(court)
const whole = composed({ ...court, expert: materialised(court.expert, params) })
const E = 3
/** Index of the low-rank expert in the mixture. */
const LOW = 1 + low.experts.indexOf(court)

const text = Int32Array.from({ length: 40 }, (_, i) => (i * i + 5) % V)
const selections: Selection[] = [{}, {}, { exclude: ['Hospital'] }, { exclude: ['Court'] }]

/** Greedy tokens of four concurrent requests, whose prompts take several runs, and the loss of a text in nats. */
async function served(
  composition: Composition,
  routingOf: (selection: Selection) => SequenceRouting,
  vectorThreads: number,
) {
  const { topK } = composition
  const generator = await createGenerator(engine, goldenConfig, composition.weights, {
    E,
    topK,
    contextLength: 60,
    prefillTokens: 8,
    vectorThreads,
  })
  const tokens = await Promise.all(
    selections.map(async (selection, i) => {
      const found: GeneratedToken[] = []
      const request = {
        prompt: text.subarray(i, 3 + 9 * (i + 1)),
        maxTokens: 10,
        sampling: { temperature: 0, topP: 1, seed: 1 },
        endsOfText: [],
        ...routingOf(selection),
      }
      for await (const token of generator.generate(request)) found.push(token)
      return found
    }),
  )
  const nats = await generator.score(text, routingOf({}))
  await generator.dispose()
  return {
    ids: tokens.map((list) => list.map(({ id }) => id)),
    shares: tokens.map((list) => list.map(({ shares }) => [...shares])),
    nats,
  }
}

/** Maximum absolute difference. */
const maxDifference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((x, i) => Math.abs(x - (b[i] as number))))

describe('a low-rank expert beside a full-rank one, both with router statistics', () => {
  it('is composed under a gate as factors', () => {
    expect([low.router, whole.router, low.digest]).toEqual(['solved', 'solved', whole.digest])
    expect([...lowRankExperts(low.weights, E)]).toEqual([LOW])
    expect(lowRankExperts(whole.weights, E).size).toBe(0)
    expect(expertRank(court.expert)).toBe(4)
  })

  it.each([0, 2])('generates the tokens of the full-rank expert, decoded by %i threads', async (threads) => {
    const gated = (composition: Composition) => (selection: Selection) =>
      selectionRouting(composition, selection)
    const found = await served(low, gated(low), threads)
    const expected = await served(whole, gated(whole), threads)
    expect(found.ids).toEqual(expected.ids)
    expect(maxDifference(found.shares.flat(2), expected.shares.flat(2))).toBeLessThan(1e-4)
    expect(found.nats).toBeCloseTo(expected.nats, 3)
    const lowShares = found.shares.map((list) => Math.max(...list.map((shares) => shares[LOW] as number)))
    expect(lowShares.map((share) => share > 0)).toEqual([true, true, true, false])
    // Router rows alone give other shares, so the gate has an effect.
    const rows = await served(low, (selection) => ({ mask: gated(low)(selection).mask }), threads)
    expect(maxDifference(rows.shares.flat(2), found.shares.flat(2))).toBeGreaterThan(0.05)
  })

  it('is evaluated like the full-rank expert, layer by layer', async () => {
    const evaluated = async (composition: Composition, selection: Selection) => {
      const init = { E, topK: composition.topK, T: 16, endOfText: 0 }
      const evaluator = createEvaluator(engine, goldenConfig, composition.weights, init)
      const routing = selectionRouting(composition, selection)
      const result = await evaluator.evaluate([{ tokens: text, bytes: 40 }], routing)
      await evaluator.dispose()
      return result
    }
    for (const selection of [{}, { exclude: ['Hospital'] }]) {
      const found = await evaluated(low, selection)
      const expected = await evaluated(whole, selection)
      expect(found.bitsPerByte).toBeCloseTo(expected.bitsPerByte, 4)
      expect(maxDifference(found.layerShares.flat(), expected.layerShares.flat())).toBeLessThan(1e-4)
      expect(found.layerShares.every((shares) => (shares[LOW] as number) > 0)).toBe(true)
    }
  })
})
