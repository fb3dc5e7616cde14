/**
 * Scores held-out text in bits per byte: the negative log-likelihood of all tokens, in bits, divided by the bytes of
 * the documents, which makes models with different tokenizers comparable. Runs layer by layer, so a model does not have
 * to fit memory. Does not know files.
 */
import type { Engine } from '../tensor/engine.ts'
import type { ModelConfig } from './config.ts'
import type { RoutingPlan, SequenceRouting } from './routing-plan.ts'
import type { WeightMap } from './weights.ts'
import { WindowModel } from './window-model.ts'
import { beginPass } from './window-pass.ts'
import type { BatchStreams, WindowBatch } from './window-streams.ts'

export interface HeldOutDocument {
  readonly tokens: Int32Array
  /** Bytes of the text in UTF-8. */
  readonly bytes: number
}

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
/** Maximum number of windows that are computed at a time. */
const MAX_WINDOWS = 8
/** Maximum number of operations of one run of an expert: half a second on two cores, after which a signal is seen. */
const RUN_OPERATIONS = 7e10
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

/** A batch of windows of one text. */
interface TextBatch extends WindowBatch {
  readonly text: number
  /** (B, T): token after each token. */
  readonly labels: Int32Array
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
  const { E } = model.init
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
      : batchesOf(documents, text, (distinct[text] as Distinct).routings, model, init.endOfText),
  )
  const progress = new Progress(batches, config, E, onProgress)
  for (const group of groupsOf(batches, config, model.init.T, init.streamBytes ?? STREAM_BYTES)) {
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

/** Cuts documents into windows, and these into batches. */
function batchesOf(
  documents: readonly HeldOutDocument[],
  text: number,
  routings: readonly SequenceRouting[],
  { config, init: { T } }: WindowModel,
  endOfText: number,
): TextBatch[] {
  const { hiddenSize: C, intermediateSize: F } = config
  const B = Math.min(MAX_WINDOWS, Math.max(1, Math.floor(RUN_OPERATIONS / (6 * C * F * T))))
  const windows = documents.flatMap(({ tokens }) =>
    Array.from({ length: Math.ceil(tokens.length / T) }, (_, i) => ({
      before: i === 0 ? endOfText : (tokens[i * T - 1] as number),
      tokens: tokens.subarray(i * T, (i + 1) * T),
    })),
  )
  return Array.from({ length: Math.ceil(windows.length / B) }, (_, i) => {
    const some = windows.slice(i * B, (i + 1) * B)
    const ids = new Int32Array(some.length * T)
    const labels = new Int32Array(some.length * T)
    some.forEach(({ before, tokens }, b) => {
      ids[b * T] = before
      ids.set(tokens.subarray(0, -1), b * T + 1)
      labels.set(tokens, b * T)
    })
    return { text, ids, labels, lengths: some.map(({ tokens }) => tokens.length), routings }
  })
}

/** Batches in groups whose streams fit `bytes`; a group has at least one batch. */
function groupsOf(
  batches: readonly TextBatch[],
  { hiddenSize: C }: ModelConfig,
  T: number,
  bytes: number,
): TextBatch[][] {
  const groups: TextBatch[][] = []
  let room = 0
  for (const batch of batches) {
    // For each routing, the residual stream and the sum of the experts' outputs, in float32.
    const needed = 2 * 4 * C * T * batch.lengths.length * batch.routings.length
    if (groups.length === 0 || needed > room) {
      groups.push([])
      room = bytes
    }
    groups.at(-1)?.push(batch)
    room -= needed
  }
  return groups
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

/** Share of the work that is done, estimated from the sizes of the weights. */
class Progress {
  readonly #onProgress: ((share: number) => void) | undefined
  readonly #total: number
  /** Multiplications of one row in attention, in all experts of a layer, and in the head. */
  readonly #attention: number
  readonly #experts: number
  readonly #head: number
  #done = 0

  constructor(
    batches: readonly WindowBatch[],
    { hiddenSize: C, intermediateSize: F, vocabSize: V, numHiddenLayers: L }: ModelConfig,
    E: number,
    onProgress: ((share: number) => void) | undefined,
  ) {
    this.#attention = 4 * C * C
    this.#experts = 3 * C * F * E
    this.#head = V * C
    this.#onProgress = onProgress
    this.#total = batches.reduce(
      (sum, batch) => sum + windowsOf(batch) * (L * (this.#attention + this.#experts) + this.#head),
      0,
    )
  }

  attended({ batch }: BatchStreams): void {
    this.#add(windowsOf(batch) * this.#attention)
  }

  mixed({ batch }: BatchStreams, share: number): void {
    this.#add(windowsOf(batch) * this.#experts * share)
  }

  predicted(batches: readonly WindowBatch[], share: number): void {
    this.#add(batches.reduce((sum, batch) => sum + windowsOf(batch), 0) * this.#head * share)
  }

  #add(work: number): void {
    this.#done += work
    this.#onProgress?.(Math.min(1, this.#done / this.#total))
  }
}

/** Windows of a batch, counted once for each routing. */
function windowsOf({ lengths, routings }: WindowBatch): number {
  return lengths.length * routings.length
}
