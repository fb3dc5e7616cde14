/**
 * Serves many requests at once. Each step reads a limited number of tokens of the waiting prompts, one prompt after the
 * other, and then computes one more token of every active request. Requests that leave out different experts share a
 * step, because leaving out an expert only changes the router mask and the gate. Does not know tokenizers, HTTP or
 * weights.
 */
import { setImmediate } from 'node:timers/promises'
import type { ModelConfig } from '../model/config.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import type { DecoderOutput, PromptReader } from './decoder.ts'
import { KvCache } from './kv-cache.ts'
import { PrefixCache } from './prefix-cache.ts'
import { type GeneratedToken, type GenerateRequest, RequestStream } from './request-stream.ts'
import type { TokenDecoder } from './token-decoder.ts'

export interface Generator {
  /** Maximum number of tokens of a prompt and its completion together. */
  readonly contextLength: number
  /** Completes a prompt. @throws the signal's reason when aborted. */
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, void, void>
  /** Negative log-likelihood of all tokens after the first, in nats; for at most `contextLength` tokens. */
  score(tokens: Int32Array, routing: SequenceRouting): Promise<number>
  /** Finishes the requests in progress, then releases memory and threads. */
  dispose(): Promise<void>
}

export interface BatcherInit {
  /** Number of experts, the public one included. */
  readonly E: number
  /** Maximum number of tokens of a prompt and its completion together. */
  readonly contextLength: number
  /** Maximum number of active requests; others wait. */
  readonly streams: number
  /** Maximum number of prompt tokens read in one step. */
  readonly prefillTokens: number
  /** Maximum number of prompt tokens read in one step while no other request is active. */
  readonly prefillTokensAlone: number
  readonly prefixCacheBytes: number
  /**
   * Memory for keys and values. Requests whose keys and values would not fit beside those of active ones wait; a request
   * alone is always admitted.
   */
  readonly keysValuesBytes: number
  /** Releases the decoders. */
  readonly dispose: () => Promise<void>
}

/** A cache for prompts that has become larger than this is dropped after use. */
const LARGE_CACHE_BYTES = 64 * 2 ** 20

/** Milliseconds of steps after which the event loop gets a turn. */
const LONGEST_TURN_MS = 4

export class Batcher implements Generator {
  readonly contextLength: number
  readonly #decoder: PromptReader
  readonly #tokenDecoder: TokenDecoder | undefined
  readonly #config: ModelConfig
  readonly #E: number
  readonly #streams: number
  readonly #prefillTokens: number
  readonly #prefillTokensAlone: number
  readonly #keysValuesBytes: number
  /** Holds the prompt that is being read, in its only slot. */
  #prefillCache: KvCache
  /** Holds the active requests. */
  #cache: KvCache
  readonly #prefixes: PrefixCache
  readonly #dispose: () => Promise<void>
  readonly #waiting: RequestStream[] = []
  /** By slot in the cache. */
  readonly #active: RequestStream[] = []
  #work: Promise<void> = Promise.resolve()
  #isWorking = false
  #hasFailed = false

  /** @param tokenDecoder decodes the active requests; without one, `decoder` does */
  constructor(
    decoder: PromptReader,
    tokenDecoder: TokenDecoder | undefined,
    config: ModelConfig,
    init: BatcherInit,
  ) {
    this.#decoder = decoder
    this.#tokenDecoder = tokenDecoder
    this.#config = config
    this.#E = init.E
    this.contextLength = init.contextLength
    this.#streams = init.streams
    this.#prefillTokens = init.prefillTokens
    this.#prefillTokensAlone = init.prefillTokensAlone
    this.#keysValuesBytes = init.keysValuesBytes
    this.#prefillCache = this.#newPrefillCache()
    this.#cache = this.#newCache()
    this.#prefixes = new PrefixCache(init.prefixCacheBytes)
    this.#dispose = init.dispose
  }

