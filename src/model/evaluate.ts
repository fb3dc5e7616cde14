/**
 * Scores held-out text in bits per byte: the negative log-likelihood of all tokens, in bits, divided by the bytes of
 * the documents, which makes models with different tokenizers comparable. Runs layer by layer, so a model does not have
 * to fit memory. Does not know files.
 */
import type { Engine } from '../tensor/engine.ts'
import type { ModelConfig } from './config.ts'
import { Progress } from './evaluation-progress.ts'
import type { RoutingPlan, SequenceRouting } from './routing-plan.ts'
import { batchesOf, groupsOf, type HeldOutDocument, type TextBatch } from './text-windows.ts'
import type { WeightMap } from './weights.ts'
import { WindowModel } from './window-model.ts'
import { beginPass } from './window-pass.ts'
import type { BatchStreams } from './window-streams.ts'

export type { HeldOutDocument } from './text-windows.ts'

export interface Evaluation {
  readonly bitsPerByte: number
  readonly documents: number
  readonly tokens: number
  readonly bytes: number
  /** Mean router probability of each expert over all layers and scored tokens; public expert first. */
  readonly loadShares: readonly number[]
  /**
   * By layer, then by expert (public first): mean over the scored tokens of the weight of the expert divided by the sum
   * over the chosen experts. `generate` attributes an answer the same way. Every layer sums to 1.
   */
  readonly layerShares: readonly (readonly number[])[]
}

/** A text, and the routings under which it is scored. */
export interface EvaluationText {
  readonly documents: readonly HeldOutDocument[]
  readonly routings: readonly SequenceRouting[]
}

export interface EvaluationOptions {
  readonly signal?: AbortSignal | undefined
  /**
   * Called several times for each layer.
   * @param share share of the work that is done, 0 to 1
   */
  readonly onProgress?: ((share: number) => void) | undefined
}

/** Scores texts. Calls of one evaluator share memory, so the next one begins when the last one has ended. */
export interface Evaluator {
  /**
   * Scores texts, each under its own routings, in one pass: all weights are read once for all of them, or once for each
   * group of windows whose streams fit the memory. Every window is a separate sequence.
   * @returns by text, then by routing
   * @throws the signal's reason; as `WeightSource.read`.
   */
  evaluateAll(texts: readonly EvaluationText[], options?: EvaluationOptions): Promise<Evaluation[][]>
  /** Scores one text under one routing. @throws as `evaluateAll`. */
  evaluate(
    documents: readonly HeldOutDocument[],
    routing: SequenceRouting,
    options?: EvaluationOptions,
  ): Promise<Evaluation>
  dispose(): Promise<void>
}

/** Tokens per window of every score that is published or compared. */
export const EVALUATION_WINDOW = 128
/** Memory for the streams of the windows that pass a layer together; more windows pass in several groups. */
const STREAM_BYTES = 2 ** 29

export interface EvaluatorInit {
  /** Number of experts in the mixture, the public one included. */
  readonly E: number
  readonly topK: number
  /** Tokens per window; longer documents are cut into several. Default: `EVALUATION_WINDOW`. */
  readonly T?: number
  /** Id of the end-of-text token. It precedes every document, so that the first token is predicted too. */
  readonly endOfText: number
  /** Memory for the streams, in bytes; default: 512 MiB. */
  readonly streamBytes?: number
}

/**
 * Opens a mixture for scoring. Reads no weights yet.
 * @param weights those of `mixtureWeights`
 */
export function createEvaluator(
  engine: Engine,
  config: ModelConfig,
  weights: WeightMap,
  init: EvaluatorInit,
): Evaluator {
  const { E, topK, T = EVALUATION_WINDOW } = init
  const model = new WindowModel(engine, config, weights, { E, topK, T })
  const evaluateAll: Evaluator['evaluateAll'] = (texts, options) => evaluateTexts(model, init, texts, options)
  return {
    evaluateAll,
    evaluate: async (documents, routing, options) => {
      const [scores] = await evaluateAll([{ documents, routings: [routing] }], options)
      return (scores as [Evaluation])[0]
    },
    dispose: () => model.dispose(),
  }
}

/** Sums over the windows of one text under one routing. */
interface Totals {
  nats: number
  /** (E). */
  readonly load: Float64Array
  /** (layers, E). */
  readonly chosen: Float64Array
}

