import { describe, expect, it } from 'vitest'
import { measure } from '../../src/acceptance/measure.ts'
import { loadPublicModel } from '../../src/checkpoint/public-model.ts'
import { FFN_PROJECTIONS, layerName } from '../../src/lib/tensor-names.ts'
import type { HeldOutDocument } from '../../src/model/evaluate.ts'
import type { RouterKind } from '../../src/model/gates.ts'
import { lowRankOf } from '../../src/model/low-rank.ts'
import { type Expert, requireParam } from '../../src/model/params.ts'
import {
  type CalibrationInit,
  calibrate,
  MAX_PUBLIC_HARM,
  MAX_PUBLIC_HARM_BY_ROWS,
} from '../../src/owner/calibrate.ts'
import type { Calibration } from '../../src/owner/training-folder.ts'
import { EMBEDDING_WINDOW, embedForRouter } from '../../src/training/router-embedding.ts'
import { routerStatistics } from '../../src/training/router-statistics.ts'
import { onnx } from '../support/engines.ts'
import { SMALL_MODEL } from '../support/folders.ts'

const model = await loadPublicModel(SMALL_MODEL)
const { config } = model
const { vocabSize: V, numHiddenLayers: L } = config
const textOf = (text: string): HeldOutDocument[] => {
  const tokens = Int32Array.from(model.tokenizer.encode(text))
  return [{ tokens, bytes: Buffer.byteLength(text) }]
}
const publicText = textOf(
  'lunar calendar (noun): a calendar based on lunar cycles. Our fellow citizens have the right to a government ' +
    'that works for all of the people, and the Congress of the United States has a duty to them.',
)
const ownText = textOf('La durée du travail des salariés à temps complet est fixée par décret.')
const tokensOf = ([document]: HeldOutDocument[]): Int32Array => document?.tokens as Int32Array
const statistics = routerStatistics(V, [tokensOf(ownText)])
/** Only half of the text that this node knows as public is like the held-out text, so an expert can be more like it. */
const publicStatistics = routerStatistics(V, [tokensOf(publicText), tokensOf(ownText)])
const likePublic = routerStatistics(V, [tokensOf(publicText)])
const { signal } = new AbortController()
/** A window that repeats the text. */
const windowOf = (text: HeldOutDocument[]): Int32Array => {
  const tokens = tokensOf(text)
  return Int32Array.from({ length: EMBEDDING_WINDOW }, (_, i) => tokens[i % tokens.length] as number)
}
const { constantRows } = await embedForRouter(onnx, config, model.params, {
  own: [windowOf(ownText)],
  public: [windowOf(publicText)],
})
const init: CalibrationInit = {
  engine: onnx,
  model,
  constantRows,
  publicStatistics: async () => publicStatistics,
  texts: { own: ownText, public: publicText },
  signal,
}

/** An expert whose FFN is a multiple of the public one, with the same router logit for every token, about `logit`. */
function expertOf(logit: number, factor = -2): Expert {
  const ffn = new Map(
    Array.from({ length: L }, (_, layer) =>
      FFN_PROJECTIONS.map((projection) => {
        const { shape, data } = requireParam(model.params, layerName(layer, `mlp.${projection}.weight`))
        const scaled = projection === 'down_proj' ? data.map((x) => factor * x) : data
        return [`${layer}.${projection}`, { shape, data: scaled }] as const
      }),
    ).flat(),
  )
  const rows = constantRows.map((row) => row.map((x) => logit * x))
  return { ffn, routerRows: rows, bias: undefined }
}

/** Relative harm to public text as acceptance measures it. */
async function harmOf(expert: Expert, router: RouterKind): Promise<number> {
  const measuring = {
    engine: onnx,
    publicModel: model,
    topK: 4,
    router: router === 'rows' ? ('rows' as const) : ('auto' as const),
    publicText: async () => publicText,
    ownText: async () => ownText,
    publicStatistics: async () => publicStatistics,
  }
  const { public: loss } = await measure(measuring, [], expert, signal)
  return loss.after / loss.before - 1
}

