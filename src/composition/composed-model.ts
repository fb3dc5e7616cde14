/**
 * A composition that computes answers. A selection of experts only changes the router mask and the gate, so all
 * requests share one generator. Each answer holds the model until it is complete. A model that was replaced frees its
 * memory when the last holder lets go. Knows nothing about HTTP and the network.
 */
import '../lib/node20.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { Grammar } from '../grammar/grammar.ts'
import type { Generator } from '../inference/batcher.ts'
import { followGrammar } from '../inference/grammar-processor.ts'
import type { GeneratedToken } from '../inference/request-stream.ts'
import type { Sampling } from '../inference/sampling.ts'
import { chooseFormat, type ServingFormat } from '../inference/serving-format.ts'
import { type LogitChanges, logitProcessors } from '../inference/token-bias.ts'
import type { PromptReport } from '../inference/token-logprobs.ts'
import type { WeightChoice } from '../inference/weight-format.ts'
import type { KeptCodes } from '../inference/weight-loader.ts'
import type { Digest } from '../lib/bytes.ts'
import { collectGarbage } from '../lib/collect-garbage.ts'
import { defaultMemoryBudget } from '../lib/memory.ts'
import type { Evaluation, HeldOutDocument } from '../model/evaluate.ts'
import type { CodeFiles } from '../store/code-files.ts'
import type { Engine } from '../tensor/engine.ts'
import type { Composition } from './compose.ts'
import { keptCodes } from './kept-codes.ts'
import { type Selection, selectionRouting } from './selection.ts'

export type { LikelyToken, PromptReport, TokenScore } from '../inference/token-logprobs.ts'

export interface Completion {
  /** Token ids, at least one. */
  readonly prompt: Int32Array
  readonly maxTokens: number
  readonly sampling: Sampling
  /** Default: no changes. */
  readonly changes?: LogitChanges
  /** Number of the most likely tokens to list beside each token. Default: tokens are not scored. */
  readonly topScores?: number
  /** Whether the tokens of the prompt are scored, too. `maxTokens` may then be 0. */
  readonly scorePrompt?: boolean
  /** Called when the prompt has been read, before the first token. */
  readonly onPrompt?: (report: PromptReport) => void
  /** Keys and values of prompts are shared within a scope only. */
  readonly scope?: string
  /** What the text follows. Default: nothing. */
  readonly grammar?: Grammar
  readonly selection: Selection
}

/** How a composition is served. */
export interface Serving {
  readonly weights: WeightChoice
  /** Bytes that serving may take. Default: `defaultMemoryBudget`. */
  readonly memory?: number
  /** Where codes of weights are kept. Default: nowhere. */
  readonly codes?: KeptAt
}

/** The place where codes are kept. */
export interface KeptAt {
  readonly files: CodeFiles
  /** Digest of the public model. */
  readonly publicModel: Digest
  /** Called when codes cannot be kept or read; serving goes on. */
  readonly onFailure: (error: unknown) => void
}

/** A hold on a composed model. */
export interface Lease {
  readonly model: ComposedModel
  /** Let go of the model. A second call has no effect. */
  release(): void
}

export class ComposedModel {
  readonly composition: Composition
  /** Maximum number of tokens of prompt and completion together. */
  readonly contextLength: number
  readonly #model: PublicModel
  readonly #engine: Engine
  readonly #serving: Serving
  readonly #earlier: Promise<unknown>
  readonly #ended = new AbortController()
  #format: ServingFormat | undefined
  #generator: Promise<Generator> | undefined
  #holders = 0
  /** Set by `retire`. */
  #retired: Promise<void> | undefined
  readonly #free = Promise.withResolvers<void>()

  /** @param earlier settles when models that this one replaces have freed their memory */
  constructor(
    engine: Engine,
    model: PublicModel,
    composition: Composition,
    serving: Serving,
    earlier: Promise<unknown> = Promise.resolve(),
  ) {
    this.#serving = serving
    this.#earlier = earlier
    this.#engine = engine
    this.#model = model
    this.composition = composition
    this.contextLength = model.config.maxPositionEmbeddings
  }

