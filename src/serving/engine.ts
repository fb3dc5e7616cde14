/**
 * What the API asks of the programs that compute answers, and the error for a request that cannot be answered now.
 * Knows nothing about HTTP and models.
 */

import type { ExpertLabel, StatedExpert } from '../composition/attribution.ts'
import type { PromptReport, TokenScore } from '../composition/composed-model.ts'
import type { Selection } from '../composition/selection.ts'
import type { TextPrompt } from '../data/chat.ts'
import type { Constraint } from '../grammar/grammars.ts'
import type { InferenceRequest } from './openai.ts'
import type { Vocabulary } from './vocabulary.ts'

/** A piece of an answer, usually one token. */
export interface Piece {
  readonly text: string
  /** Routing weight of each expert for this token, summing to 1; absent if the engine does not know it. */
  readonly shares?: Float32Array
  /** Number of tokens of the answer so far; absent if this piece is exactly one token. */
  readonly tokens?: number
  /** Log-probabilities of this token, if the request asks for them; a piece is then one token. */
  readonly score?: TokenScore
  /** Set on at most one piece, before the first token: what is known of the prompt. Such a piece has no text. */
  readonly prompt?: PromptReport
  /** Set on the last piece only: why the answer ends. */
  readonly finish?: 'stop' | 'length'
}

/** What decides which backend answers a request. */
export interface Needs extends Selection {
  /** What the text of the answer follows. */
  readonly constraint?: Constraint
  /** Whether vectors are asked for, not text. */
  readonly isEmbedding?: boolean
}

/** Computes answers: this node, or another server that it stands in front of. */
export interface Backend {
  readonly servedBy: 'node' | 'upstream'
  /** Hold the composition that this backend serves now. The caller releases it. @throws ServingError. */
  acquire(): ServingEngine | Promise<ServingEngine>
}

/** One composition, held for one request until it is released. */
export interface ServingEngine {
  /** Digest of the composition. */
  readonly composition: string
  /** Labels of the experts, public model first. */
  readonly experts: readonly ExpertLabel[]
  /** The same experts, with what their publishers state about privacy. */
  readonly stated: readonly StatedExpert[]
  /** Maximum number of tokens of prompt and answer together. */
  readonly contextLength: number
  /** Maximum number of characters (UTF-16 code units) of a prompt that can fit into the context. */
  readonly maxPromptCharacters: number
  /** One more than the largest token id. */
  readonly vocabularySize: number
  readonly vocabulary: Vocabulary
  /** Texts before which the answer to a chat ends; none if the public model has a chat template. */
  readonly turnEnds: readonly string[]
  /**
   * Token ids of a prompt, at least one. Called after the length check, inside the request's place in the queue, because
   * it can take long. @throws FormatError for a chat that cannot be rendered; the reason of `signal`.
   */
  encode(prompt: TextPrompt, signal: AbortSignal): Promise<Int32Array>
  /** @throws InputError `not-found` for a name that matches no expert. */
  checkSelection(selection: Selection): void
  /**
   * One text after a prompt. The engine leaves the number of choices and further prompts of the request to the caller.
   * @param prompt token ids by `encode` or of the client, fewer than `contextLength`
   * @param scope name of the caller; keys and values of prompts are shared within a scope only
   * @throws ServingError; the reason of `signal`.
   */
  generate(
    request: InferenceRequest,
    prompt: Int32Array,
    signal: AbortSignal,
    scope: string,
  ): AsyncIterable<Piece>
  /**
   * A vector that stands for a text, of no particular length.
   * @param prompt token ids, at most `contextLength`
   * @throws ServingError; the reason of `signal`.
   */
  embed(selection: Selection, prompt: Int32Array, signal: AbortSignal): Promise<Float32Array>
  /** Let go of the composition when the answer is complete. A second call has no effect. */
  release(): void
}

/** Why a well-formed request is not answered now. */
export class ServingError extends Error {
  readonly status: 502 | 503 | 504
  readonly code: string

  constructor(status: 502 | 503 | 504, code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.status = status
    this.code = code
  }
}
