import { describe, expect, it } from 'vitest'
import { referenceExpert } from '../../scripts/bench/inference/reference-models.ts'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { type Composition, compose } from '../../src/composition/compose.ts'
import { type Selection, selectionRouting } from '../../src/composition/selection.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { onnx } from '../support/engines.ts'
import { goldenConfig, goldenPublic } from '../support/golden.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'

const V = goldenConfig.vocabSize
const random = mulberry32(5)
const publicModel = { digest: digestOf(Uint8Array.of(9)), weights: goldenPublic() }
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

/** Text that every test scores. */
const documents = [0, 1].map((seed) => ({
  tokens: Int32Array.from({ length: 30 }, (_, i) => (i * i + 7 * seed) % V),
  bytes: 30,
}))
/** Bits per byte of the text under each selection. */
const score = async (composition: Composition, selections: Selection[]): Promise<number[]> => {
  const { weights, topK, experts } = composition
  const init = { E: experts.length + 1, topK, T: 16, endOfText: 0 }
  const evaluator = createEvaluator(onnx, goldenConfig, weights, init)
  const found: number[] = []
  for (const selection of selections) {
    const { bitsPerByte } = await evaluator.evaluate(documents, selectionRouting(composition, selection))
    found.push(bitsPerByte)
  }
  await evaluator.dispose()
  return found
}

describe('a composition with router statistics', () => {
  const all = [court, hospital, archive]

  it('solves a gate if every expert has statistics, and has another digest than by rows', () => {
    const solved = composed(all)
    expect([solved.router, solved.routerNote]).toEqual(['solved', undefined])
    expect(composed(all.toReversed()).digest).toBe(solved.digest)
    const rows = composed(all, { router: 'rows' })
    expect([rows.router, rows.routerNote, rows.gates]).toEqual(['rows', undefined, undefined])
    expect(rows.digest).not.toBe(solved.digest)
    expect(compose(goldenConfig, publicModel, all, 2).digest).toBe(rows.digest)
  })

  it('solves a gate beside an expert without statistics, and names that expert', () => {
    const mixed = composed([court, without(hospital), archive])
    expect([mixed.router, mixed.experts.length]).toEqual(['solved', 3])
    expect(mixed.routerNote).toMatch(/^routed by their router rows alone.*Hospital\/text/)
    expect(mixed.routerNote).not.toContain('Court')
    expect(mixed.digest).not.toBe(composed([court, without(hospital), archive], { router: 'rows' }).digest)
  })

  it('routes by rows if no expert or no public text has statistics, and names whose are missing', () => {
    const none = composed([without(court), without(hospital)])
    expect([none.router, none.experts.length]).toEqual(['rows', 2])
    expect(none.routerNote).toMatch(
      /^routed by router rows.*Court\/text, Hospital\/text|Hospital\/text, Court\/text/,
    )
    for (const router of ['auto', 'solved'] as const) {
      const here = composed(all, { publicStatistics: undefined, router })
      expect([here.router, here.experts.length]).toEqual(['rows', 3])
      expect(here.routerNote).toContain('public text')
    }
  })

  it('leaves out experts without statistics if the router must be solved', () => {
    const solved = composed([court, without(hospital), archive], { router: 'solved' })
    expect(solved.digest).toBe(composed([court, archive]).digest)
    expect(solved.routerNote).toMatch(/left out.*Hospital\/text/)
  })

  it('gives every expert the loss that it had before one without statistics was added that is never chosen', async () => {
    const { expert } = without(hospital)
    const dormant: AcceptedExpert = {
      ...without(hospital),
      expert: {
        ...expert,
        routerRows: expert.routerRows.map((row) => row.map(() => 0)),
        bias: new Float32Array(goldenConfig.numHiddenLayers).fill(-30),
      },
    }
    const selections = [{}, { include: ['Court'] }, { include: ['Archive'] }]
    const before = await score(composed([court, archive]), selections)
    const after = await score(composed([court, archive, dormant]), selections)
    after.forEach((bits, i) => {
      expect(bits).toBeCloseTo(before[i] as number, 5)
    })
    const byRows = await score(composed([court, archive], { router: 'rows' }), selections)
    expect(byRows[0]).not.toBeCloseTo(before[0] as number, 3)
  })

  it('gives experts without statistics the loss that they had before the first one with statistics was added', async () => {
    const plain = [without(court), without(hospital)]
    const before = await score(composed(plain), [{}])
    const both = composed([...plain, archive])
    expect(both.router).toBe('solved')
    const [withoutArchive] = await score(both, [{ exclude: ['Archive'] }])
    expect(withoutArchive).toBeCloseTo(before[0] as number, 5)
  })

  it('scores a selection like a composition of only the selected experts', async () => {
    const [whole, left, alone] = await score(composed(all), [
      {},
      { exclude: ['Hospital'] },
      { include: ['Court'] },
    ])
    expect(left).toBeCloseTo((await score(composed(all.filter((x) => x !== hospital)), [{}]))[0] as number, 5)
    expect(alone).toBeCloseTo((await score(composed([court]), [{}]))[0] as number, 5)
    expect(new Set([whole, left, alone].map((bits) => bits?.toFixed(3))).size).toBe(3)
  })
})
