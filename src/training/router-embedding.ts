/**
 * Computes the initial router rows: the domain embedding of the owner's text minus those of public text and of
 * background, in the hidden states that each layer's router reads, whitened by their second moments (section 3.3.2 of
 * the FlexOlmo paper uses an embedding model that fits only large models). Without whitening, the few large
 * directions of the hidden states hide the difference; a whitened row separates the texts from the first step, so
 * that public text keeps its expert. Background is random tokens. It stands for the domains of other owners, whose
 * text no owner sees; without it a row selects its expert for everything that is not public text. Fixing the public
 * row at zero loses nothing, since softmax depends on differences only. Runs layer by layer, so memory does not grow with
 * the number of layers. Does not know files.
 */

import { matMul, sum, type Tensor } from '@tensorflow/tfjs'
import { mulberry32 } from '../lib/random.ts'
import type { ModelConfig } from '../model/config.ts'
import type { EvaluationOptions } from '../model/evaluate.ts'
import { mixtureWeights, zeroRows } from '../model/params.ts'
import type { WeightMap } from '../model/weights.ts'
import { WindowModel } from '../model/window-model.ts'
import { beginPass } from '../model/window-pass.ts'
import type { WindowBatch } from '../model/window-streams.ts'
import type { Compiled, Engine } from '../tensor/engine.ts'
import { solvePair } from './conjugate-gradients.ts'

/** Scale of the logits: the targets of the regression are half a unit above and below zero. */
const SCALE = 6
/** Ridge as a share of the mean eigenvalue. */
const RIDGE = 0.01
const BACKGROUND_WINDOWS = 64
const BACKGROUND_SEED = 1
const B = 8
const T = 64

/** Token ids per window. */
export const EMBEDDING_WINDOW = T

export interface EmbeddingSource {
  /** Windows of EMBEDDING_WINDOW token ids each. */
  readonly own: readonly Int32Array[]
  readonly public: readonly Int32Array[]
}

/** Each list has one row [C] per layer. */
export interface RouterEmbedding {
  /** The owner's initial router rows. */
  readonly rows: readonly Float32Array[]
  /** Rows whose product with every token is as close to 1 as a row allows: they express a bias as a row. */
  readonly constantRows: readonly Float32Array[]
}

/** One kind of text: the owner's, public text, or background. */
interface Kind {
  readonly batches: readonly WindowBatch[]
  /** Sign of its mean in the difference of means. */
  readonly sign: 1 | -1
}

/** Moments of a router's inputs over all kinds of text. Every kind counts as much as another. */
class Moments {
  /** [C]: sum of the means with their signs. */
  readonly difference: Float64Array
  /** [C]: sum of the means. */
  readonly total: Float64Array
  /** [C, C]: sum of the second moments. */
  readonly second: Float64Array

  constructor(C: number) {
    this.difference = new Float64Array(C)
    this.total = new Float64Array(C)
    this.second = new Float64Array(C * C)
  }

  clear(): void {
    for (const array of [this.difference, this.total, this.second]) array.fill(0)
  }

  /** @param weight of each row in its kind's mean */
  add(mean: Float32Array, second: Float32Array, weight: number, sign: 1 | -1): void {
    accumulate(this.difference, mean, sign * weight)
    accumulate(this.total, mean, weight)
    accumulate(this.second, second, weight)
  }
}

/**
 * The rows from which training starts. Runs the public model layer by layer.
 * @throws the signal's reason; as `WeightSource.read`.
 */
