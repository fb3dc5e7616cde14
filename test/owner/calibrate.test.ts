import { afterAll, describe, expect, it } from 'vitest'
import { measure } from '../../src/acceptance/measure.ts'
import { loadPublicModel } from '../../src/checkpoint/public-model.ts'
import { compose } from '../../src/composition/compose.ts'
import { ComposedModel } from '../../src/composition/composed-model.ts'
import { FFN_PROJECTIONS, layerName } from '../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import type { HeldOutDocument } from '../../src/model/evaluate.ts'
import type { RouterKind } from '../../src/model/gates.ts'
import { lowRankOf } from '../../src/model/low-rank.ts'
import { type Expert, requireParam } from '../../src/model/params.ts'
import {
  loadParams,
  type Param,
  type Params,
  requireWeight,
  type Weight,
  type WeightMap,
} from '../../src/model/weights.ts'
import {
  type CalibrationInit,
  calibrate,
  MAX_PUBLIC_HARM,
  MAX_PUBLIC_HARM_BY_ROWS,
} from '../../src/owner/calibrate.ts'
import type { Calibration } from '../../src/owner/training-folder.ts'
import { EMBEDDING_WINDOW, embedForRouter } from '../../src/training/router-embedding.ts'
import { routerStatistics } from '../../src/training/router-statistics.ts'
import { loadTinyModel, TINY_DIGEST } from '../support/compositions.ts'
import { onnx } from '../support/engines.ts'
import { cleanUp, SMALL_MODEL } from '../support/folders.ts'
import { goldenConfig as config, goldenPublic } from '../support/golden.ts'
import { madeUpDocuments } from '../support/router-statistics.ts'

afterAll(cleanUp)

const { vocabSize: V, numHiddenLayers: L } = config
const { signal } = new AbortController()
const model = { ...(await loadTinyModel()), config, weights: goldenPublic() }

/** Text that a model of random weights predicts well: what it generates itself. Every token counts as one byte. */
async function generated(): Promise<HeldOutDocument[]> {
  const composition = compose(config, { digest: TINY_DIGEST, weights: model.weights }, [])
  const composed = new ComposedModel(onnx, model, composition, { weights: 'fp32' })
  const sampling = { temperature: 0.3, topP: 1, seed: 2 }
  const completion = {
    prompt: Int32Array.of(model.tokenizer.endOfText),
    maxTokens: 60,
    sampling,
    selection: {},
  }
  const tokens: number[] = []
  for await (const { id } of composed.complete(completion, signal)) tokens.push(id)
  await composed.retire()
  return [{ tokens: Int32Array.from(tokens), bytes: tokens.length }]
}

