/**
 * One request while it is being answered: chooses its tokens from logits, and hands them to the reader, who may stop
 * reading at any time. Does not know batches, caches or weights.
 */
import type { SequenceRouting } from '../model/routing-plan.ts'
import type { LogitProcessor } from './logit-processor.ts'
import { chooseToken, type Sampling } from './sampling.ts'
import { type PromptReport, scoreToken, type TokenScore } from './token-logprobs.ts'

/** A prompt to complete. Its routing always has the public expert in use. */
export interface GenerateRequest extends SequenceRouting {
  /** At least one token. The caller refuses prompts that are longer than the context. */
  readonly prompt: Int32Array
  readonly maxTokens: number
  readonly sampling: Sampling
  /** Ids of the tokens that end the completion; they are not yielded. */
  readonly endsOfText: readonly number[]
  /** Change the logits before each token is chosen. They belong to this request alone. Default: none. */
  readonly processors?: readonly LogitProcessor[]
  /** Number of the most likely tokens to list beside each token. Default: tokens are not scored. */
  readonly topScores?: number
  /** Whether the tokens of the prompt are scored, too. `maxTokens` may then be 0. */
  readonly scorePrompt?: boolean
  /** Called when the prompt has been read, before the first token. */
  readonly onPrompt?: (report: PromptReport) => void
  /** Prompts share keys and values within a scope only, so that nobody learns the prompts of others. */
  readonly scope?: string
}

export interface GeneratedToken {
  readonly id: number
  /** Routing weight of each expert for this token (E), mean over layers; sums to 1. */
  readonly shares: Float32Array
  /** Set if the request asks for scores. */
  readonly score?: TokenScore
}

export class RequestStream {
  readonly request: GenerateRequest
  /** Number of tokens of this sequence that are in the cache. */
  length = 0
  /** Number of tokens of the prompt whose keys and values were known from an earlier one. */
  cachedTokens = 0
  /** Last chosen token; it is not in the cache yet. */
  next = 0
  readonly #contextLength: number
  readonly #signal: AbortSignal | undefined
  readonly #chooseToken: (logits: Float32Array) => number
  /** Chosen tokens that the reader has not taken yet. */
  readonly #ready: GeneratedToken[] = []
  readonly #promptScores: TokenScore[] = []
  #produced = 0
  /** Whether the reader has stopped reading. */
  #isAbandoned = false
  #end: { error?: unknown } | undefined
  #wake: (() => void) | undefined

  /** @param contextLength maximum number of tokens of prompt and completion together */
  constructor(request: GenerateRequest, contextLength: number, signal: AbortSignal | undefined) {
    this.request = request
    this.#contextLength = contextLength
    this.#signal = signal
    this.#chooseToken = chooseToken(request.sampling)
  }

  /** Maximum number of positions that this sequence will take in the cache. */
  get mostPositions(): number {
    const { prompt, maxTokens } = this.request
    return Math.min(this.#contextLength, prompt.length + maxTokens)
  }

  /** Whether no more tokens are needed: the completion has ended, or nobody reads it any more. */
  get isOver(): boolean {
    return this.#end !== undefined || this.#isAbandoned || this.#signal?.aborted === true
  }

  /** Yields the tokens as they are chosen. @throws the error of `end`, and the signal's reason when aborted. */
  async *tokens(): AsyncGenerator<GeneratedToken, void, void> {
    const wake = (): void => this.#wake?.()
    this.#signal?.addEventListener('abort', wake)
    try {
      for (;;) {
        this.#signal?.throwIfAborted()
        const token = this.#ready.shift()
        if (token !== undefined) yield token
        else if (this.#end !== undefined) {
          if ('error' in this.#end) throw this.#end.error
          return
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
        }
      }
    } finally {
      this.#isAbandoned = true
      this.#signal?.removeEventListener('abort', wake)
    }
  }

  /** @param logits (V) in the place of a token of the prompt */
  scorePromptToken(logits: Float32Array, id: number): void {
    this.#promptScores.push(scoreToken(logits, id, this.request.topScores ?? 0))
  }

  /** Reports on the prompt, which has been read. */
  reportPrompt(): void {
    const { cachedTokens } = this
    const { scorePrompt, onPrompt } = this.request
    onPrompt?.(scorePrompt === true ? { cachedTokens, scores: this.#promptScores } : { cachedTokens })
  }

  /**
   * Chooses the next token, which may end the completion.
   * @param logits (V) after the last token of the sequence; the processors of the request change them
   * @param shares routing weights (E) of that token; kept, so the caller must not change them
   */
  choose(logits: Float32Array, shares: Float32Array): void {
    const { processors = [], topScores } = this.request
    const original = topScores !== undefined && processors.length > 0 ? logits.slice() : logits
    for (const processor of processors) processor.apply(logits)
    const id = this.#chooseToken(logits)
    for (const processor of processors) processor.observe(id)
    if (this.request.endsOfText.includes(id)) {
      this.end()
      return
    }
    this.next = id
    this.#produced++
    const score = topScores === undefined ? undefined : scoreToken(original, id, topScores)
    this.#ready.push({ id, shares, ...(score === undefined ? {} : { score }) })
    if (this.length >= this.#contextLength || this.#produced >= this.request.maxTokens) this.end()
    this.#wake?.()
  }

  /** Ends the completion after the tokens that are chosen already. Does nothing if it has ended. */
  end(failure: { error?: unknown } = {}): void {
    this.#end ??= failure
    this.#wake?.()
  }
}
