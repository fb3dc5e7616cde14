import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { type MeasureInit, measure } from '../../src/acceptance/measure.ts'
import type { PublicModel } from '../../src/checkpoint/public-model.ts'
import { compose } from '../../src/composition/compose.ts'
import { ComposedModel } from '../../src/composition/composed-model.ts'
import type { HeldOutDocument } from '../../src/model/evaluate.ts'
import { ROUTER_CHOICES, type RouterChoice } from '../../src/model/gates.ts'
import { loadTinyModel, TINY_DIGEST, tinyExperts } from '../support/compositions.ts'
import { onnx } from '../support/engines.ts'
import { cleanUp } from '../support/folders.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'
import { TINY } from '../support/tiny-model.ts'

const V = TINY.vocabSize
const publicStatistics = madeUpStatistics(V, 1)
const signal = new AbortController().signal
/** Top-2 of up to five experts, so that the choice of experts counts. */
const TOP_K = 2
const text = (seed: number): HeldOutDocument[] => [
  { tokens: Int32Array.from({ length: 100 }, (_, i) => (i * i * 31 + 7 * seed) % V), bytes: 300 },
]
const publicText = text(1)
const ownText = text(2)

let publicModel: PublicModel
beforeAll(async () => {
  publicModel = await loadTinyModel()
})
afterAll(cleanUp)

/** Experts of random weights; `S` has router statistics, `-` has none. */
function experts(kinds: string): AcceptedExpert[] {
  const names = [...kinds].map((_, i) => `Institution ${i}`)
  return tinyExperts(...names).map((one) => {
    const index = names.indexOf(one.institution)
    const statistics = kinds[index] === 'S' ? madeUpStatistics(V, index + 2) : undefined
    return { ...one, expert: { ...one.expert, statistics } }
  })
}

const measuring = (router: RouterChoice): MeasureInit => ({
  engine: onnx,
  publicModel,
  topK: TOP_K,
  router,
  publicText: async () => publicText,
  ownText: async () => ownText,
  publicStatistics: async () => publicStatistics,
})

/** Bits per byte of a composition as a node serves it, on public and on own text. */
async function served(accepted: AcceptedExpert[], router: RouterChoice): Promise<number[]> {
  const model = { digest: TINY_DIGEST, weights: publicModel.weights }
  const composition = compose(TINY, model, accepted, TOP_K, { router, publicStatistics })
  const composed = new ComposedModel(onnx, publicModel, composition, { weights: 'fp32' })
  const scores = await composed.evaluate([publicText, ownText], [{}], signal)
  await composed.retire()
  return scores.map(([score]) => score?.bitsPerByte as number)
}

describe('a measurement', () => {
  /** Statistics of the experts in use, and of the candidate, which is the last. */
  const kinds = ['SS', 'SSS', 'SS-', '--S', '--', 'S--', '-S', 'S']
  it.each(ROUTER_CHOICES.flatMap((router) => kinds.map((kind) => [router, kind] as const)))(
    'has the losses of the compositions that are served without and with the candidate: %s, %s',
    async (router, kind) => {
      const all = experts(kind)
      const candidate = all.find(({ institution }) => institution === `Institution ${kind.length - 1}`)
      const others = all.filter((one) => one !== candidate)
      const found = await measure(
        measuring(router),
        others.map(({ expert }) => expert),
        (candidate as AcceptedExpert).expert,
        signal,
      )
      const [publicBefore, ownBefore] = await served(others, router)
      const [publicAfter, ownAfter] = await served(all, router)
      expect(found.public.before).toBeCloseTo(publicBefore as number, 5)
      expect(found.public.after).toBeCloseTo(publicAfter as number, 5)
      expect(found.own?.before).toBeCloseTo(ownBefore as number, 5)
      expect(found.own?.after).toBeCloseTo(ownAfter as number, 5)
    },
  )
})