const publicText = await generated()
const ownText = madeUpDocuments(V, [60], 3).map((tokens) => ({ tokens, bytes: tokens.length }))
const tokensOf = ([document]: HeldOutDocument[]): Int32Array => document?.tokens as Int32Array
const statistics = routerStatistics(V, [tokensOf(ownText)])
/** Only half of the text that this node knows as public is like the held-out text, so an expert can be more like it. */
const publicStatistics = routerStatistics(V, [tokensOf(publicText), tokensOf(ownText)])
const likePublic = routerStatistics(V, [tokensOf(publicText)])
/** A window that repeats the text. */
const windowOf = (text: HeldOutDocument[]): Int32Array => {
  const tokens = tokensOf(text)
  return Int32Array.from({ length: EMBEDDING_WINDOW }, (_, i) => tokens[i % tokens.length] as number)
}
const { constantRows } = await embedForRouter(onnx, config, model.weights, {
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

/**
 * An expert whose FFN is the public one with another sign and scale, with the same router logit for every token, about
 * `logit`.
 */
function expertOf(
  logit: number,
  { config, weights }: { readonly config: ModelConfig; readonly weights: Params } = model,
  rows: readonly Float32Array[] = constantRows,
): Expert<Param> {
  const ffn = new Map(
    Array.from({ length: config.numHiddenLayers }, (_, layer) =>
      FFN_PROJECTIONS.map((projection) => {
        const { shape, data } = requireParam(weights, layerName(layer, `mlp.${projection}.weight`))
        const changed = projection === 'down_proj' ? data.map((x) => -2 * x) : data
        return [`${layer}.${projection}`, { shape, data: changed }] as const
      }),
    ).flat(),
  )
  return { ffn, routerRows: rows.map((row) => row.map((x) => logit * x)), bias: undefined }
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
  const whole = (expert: Expert<Param>): Expert<Param> => expert
  const lowRank = async (expert: Expert<Param>): Promise<Expert> =>
    (await lowRankOf(onnx, expert, model.weights, 4)).expert
  const experts: [string, () => Expert | Promise<Expert>][] = [
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
    const trained = await make()
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
    expect(calibration?.bias).toBeLessThan(0)
    const [rows = 0, solved = 0] = excess
    expect(calibration?.router).toBe(solved > rows ? 'solved' : 'rows')
  })

  it('lowers an expert no more than it must', async () => {
    const trained = await lowRank(expertOf(1))
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
    const trained = { ...expertOf(0), bias: new Float32Array(L).fill(-12), statistics }
    const { expert, calibration } = await calibrate(init, trained)
    expect(expert).toBe(trained)
    expect(calibration).toBeUndefined()
  })

  it('folds the number into the router rows if constant rows allow it', async () => {
    const small = await loadPublicModel(SMALL_MODEL)
    const tokens = Int32Array.from(
      small.tokenizer.encode('a calendar based on lunar cycles and a government'),
    )
    const text = [{ tokens, bytes: 49 }]
    const window = Int32Array.from(
      { length: EMBEDDING_WINDOW },
      (_, i) => tokens[i % tokens.length] as number,
    )
    const source = { own: [window], public: [window] }
    const { constantRows } = await embedForRouter(onnx, small.config, small.weights, source)
    const weights = await loadParams(small.weights)
    const trained = (
      await lowRankOf(onnx, expertOf(1, { config: small.config, weights }, constantRows), weights, 2)
    ).expert
    const there = { ...init, model: small, constantRows, texts: { public: text } }
    const { expert, calibration } = await calibrate(there, trained)
    expect(expert.bias).toBeUndefined()
    const bias = calibration?.bias as number
    expect(expert.routerRows).toEqual(
      trained.routerRows.map((row, layer) =>
        row.map((x, i) => Math.fround(x + bias * (constantRows[layer]?.[i] as number))),
      ),
    )
    expect(calibration?.calibrated.public.after).toBeLessThanOrEqual(
      (1 + MAX_PUBLIC_HARM) * (calibration?.calibrated.public.before as number),
    )
  })

  it('passes through the model only a few times', async () => {
    let passes = 0
    const name = 'model.embed_tokens.weight'
    const embedding = requireWeight(model.weights, name)
    const counted = {
      shape: embedding.shape,
      dtype: 'F32' as const,
      // This model is so small that a pass reads the whole embedding at once.
      read: async (into: Float32Array): Promise<void> => {
        passes++
        into.set(embedding.data)
      },
      readBytes: () => Promise.reject(new Error('values are read, not bytes')),
    }
    const weights: WeightMap = new Map<string, Weight>([...model.weights, [name, counted]])
    const there = { ...init, model: { ...model, weights }, constantRows: undefined }
    const { calibration } = await calibrate(there, { ...expertOf(1), statistics })
    expect(calibration?.bias).toBeLessThan(0)
    // Bisection takes seven passes for each of the two routers, and others compare and check.
    expect(passes).toBeLessThanOrEqual(7)
  })

  it('stops when it is asked to', async () => {
    const stopped = { ...init, signal: AbortSignal.abort(new Error('stopped')) }
    await expect(calibrate(stopped, expertOf(1))).rejects.toThrow('stopped')
  })
})