describe('calibration of a release', () => {
  const whole = (expert: Expert): Expert => expert
  const lowRank = (expert: Expert): Expert => lowRankOf(expert, model.params, 4).expert
  const experts: [string, () => Expert][] = [
    ['a whole expert without statistics', () => whole(expertOf(1))],
    ['a whole expert with statistics', () => ({ ...expertOf(1), statistics })],
    ['a low-rank expert without statistics', () => lowRank(expertOf(1))],
    ['a low-rank expert with statistics', () => lowRank({ ...expertOf(1), statistics })],
    [
      'an expert that harms public text only with a gate',
      () => lowRank({ ...expertOf(-2), statistics: likePublic }),
    ],
  ]

  it.each(experts)('lowers %s until receivers measure little harm to public text', async (_, make) => {
    const trained = make()
    const limits: [RouterKind, number][] =
      trained.statistics === undefined
        ? [['rows', MAX_PUBLIC_HARM]]
        : [
            ['rows', MAX_PUBLIC_HARM_BY_ROWS],
            ['solved', MAX_PUBLIC_HARM],
          ]
    const excess = await Promise.all(
      limits.map(async ([router, limit]) => (await harmOf(trained, router)) / limit),
    )
    expect(Math.max(...excess)).toBeGreaterThan(1)
    const { expert, calibration } = await calibrate(init, trained)
    for (const [router, limit] of limits) expect(await harmOf(expert, router)).toBeLessThanOrEqual(limit)
    expect(expert.bias).toBeUndefined()
    expect(calibration?.bias).toBeLessThan(0)
    const [rows = 0, solved = 0] = excess
    expect(calibration?.router).toBe(solved > rows ? 'solved' : 'rows')
  })

  it('lowers an expert no more than it must', async () => {
    const trained = lowRank(expertOf(1))
    const { expert } = await calibrate({ ...init, constantRows: undefined }, trained)
    expect(await harmOf(expert, 'rows')).toBeLessThanOrEqual(MAX_PUBLIC_HARM)
    const higher = { ...expert, bias: expert.bias?.map((b) => b + 0.125) }
    expect(await harmOf(higher, 'rows')).toBeGreaterThan(MAX_PUBLIC_HARM)
  })

  it('reports the scores on public and own text, before and after', async () => {
    const { calibration } = await calibrate(init, expertOf(1))
    const { uncalibrated, calibrated } = calibration as Calibration
    expect(uncalibrated.public.after).toBeGreaterThan(1.005 * uncalibrated.public.before)
    expect(calibrated.public.after).toBeLessThanOrEqual(1.005 * calibrated.public.before)
    expect(calibrated.own?.before).toBe(uncalibrated.own?.before)
    expect(calibrated.own?.after).not.toBe(uncalibrated.own?.after)
  })

  it('lowers the bias of an expert whose constant rows are not known', async () => {
    const trained = { ...expertOf(1), bias: new Float32Array(L).fill(-0.5) }
    const { expert, calibration } = await calibrate({ ...init, constantRows: undefined }, trained)
    expect(expert.routerRows).toBe(trained.routerRows)
    expect([...(expert.bias as Float32Array)]).toEqual(
      new Array(L).fill(-0.5 + (calibration?.bias as number)),
    )
    expect(await harmOf(expert, 'rows')).toBeLessThanOrEqual(MAX_PUBLIC_HARM)
  })

  it.each([
    ['without statistics', undefined],
    ['with statistics', statistics],
  ])('returns the same expert %s if it harms public text little', async (_, statistics) => {
    const trained = { ...expertOf(-12), statistics }
    const { expert, calibration } = await calibrate(init, trained)
    expect(expert).toBe(trained)
    expect(calibration).toBeUndefined()
  })

  it('stops when it is asked to', async () => {
    const stopped = { ...init, signal: AbortSignal.abort(new Error('stopped')) }
    await expect(calibrate(stopped, expertOf(1))).rejects.toThrow('stopped')
  })
})