  /**
   * The format in which the weights are served, chosen at the first call. Reads no weight.
   * @throws InputError `out-of-memory`, `usage`: see `chooseFormat`.
   */
  servingFormat(): ServingFormat {
    const { experts, weights } = this.composition
    const { weights: choice, memory = defaultMemoryBudget() } = this.#serving
    this.#format ??= chooseFormat(
      {
        config: this.#model.config,
        weights,
        E: experts.length + 1,
        threads: this.#engine.threads ?? 0,
      },
      choice,
      memory,
    )
    return this.#format
  }

  /** Hold the model while an answer is computed. @throws Error for a model that was retired. */
  acquire(): Lease {
    if (this.#retired !== undefined)
      throw new Error('this composition was replaced; acquire the one that is served now')
    return { model: this, release: this.#hold() }
  }

  /**
   * Tokens of one answer. Holds the model until the answer ends.
   * @throws InputError `not-found` if the selection has a name that matches no expert; Error for a model that was
   * retired and that nobody holds.
   */
  async *complete(completion: Completion, signal: AbortSignal): AsyncGenerator<GeneratedToken, void, void> {
    if (this.#holders === 0 && this.#retired !== undefined)
      throw new Error('this composition was retired and nobody holds it; acquire the one that is served now')
    const routing = selectionRouting(this.composition, completion.selection)
    const release = this.#hold()
    try {
      const generator = await this.#sharedGenerator()
      const { changes, grammar } = completion
      const processors = changes === undefined ? [] : logitProcessors(changes)
      if (grammar !== undefined) processors.push(followGrammar(grammar))
      const request = { ...completion, processors, endsOfText: this.#model.endsOfText, ...routing }
      yield* generator.generate(request, signal)
    } finally {
      release()
    }
  }

  /**
   * Mean of the final stream, after its norm, over the tokens of a text (C). The end of text before it does not count.
   * @param tokens at least one, and at most `contextLength`
   * @throws InputError `not-found` as `complete`; the signal's reason.
   */
  async embed(tokens: Int32Array, selection: Selection, signal: AbortSignal): Promise<Float32Array> {
    const routing = selectionRouting(this.composition, selection)
    const release = this.#hold()
    try {
      const generator = await this.#sharedGenerator()
      const hasEnd = tokens.length > 1 && this.#model.endsOfText.includes(tokens[0] as number)
      return await generator.meanStream({ tokens, from: hasEnd ? 1 : 0, routing, signal })
    } finally {
      release()
    }
  }

  /**
   * Scores each text under each selection, all in one pass through the model.
   * @param onProgress receives the share of the work that is done, 0 to 1
   * @returns by text, then by selection
   * @throws InputError `not-found` for a selection with a name that matches no expert; the signal's reason.
   */
  async evaluate(
    texts: readonly (readonly HeldOutDocument[])[],
    selections: readonly Selection[],
    signal: AbortSignal,
    onProgress?: (share: number) => void,
  ): Promise<Evaluation[][]> {
    const { experts, weights, topK } = this.composition
    const routings = selections.map((selection) => selectionRouting(this.composition, selection))
    const { createEvaluator } = await import('../model/evaluate.ts')
    const evaluator = createEvaluator(this.#engine, this.#model.config, weights, {
      E: experts.length + 1,
      topK,
      endOfText: this.#model.tokenizer.endOfText,
    })
    try {
      return await evaluator.evaluateAll(
        texts.map((documents) => ({ documents, routings })),
        { signal, onProgress },
      )
    } finally {
      await evaluator.dispose()
    }
  }

  #hold(): () => void {
    this.#holders++
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      this.#holders--
      if (this.#retired !== undefined && this.#holders === 0) this.#free.resolve()
    }
  }

  /** Refuse new holders, and free all memory when the last holder has let go. A second call joins the first. */
  retire(): Promise<void> {
    this.#retired ??= this.#disposeWhenFree()
    return this.#retired
  }

  async #disposeWhenFree(): Promise<void> {
    if (this.#holders > 0) await this.#free.promise
    // Nobody waits for a generator that is still being created.
    this.#ended.abort()
    await this.#disposeGenerator()
    if (this.#format?.way === 'held') collectGarbage()
  }

  /** A function of its own, so that nothing refers to the generator any more when it returns. */
  async #disposeGenerator(): Promise<void> {
    // A failure to create the generator was thrown to the request that needed it.
    const generator = await this.#generator?.catch(() => undefined)
    this.#generator = undefined
    await generator?.dispose()
  }

  /** Created for the first answer and shared by all. After a failure the next answer tries again. */
  #sharedGenerator(): Promise<Generator> {
    this.#generator ??= this.#createGenerator().catch((error: unknown) => {
      this.#generator = undefined
      throw error
    })
    return this.#generator
  }

  /** Loads the tensor library, which a node that has not answered yet does not hold in memory. */
  async #createGenerator(): Promise<Generator> {
    const { format, way, keysValuesBytes } = this.servingFormat()
    const { createGenerator } = await import('../inference/generate.ts')
    // A large model and its successor need not fit the memory together.
    if (way === 'held') await this.#earlier
    this.#ended.signal.throwIfAborted()
    const { experts, weights, topK } = this.composition
    return createGenerator(this.#engine, this.#model.config, weights, {
      E: experts.length + 1,
      topK,
      contextLength: this.contextLength,
      weights: format,
      way,
      keysValuesBytes,
      kept: this.#keptCodes(),
      signal: this.#ended.signal,
    })
  }

  /** Places for the codes of the public model and of every expert whose file the store has. */
  #keptCodes(): (KeptCodes | undefined)[] {
    const { codes } = this.#serving
    if (codes === undefined) return []
    const owners = [codes.publicModel, ...this.composition.experts.map(({ file }) => file)]
    return owners.map((owner) => owner && keptCodes(codes.files, owner, codes.onFailure))
  }
}
