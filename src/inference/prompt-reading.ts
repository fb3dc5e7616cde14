/**
 * Reads one prompt at a time into a cache of its own, after the longest beginning that is known from earlier prompts,
 * and scores its tokens if its request asks for it. Does not know which prompts wait.
 */
import type { ModelConfig } from '../model/config.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import { KvCache } from './kv-cache.ts'
import { PrefixCache } from './prefix-cache.ts'
import type { DecoderBatch, DecoderOutput, OnLogits, OnStream, PromptReader } from './prompt-reader.ts'
import type { RequestStream } from './request-stream.ts'
import { negativeLogLikelihood } from './token-logprobs.ts'

export interface PromptReadingInit {
  /** Number of experts, the public one included. */
  readonly E: number
  readonly contextLength: number
  readonly prefixCacheBytes: number
  readonly keysValuesBytes: number
}

/** A text whose mean stream is asked for. */
export interface MeanRequest {
  /** At least one, and at most `contextLength`. */
  readonly tokens: Int32Array
  /** Index of the first token that counts. */
  readonly from: number
  readonly routing: SequenceRouting
  readonly signal: AbortSignal
}

/** The tokens that one call has read. */
export interface ReadTokens {
  readonly count: number
  /** After the last token of the prompt; absent if more tokens follow, or if no token of an answer is needed. */
  readonly output?: DecoderOutput
}

/** A cache that has become larger than this is dropped after use, because the next prompt may be short. */
const LARGE_CACHE_BYTES = 64 * 2 ** 20

export class PromptReading {
  readonly #decoder: PromptReader
  readonly #config: ModelConfig
  readonly #init: PromptReadingInit
  /** Holds the prompt that is being read, in its only slot. */
  #cache: KvCache
  readonly #prefixes: PrefixCache

  constructor(decoder: PromptReader, config: ModelConfig, init: PromptReadingInit) {
    this.#decoder = decoder
    this.#config = config
    this.#init = init
    this.#cache = this.#newCache()
    this.#prefixes = new PrefixCache(init.prefixCacheBytes)
  }

  #newCache(): KvCache {
    return new KvCache(this.#config, this.#init.E, 1, this.#init.contextLength)
  }

  /** Begins with an empty cache, after a step that has failed. */
  reset(): void {
    this.#cache = this.#newCache()
  }

  /** Prepares the cache for a new prompt. @returns after the beginning that is known from an earlier prompt. */
  async begin(stream: RequestStream): Promise<void> {
    const { prompt, scorePrompt, scope = '' } = stream.request
    await this.#cache.ensure(1, prompt.length, this.#init.keysValuesBytes)
    // Scores need the logits after every token.
    if (scorePrompt === true) return
    const known = this.#prefixes.find(prompt, stream.request, scope)
    // The last token is always read, because its logits choose the first token of the completion.
    const length = Math.min(known?.length ?? 0, prompt.length - 1)
    if (known === undefined || length === 0) return
    this.#cache.copyIn(0, known.prefix, length)
    stream.length = length
    stream.cachedTokens = length
  }

  /** Reads at most `most` tokens of the prompt that was begun. */
  async read(stream: RequestStream, most: number): Promise<ReadTokens> {
    const { prompt, scorePrompt = false, maxTokens } = stream.request
    const { length } = stream
    if (scorePrompt && length < prompt.length - 1) {
      const ids = prompt.subarray(length, Math.min(length + most, prompt.length - 1))
      await this.#decoder.readAll(this.#cache, this.#batch(ids, length, stream.request), (t, logits) =>
        stream.scorePromptToken(logits, prompt[length + t + 1] as number),
      )
      stream.length += ids.length
      return { count: ids.length }
    }
    if (maxTokens < 1) {
      stream.length = prompt.length
      return { count: 1 }
    }
    const ids = prompt.subarray(length, length + most)
    const batch = this.#batch(ids, length, stream.request)
    stream.length += ids.length
    if (stream.length === prompt.length)
      return { count: ids.length, output: await this.#decoder.forward(this.#cache, batch) }
    await this.#decoder.prefill(this.#cache, batch)
    return { count: ids.length }
  }

  #batch(ids: Int32Array, length: number, routing: SequenceRouting): DecoderBatch {
    return { slot: 0, B: 1, T: ids.length, ids, lengths: [length], routings: [routing] }
  }

  /** Copies a prompt that was read to its end to a slot of another cache, and releases the own one if it is large. */
  async moveTo(cache: KvCache, slot: number, length: number): Promise<void> {
    await cache.copy(this.#cache, 0, slot, length)
    if (this.#cache.positions * this.#cache.positionBytes > LARGE_CACHE_BYTES) this.reset()
  }

  /** Keeps a prompt for later ones with the same beginning. @param slot of `cache` that holds it */
  keep({ request }: RequestStream, cache: KvCache, slot: number): void {
    this.#prefixes.add(request.prompt, request, cache, slot, request.scope ?? '')
  }

  /**
   * Negative log-likelihood of all tokens after the first, in nats, in pieces of `pieceTokens`.
   * @param exclusive runs an action after all earlier ones
   */
  async score(
    tokens: Int32Array,
    routing: SequenceRouting,
    pieceTokens: number,
    exclusive: (action: () => Promise<void>) => Promise<void>,
  ): Promise<number> {
    const cache = this.#newCache()
    await cache.ensure(1, tokens.length, this.#init.keysValuesBytes)
    let nats = 0
    for (let start = 0; start + 1 < tokens.length; start += pieceTokens) {
      const ids = tokens.subarray(start, Math.min(start + pieceTokens, tokens.length - 1))
      const add: OnLogits = (t, logits) => {
        nats += negativeLogLikelihood(logits, tokens[start + t + 1] as number)
      }
      await exclusive(() => this.#decoder.readAll(cache, this.#batch(ids, start, routing), add))
    }
    return nats
  }

  /**
   * Mean of the final stream, after its norm, over the tokens from `from` on (C), in pieces of `pieceTokens`.
   * @param exclusive runs an action after all earlier ones
   * @throws the reason of `signal`, between two pieces
   */
  async meanStream(
    { tokens, from, routing, signal }: MeanRequest,
    pieceTokens: number,
    exclusive: (action: () => Promise<void>) => Promise<void>,
  ): Promise<Float32Array> {
    const cache = this.#newCache()
    await cache.ensure(1, tokens.length, this.#init.keysValuesBytes)
    const sum = new Float64Array(this.#config.hiddenSize)
    for (let start = 0; start < tokens.length; start += pieceTokens) {
      signal.throwIfAborted()
      const ids = tokens.subarray(start, start + pieceTokens)
      const add: OnStream = (t, stream) => {
        if (start + t < from) return
        for (let c = 0; c < stream.length; c++) sum[c] = (sum[c] as number) + (stream[c] as number)
      }
      await exclusive(() => this.#decoder.readStream(cache, this.#batch(ids, start, routing), add))
    }
    return Float32Array.from(sum, (value) => value / (tokens.length - from))
  }
}
