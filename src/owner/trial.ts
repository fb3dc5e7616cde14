/**
 * Scores a pair of the public model and one expert, with any number added to the expert's router logits. All that is
 * asked at once is scored in one pass through the model. Does not know what is allowed, and does not know files.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { createEvaluator, type Evaluator, type HeldOutDocument } from '../model/evaluate.ts'
import type { RouterKind } from '../model/gates.ts'
import { type Expert, mixtureWeights, zeroRows } from '../model/params.ts'
import { LEFT_OUT, type SequenceRouting } from '../model/routing-plan.ts'
import type { Gate } from '../model/solved-router.ts'
import type { Engine } from '../tensor/engine.ts'

/** Held-out text: at least one public document. */
export interface PairTexts {
  readonly own?: readonly HeldOutDocument[]
  readonly public: readonly HeldOutDocument[]
}

/** How a pair routes: the router, and the number that is added to the expert's logits. Or the public model alone. */
export type Setting = { readonly router: RouterKind; readonly bias: number } | 'public'

/** Settings under which each text is scored. */
export interface Asked {
  readonly own?: readonly Setting[]
  readonly public: readonly Setting[]
}

/** Bits per byte by setting; none for own text if there is none. */
export interface Answered {
  readonly own: readonly number[]
  readonly public: readonly number[]
}

export interface TrialInit {
  readonly engine: Engine
  readonly model: Pick<PublicModel, 'config' | 'weights' | 'tokenizer'>
  readonly texts: PairTexts
  readonly signal: AbortSignal
  /** Called several times during each pass over the texts, of which there are several, with its share that is done. */
  readonly onProgress?: (share: number) => void
}

export class Trial {
  readonly #init: TrialInit
  readonly #evaluator: Evaluator
  readonly #gate: Gate | undefined

  private constructor(init: TrialInit, evaluator: Evaluator, gate: Gate | undefined) {
    this.#init = init
    this.#evaluator = evaluator
    this.#gate = gate
  }

  /**
   * Opens the pair for `body`, and frees it afterwards.
   * @param gate the gate of the router `solved`
   */
  static async run<R>(
    init: TrialInit,
    expert: Expert,
    gate: Gate | undefined,
    body: (trial: Trial) => Promise<R>,
  ): Promise<R> {
    const { config, weights, tokenizer } = init.model
    const mixture = mixtureWeights(config, weights, zeroRows(config), [expert])
    const evaluator = createEvaluator(init.engine, config, mixture, {
      E: 2,
      topK: 2,
      endOfText: tokenizer.endOfText,
    })
    try {
      return await body(new Trial(init, evaluator, gate))
    } finally {
      await evaluator.dispose()
    }
  }

  /** @throws the signal's reason; as `WeightSource.read`. */
  async score(asked: Asked): Promise<Answered> {
    const { texts, signal, onProgress } = this.#init
    const kinds = (['own', 'public'] as const).filter((kind) => (texts[kind] ?? []).length > 0)
    const scores = await this.#evaluator.evaluateAll(
      kinds.map((kind) => ({
        documents: texts[kind] ?? [],
        routings: (asked[kind] ?? []).map((setting) => this.#routing(setting)),
      })),
      { signal, onProgress },
    )
    const answered = kinds.map((kind, i) => [kind, scores[i]?.map(({ bitsPerByte }) => bitsPerByte)])
    return { own: [], public: [], ...Object.fromEntries(answered) }
  }

  #routing(setting: Setting): SequenceRouting {
    if (setting === 'public') return { mask: Float32Array.of(0, LEFT_OUT) }
    const { router, bias } = setting
    // The router mask is added to the logits, so it can hold any number.
    return { mask: Float32Array.of(0, bias), gate: router === 'rows' ? undefined : this.#gate }
  }
}
