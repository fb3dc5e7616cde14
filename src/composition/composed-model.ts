/**
 * Answers with the current composition; every choice of experts is a mask and its gate. Knows no HTTP and no
 * network.
 */

import type { PublicModel } from '../checkpoint/public-model.ts'
import type { Generator } from '../inference/batcher.ts'
import { createGenerator } from '../inference/generate.ts'
import type { GeneratedToken } from '../inference/request-stream.ts'
import type { Sampling } from '../inference/sampling.ts'
import type { WeightFormat } from '../inference/weight-format.ts'
import {
  createEvaluator,
  EVALUATION_BATCH,
  type Evaluation,
  type HeldOutDocument,
} from '../model/evaluate.ts'
import type { Engine } from '../tensor/engine.ts'
import { type Composition, type Selection, selectionRouting } from './compose.ts'

export interface Completion {
  readonly prompt: Int32Array
  readonly maxTokens: number
  readonly sampling: Sampling
  readonly selection: Selection
}

/** Windows scored so far, of all texts under all selections, and which of them is being scored. */
export interface EvaluationProgress {
  readonly text: number
  readonly selection: number
  readonly done: number
  readonly total: number
}

export class Inference {
  readonly composition: Composition
  readonly contextLength: number
  readonly #model: PublicModel
  readonly #engine: Engine
  readonly #weights: WeightFormat
  #generator: Promise<Generator> | undefined

  constructor(engine: Engine, model: PublicModel, composition: Composition, weights: WeightFormat) {
    this.#weights = weights
    this.#engine = engine
    this.#model = model
    this.composition = composition
    this.contextLength = model.config.maxPositionEmbeddings
  }

  /** @throws InputError `not-found` for a selection that names no expert. */
  async *complete(completion: Completion, signal: AbortSignal): AsyncGenerator<GeneratedToken, void, void> {
    const routing = selectionRouting(this.composition, completion.selection)
    const { experts, params, topK } = this.composition
    this.#generator ??= createGenerator(this.#engine, this.#model.config, params, {
      E: experts.length + 1,
      topK,
      contextLength: this.contextLength,
      weights: this.#weights,
    })
    const generator = await this.#generator
    const request = { ...completion, endOfText: this.#model.tokenizer.endOfText, ...routing }
    yield* generator.generate(request, signal)
  }

  /** Every text under every selection, texts x selections; one compilation for all. */
  async evaluate(
    texts: readonly (readonly HeldOutDocument[])[],
    selections: readonly Selection[],
    signal: AbortSignal,
    onProgress: (progress: EvaluationProgress) => void = () => undefined,
  ): Promise<Evaluation[][]> {
    const { experts, params, topK, gates } = this.composition
    const routings = selections.map((selection) => selectionRouting(this.composition, selection))
    const evaluator = await createEvaluator(this.#engine, this.#model.config, params, {
      E: experts.length + 1,
      topK,
      endOfText: this.#model.tokenizer.endOfText,
      gate: gates !== undefined,
    })
    const windows = texts
      .flat()
      .reduce((sum, { tokens }) => sum + Math.ceil(tokens.length / EVALUATION_BATCH.T), 0)
    const total = windows * routings.length
    let done = 0
    try {
      const results: Evaluation[][] = []
      for (const [text, documents] of texts.entries()) {
        const row: Evaluation[] = []
        for (const [selection, routing] of routings.entries()) {
          const onBatch = (count: number): void => {
            done += count
            onProgress({ text, selection, done, total })
          }
          row.push(await evaluator.evaluate(documents, routing, signal, onBatch))
        }
        results.push(row)
      }
      return results
    } finally {
      await evaluator.dispose()
    }
  }

  /** Answers in work are finished first. */
  async dispose(): Promise<void> {
    const generator = await this.#generator?.catch(() => undefined)
    this.#generator = undefined
    await generator?.dispose()
  }
}
