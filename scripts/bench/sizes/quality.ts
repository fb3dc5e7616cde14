/**
 * Measures how many bits per byte coded weights cost: trains the demo's three experts on models/small, composes them as a
 * node does, and scores held-out text with the serving of large models, once with each format of weights.
 */
import { join } from 'node:path'
import { loadPublicModel } from '../../../src/checkpoint/public-model.ts'
import { type Composition, compose } from '../../../src/composition/compose.ts'
import { selectionRouting } from '../../../src/composition/selection.ts'
import { createGenerator } from '../../../src/inference/generate.ts'
import type { WeightFormat } from '../../../src/inference/weight-format.ts'
import { digestOf, utf8 } from '../../../src/lib/bytes.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import type { HeldOutDocument } from '../../../src/model/evaluate.ts'
import { ownHeldOut, publicHeldOut } from '../../../src/owner/held-out.ts'
import { publicStatistics } from '../../../src/owner/statistics.ts'
import { loadTrained } from '../../../src/owner/training-folder.ts'
import { homePaths } from '../../../src/store/home.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { foundHome, ROOT } from '../node-process.ts'
import type { Rows } from './findings.ts'
import { runMeasured } from './measured-process.ts'
import { THREADS } from './serve-rows.ts'

/** The demo's institutions, and the steps of its trainings. */
const INSTITUTIONS = ['hospital', 'archive', 'university'] as const
const STEPS = 100
/** Bytes of each text. */
const SCORED_BYTES = 65_536

export interface Quality {
  /** Bits per byte with coded weights divided by those with float32, minus 1. */
  readonly int8: number
  readonly int4: number
}

export async function measureQuality(work: string, rows: Rows, steps = STEPS): Promise<Quality> {
  const home = join(work, 'small')
  const { publicModel, training } = homePaths(home)
  const { signal } = new AbortController()
  await foundHome(home)
  for (const name of INSTITUTIONS) {
    const data = join(ROOT, 'examples', name, 'text')
    await runMeasured(['train', '--name', name, '--data', data, '--steps', String(steps), '--home', home])
    rows.say(`trained ${name}`)
  }
  const model = await loadPublicModel(publicModel)
  const experts = await Promise.all(
    INSTITUTIONS.map(async (name) => {
      const { expert } = await loadTrained(model, training, name)
      return { id: digestOf(utf8(name)), name, institution: name, peerId: name, expert }
    }),
  )
  const base = { digest: digestOf(utf8('public')), weights: model.weights }
  const composition = compose(model.config, base, experts, undefined, {
    publicStatistics: await publicStatistics(model, training, signal),
  })
  const texts = [await publicHeldOut(model, training, signal, SCORED_BYTES)]
  for (const name of INSTITUTIONS) texts.push(await ownHeldOut(model, training, name, SCORED_BYTES))
  const bits: Partial<Record<WeightFormat, number>> = {}
  for (const format of ['fp32', 'int8', 'int4'] as const) {
    bits[format] = await bitsPerByte(model.config, composition, model.tokenizer.endOfText, texts, format)
    rows.say(`${bits[format]?.toFixed(5)} bits per byte with ${format}`)
  }
  const lossOf = (format: 'int8' | 'int4'): number => (bits[format] as number) / (bits.fp32 as number) - 1
  return { int8: lossOf('int8'), int4: lossOf('int4') }
}

/** Mean over the texts. */
async function bitsPerByte(
  config: ModelConfig,
  composition: Composition,
  endOfText: number,
  texts: readonly (readonly HeldOutDocument[])[],
  weights: WeightFormat,
): Promise<number> {
  const generator = await createGenerator(onnxEngine({ threads: THREADS }), config, composition.weights, {
    E: composition.experts.length + 1,
    topK: composition.topK,
    contextLength: config.maxPositionEmbeddings,
    weights,
    way: 'held',
    prefixCacheBytes: 0,
  })
  try {
    const routing = selectionRouting(composition, {})
    let sum = 0
    for (const documents of texts) {
      let nats = 0
      let bytes = 0
      for (const { tokens, bytes: size } of documents) {
        bytes += size
        // Each window starts with the token before it, so that every token is predicted exactly once.
        const room = generator.contextLength - 1
        for (let start = 0; start < tokens.length; start += room) {
          const before = start === 0 ? endOfText : (tokens[start - 1] as number)
          const window = Int32Array.of(before, ...tokens.subarray(start, start + room))
          nats += await generator.score(window, routing)
        }
      }
      sum += nats / Math.LN2 / bytes
    }
    return sum / texts.length
  } finally {
    await generator.dispose()
  }
}