export async function embedForRouter(
  engine: Engine,
  config: ModelConfig,
  publicModel: WeightMap,
  source: EmbeddingSource,
  { signal, onProgress }: EvaluationOptions = {},
): Promise<RouterEmbedding> {
  const { hiddenSize: C, numHiddenLayers: L } = config
  const kinds: Kind[] = [
    { batches: batchesOf(source.own), sign: 1 },
    { batches: batchesOf(source.public), sign: -1 },
    { batches: batchesOf(randomWindows(config.vocabSize)), sign: -1 },
  ]
  const all = kinds.flatMap(({ batches, sign }) =>
    batches.map((batch) => ({ batch, sign, weight: 1 / (batches.length * B * T) })),
  )
  const weights = mixtureWeights(config, publicModel, zeroRows(config), [])
  const model = new WindowModel(engine, config, weights, { E: 1, topK: 1, T })
  const sums = await compileSums(engine, C)
  try {
    const pass = await beginPass(
      model,
      all.map(({ batch }) => batch),
      signal,
    )
    const moments = new Moments(C)
    const into = { mean: new Float32Array(C), second: new Float32Array(C * C) }
    const rows: Float32Array[] = []
    const constantRows: Float32Array[] = []
    for (let layer = 0; layer < L; layer++) {
      moments.clear()
      await pass.attend(layer, async ({ streams }, batch) => {
        const { weight, sign } = all[batch] as (typeof all)[number]
        for (const { u } of streams) {
          await sums.run({ u }, into)
          moments.add(into.mean, into.second, weight, sign)
        }
        onProgress?.((layer + (batch + 1) / all.length) / L)
      })
      const { row, constantRow } = await regress(moments, signal)
      rows.push(row)
      constantRows.push(constantRow)
      if (layer < L - 1) await pass.mix(layer)
    }
    pass.end()
    return { rows, constantRows }
  } finally {
    await sums.dispose()
    await model.dispose()
  }
}

/** Sums over the rows of u (N, C): mean (C) is their sum, second (C, C) that of their outer products. */
function compileSums(engine: Engine, C: number): Promise<Compiled> {
  return engine.compile(
    ({ u }) => ({
      mean: sum(u as Tensor, 0),
      second: matMul(u as never, u as never, true, false),
    }),
    { inputs: { u: { shape: [B * T, C] } } },
    { interleaved: true, lean: true },
  )
}

/** Batches of B windows; a last, smaller one is left out, unless it is the only one: then windows are repeated. */
function batchesOf(windows: readonly Int32Array[]): WindowBatch[] {
  const routings = [{ mask: new Float32Array(1) }]
  const lengths = new Array<number>(B).fill(T)
  return Array.from({ length: Math.max(1, Math.floor(windows.length / B)) }, (_, batch) => {
    const ids = new Int32Array(B * T)
    for (let row = 0; row < B; row++) {
      const window = windows[(batch * B + row) % windows.length] as Int32Array
      ids.set(window.subarray(0, T), row * T)
    }
    return { ids, lengths, routings }
  })
}

function accumulate(target: Float64Array, values: Float32Array, factor: number): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) + (values[i] as number) * factor
}

function randomWindows(vocabSize: number): Int32Array[] {
  const random = mulberry32(BACKGROUND_SEED)
  return Array.from({ length: BACKGROUND_WINDOWS }, () =>
    Int32Array.from({ length: T }, () => Math.floor(random() * vocabSize)),
  )
}

/**
 * With S the sum of all second moments: row = SCALE (S + r I)^-1 (mean of own - sum of the other means), and
 * constantRow = (S + r I)^-1 (sum of all means), the ridge regression of the constant 1. Adds the ridge r to S.
 */
async function regress(
  { difference, total, second }: Moments,
  signal: AbortSignal | undefined,
): Promise<{ row: Float32Array; constantRow: Float32Array }> {
  const C = total.length
  let trace = 0
  for (let i = 0; i < C; i++) trace += second[i * C + i] as number
  const ridge = (RIDGE * trace) / C
  for (let i = 0; i < C; i++) second[i * C + i] = (second[i * C + i] as number) + ridge
  const [own, constant] = await solvePair(second, [difference, total], signal)
  return { row: Float32Array.from(own, (x) => SCALE * x), constantRow: Float32Array.from(constant) }
}
