/**
 * Answers with the current composition; every choice of experts is a mask and its gate. Knows no HTTP and no
 * network.
 */
import { type Composition, type Selection, selectionRouting } from './composition/compose.ts'
import { createEvaluator, type Evaluation, type HeldOutDocument } from './model/evaluate.ts'
import { createGenerator, type GeneratedToken, type Generator } from './model/generate.ts'
import type { Sampling } from './model/sampling.ts'
import type { WeightFormat } from './model/weight-format.ts'
import type { PublicModel } from './public-model.ts'
import type { Engine } from './tensor/engine.ts'

export interface Completion {
  readonly prompt: Int32Array
  readonly maxTokens: number
  readonly sampling: Sampling
  readonly selection: Selection
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

  /** Bits per byte of documents under several selections; one compilation for all. */
  async evaluate(
    documents: readonly HeldOutDocument[],
    selections: readonly Selection[],
    signal: AbortSignal,
  ): Promise<Evaluation[]> {
    const { experts, params, topK, gates } = this.composition
    const evaluator = await createEvaluator(this.#engine, this.#model.config, params, {
      E: experts.length + 1,
      topK,
      B: 8,
      T: 128,
      endOfText: this.#model.tokenizer.endOfText,
      gate: gates !== undefined,
    })
    try {
      const results: Evaluation[] = []
      for (const selection of selections) {
        const routing = selectionRouting(this.composition, selection)
        results.push(await evaluator.evaluate(documents, routing, signal))
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