  async *generate(
    request: GenerateRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<GeneratedToken, void, void> {
    signal?.throwIfAborted()
    if (request.maxTokens < 1) return
    const stream = new RequestStream(request, this.contextLength, signal)
    this.#waiting.push(stream)
    this.#start()
    yield* stream.tokens()
  }

  async score(tokens: Int32Array, routing: SequenceRouting): Promise<number> {
    const cache = this.#newPrefillCache()
    await cache.ensure(1, tokens.length, this.#keysValuesBytes)
    let nats = 0
    for (let start = 0; start + 1 < tokens.length; start += this.#prefillTokens) {
      const end = Math.min(start + this.#prefillTokens, tokens.length - 1)
      const batch = {
        slot: 0,
        B: 1,
        T: end - start,
        ids: tokens.subarray(start, end),
        lengths: [start],
        routings: [routing],
      }
      nats += await this.#exclusive(() =>
        this.#decoder.score(cache, batch, tokens.subarray(start + 1, end + 1)),
      )
    }
    return nats
  }

  async dispose(): Promise<void> {
    while (this.#isWorking) await this.#work
    await this.#work
    await this.#dispose()
  }

  /** Runs `action` after all earlier ones, because the buffers of the decoders serve one call at a time. */
  #exclusive<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#work.then(action)
    this.#work = result.then(
      () => undefined,
      () => undefined,
    )
    return result
  }

  #newPrefillCache(): KvCache {
    return new KvCache(this.#config, this.#E, 1, this.contextLength)
  }

  #newCache(): KvCache {
    return new KvCache(this.#config, this.#E, this.#streams, this.contextLength, this.#tokenDecoder?.memory)
  }

  #start(): void {
    if (this.#isWorking) return
    this.#isWorking = true
    void this.#loop()
  }

  async #loop(): Promise<void> {
    try {
      if (this.#hasFailed) {
        // The failed step may have left the caches in an inconsistent state.
        this.#prefillCache = this.#newPrefillCache()
        this.#cache = this.#newCache()
        this.#hasFailed = false
      }
      let turn = performance.now()
      while (this.#active.length > 0 || this.#waiting.length > 0) {
        await this.#exclusive(() => this.#admit())
        await this.#dropFinished()
        await this.#exclusive(() => this.#step())
        await this.#dropFinished()
        // Promises alone do not let the event loop turn. Readers get their tokens, and other work goes on.
        if (performance.now() - turn > LONGEST_TURN_MS) {
          await this.#exclusive(() => setImmediate())
          turn = performance.now()
        }
      }
    } catch (error) {
      for (const stream of [...this.#waiting.splice(0), ...this.#active.splice(0)]) stream.end({ error })
      this.#hasFailed = true
    } finally {
      this.#isWorking = false
    }
  }

  /** Reads as many tokens of the waiting prompts as one step may. */
  async #admit(): Promise<void> {
    const most = this.#active.length === 0 ? this.#prefillTokensAlone : this.#prefillTokens
    for (let remaining = most; remaining > 0; ) {
      const count = await this.#prefillNext(remaining, remaining === most)
      if (count === 0) return
      remaining -= count
    }
  }

  /**
   * Reads at most `remaining` tokens of the first waiting prompt. When it has been read completely, the request becomes
   * active.
   * @param isFirst whether nothing has been read in this step
   * @returns the number of tokens read; 0 ends the step.
   */
  async #prefillNext(remaining: number, isFirst: boolean): Promise<number> {
    while (this.#waiting[0]?.isOver) this.#waiting.shift()?.end()
    const stream = this.#waiting[0]
    const slot = this.#active.length
    if (stream === undefined || slot >= this.#streams || !this.#hasSpaceFor(stream)) return 0
    const { prompt } = stream.request
    if (stream.length === 0) {
      await this.#prefillCache.ensure(1, prompt.length, this.#keysValuesBytes)
      const known = this.#prefixes.find(prompt, stream.request)
      // The last token is always read, because its logits choose the first token of the completion.
      const length = Math.min(known?.length ?? 0, prompt.length - 1)
      if (known !== undefined && length > 0) {
        this.#prefillCache.copyIn(0, known.prefix, length)
        stream.length = length
      }
    }
    // After another prompt in this step, only read a prompt to its end: a short run costs nearly as much as a long one.
    if (!isFirst && prompt.length - stream.length > remaining) return 0
    const ids = prompt.subarray(stream.length, stream.length + remaining)
    const batch = { slot: 0, B: 1, T: ids.length, ids, lengths: [stream.length], routings: [stream.request] }
    stream.length += ids.length
    if (stream.length < prompt.length) {
      await this.#decoder.prefill(this.#prefillCache, batch)
      return ids.length
    }
    const out = await this.#decoder.forward(this.#prefillCache, batch)
    this.#waiting.shift()
    this.#active.push(stream)
    await this.#cache.ensure(slot + 1, prompt.length, this.#keysValuesBytes)
    await this.#cache.copy(this.#prefillCache, 0, slot, prompt.length)
    // The next prompt may be short.
    if (this.#prefillCache.positions * this.#prefillCache.positionBytes > LARGE_CACHE_BYTES) {
      this.#prefillCache = this.#newPrefillCache()
    }
    this.#choose(stream, out, 0)
    // Lets the reader receive the first token before the prompt is copied into the prefix cache.
    await setImmediate()
    this.#prefixes.add(prompt, stream.request, this.#cache, slot)
    return ids.length
  }

  /** Whether the keys and values of a request fit beside those of the active ones until all have ended. */
  #hasSpaceFor(stream: RequestStream): boolean {
    if (this.#active.length === 0) return true
    const positions = Math.max(stream.mostPositions, ...this.#active.map((active) => active.mostPositions))
    const slots = this.#active.length + 1
    // While its prompt is read, it is in the cache for prompts, too.
    const all = slots * positions + stream.request.prompt.length
    return all * this.#cache.positionBytes <= this.#keysValuesBytes
  }

  /** Computes one more token of every active request. */
  async #step(): Promise<void> {
    const B = this.#active.length
    if (B === 0) return
    const lengths = this.#active.map(({ length }) => length)
    await this.#cache.ensure(B, Math.max(...lengths) + 1, this.#keysValuesBytes)
    const ids = Int32Array.from(this.#active, ({ next }) => next)
    const routings = this.#active.map(({ request }) => request)
    const out =
      this.#tokenDecoder === undefined
        ? await this.#decoder.forward(this.#cache, { slot: 0, B, T: 1, ids, lengths, routings })
        : await this.#tokenDecoder.forward(this.#cache, { ids, lengths, routings })
    this.#active.forEach((stream, b) => {
      stream.length++
      this.#choose(stream, out, b)
    })
  }

  /** Chooses the next token of a stream from row b of the output. */
  #choose(stream: RequestStream, { logits, shares }: DecoderOutput, b: number): void {
    const { vocabSize: V } = this.#config
    const E = this.#E
    stream.choose(logits.subarray(b * V, (b + 1) * V), shares.slice(b * E, (b + 1) * E))
  }

  /**
   * Removes requests that are over. The last slot moves into the freed one, so that slots in use remain the first
   * ones.
   */
  async #dropFinished(): Promise<void> {
    for (let slot = this.#active.length - 1; slot >= 0; slot--) {
      const stream = this.#active[slot] as RequestStream
      if (!stream.isOver) continue
      stream.end()
      const last = this.#active.pop() as RequestStream
      if (last === stream) continue
      await this.#cache.copy(this.#cache, this.#active.length, slot, last.length)
      this.#active[slot] = last
    }
  }
}