async function evaluateTexts(
  model: WindowModel,
  init: EvaluatorInit,
  texts: readonly EvaluationText[],
  { signal, onProgress }: EvaluationOptions = {},
): Promise<Evaluation[][]> {
  const { config } = model
  const { E, T } = model.init
  const distinct = texts.map(({ routings }) => distinctRoutings(routings))
  const totals = distinct.map(({ routings }) =>
    routings.map(
      (): Totals => ({
        nats: 0,
        load: new Float64Array(E),
        chosen: new Float64Array(config.numHiddenLayers * E),
      }),
    ),
  )
  const batches = texts.flatMap(({ documents, routings }, text) =>
    routings.length === 0
      ? []
      : batchesOf(documents, text, (distinct[text] as Distinct).routings, config, T, init.endOfText),
  )
  const progress = new Progress(batches, config, E, onProgress)
  for (const group of groupsOf(batches, config, T, init.streamBytes ?? STREAM_BYTES)) {
    await scoreGroup(model, group, totals, progress, signal)
  }
  return texts.map(({ documents }, text) =>
    (distinct[text] as Distinct).indices.map((i) =>
      evaluationOf(documents, totals[text]?.[i] as Totals, config, E),
    ),
  )
}

/** Passes some batches through all layers and adds to the totals of their texts. */
async function scoreGroup(
  model: WindowModel,
  group: readonly TextBatch[],
  totals: readonly (readonly Totals[])[],
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { numHiddenLayers: L } = model.config
  const { E } = model.init
  const totalOf = (batch: number, routing: number): Totals => {
    const { text } = group[batch] as TextBatch
    return (totals[text] as readonly Totals[])[routing] as Totals
  }
  const addShares = ({ streams }: BatchStreams, batch: number, layer: number): void => {
    for (const { routing, plan } of streams.flatMap(({ members }) => members)) {
      const { load, chosen } = totalOf(batch, routing)
      const { probabilities, shares } = plan as RoutingPlan
      for (let i = 0; i < probabilities.length; i++) {
        const e = i % E
        load[e] = (load[e] as number) + (probabilities[i] as number)
        chosen[layer * E + e] = (chosen[layer * E + e] as number) + (shares[i] as number)
      }
    }
  }
  const pass = await beginPass(model, group, signal)
  try {
    for (let layer = 0; layer < L; layer++) {
      await pass.attend(layer, (state, batch) => {
        addShares(state, batch, layer)
        progress.attended(state)
      })
      await pass.mix(layer, (state, share) => progress.mixed(state, share))
    }
    const nats = await pass.logLikelihoods(
      group.map(({ labels }) => labels),
      (share) => progress.predicted(group, share),
    )
    nats.forEach((byRouting, i) => {
      byRouting.forEach((value, routing) => {
        totalOf(i, routing).nats += value
      })
    })
  } finally {
    pass.end()
  }
}

interface Distinct {
  readonly routings: readonly SequenceRouting[]
  /** Index in `routings` of each given routing. */
  readonly indices: readonly number[]
}

/** Routings without repetitions: equal masks with the same gate give equal scores. */
function distinctRoutings(given: readonly SequenceRouting[]): Distinct {
  const routings: SequenceRouting[] = []
  const indices = given.map((routing) => {
    const known = routings.findIndex(
      ({ mask, gate }) => gate === routing.gate && mask.every((value, e) => value === routing.mask[e]),
    )
    return known >= 0 ? known : routings.push(routing) - 1
  })
  return { routings, indices }
}

function evaluationOf(
  documents: readonly HeldOutDocument[],
  { nats, load, chosen }: Totals,
  { numHiddenLayers: L }: ModelConfig,
  E: number,
): Evaluation {
  const bytes = documents.reduce((sum, document) => sum + document.bytes, 0)
  const tokens = documents.reduce((sum, document) => sum + document.tokens.length, 0)
  const scored = Math.max(1, tokens)
  return {
    bitsPerByte: nats / Math.LN2 / Math.max(1, bytes),
    documents: documents.length,
    tokens,
    bytes,
    loadShares: Array.from(load, (total) => total / (scored * L)),
    layerShares: Array.from({ length: L }, (_, layer) =>
      Array.from(chosen.subarray(layer * E, (layer + 1) * E), (total) => total / scored),
    ),
  }
}
