/**
 * Serves many requests at once. Each step reads a limited number of tokens of the waiting prompts, one prompt after the
 * other, and then computes one more token of every active request. Requests that leave out different experts share a
 * step, because leaving out an expert only changes the router mask and the gate. Does not know tokenizers, HTTP or
 * weights.
 */
import { setImmediate } from 'node:timers/promises'
import type { ModelConfig } from '../model/config.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import { KvCache } from './kv-cache.ts'
import type { DecoderOutput, PromptReader } from './prompt-reader.ts'
import { type MeanRequest, PromptReading } from './prompt-reading.ts'
import { type GeneratedToken, type GenerateRequest, RequestStream } from './request-stream.ts'
import type { TokenDecoder } from './token-decoder.ts'

export interface Generator {
  /** Maximum number of tokens of a prompt and its completion together. */
  readonly contextLength: number
  /** Completes a prompt. @throws the signal's reason when aborted. */
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, void, void>
  /** Negative log-likelihood of all tokens after the first, in nats; for at most `contextLength` tokens. */
  score(tokens: Int32Array, routing: SequenceRouting): Promise<number>
  /** Mean of the final stream, after its norm, over the tokens of a text (C). @throws the signal's reason. */
  meanStream(request: MeanRequest): Promise<Float32Array>
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
  readonly #prompts: PromptReading
  /** Holds the active requests. */
  #cache: KvCache
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
    this.#prompts = new PromptReading(decoder, config, init)
    this.#cache = this.#newCache()
    this.#dispose = init.dispose
  }

  async *generate(
    request: GenerateRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<GeneratedToken, void, void> {
    signal?.throwIfAborted()
    if (request.maxTokens < 1 && request.scorePrompt !== true) return
    const stream = new RequestStream(request, this.contextLength, signal)
    this.#waiting.push(stream)
    this.#start()
    yield* stream.tokens()
  }

  score(tokens: Int32Array, routing: SequenceRouting): Promise<number> {
    return this.#prompts.score(tokens, routing, this.#prefillTokens, (action) => this.#exclusive(action))
  }

  meanStream(request: MeanRequest): Promise<Float32Array> {
    return this.#prompts.meanStream(request, this.#prefillTokens, (action) => this.#exclusive(action))
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
        this.#prompts.reset()
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
    if (stream.length === 0) await this.#prompts.begin(stream)
    // After another prompt in this step, only read a prompt to its end: a short run costs nearly as much as a long one.
    if (!isFirst && prompt.length - stream.length > remaining) return 0
    const { count, output } = await this.#prompts.read(stream, remaining)
    if (stream.length < prompt.length) return count
    this.#waiting.shift()
    stream.reportPrompt()
    if (output === undefined) {
      stream.end()
      return count
    }
    this.#active.push(stream)
    await this.#cache.ensure(slot + 1, prompt.length, this.#keysValuesBytes)
    await this.#prompts.moveTo(this.#cache, slot, prompt.length)
    this.#choose(stream, output, 0)
    // Lets the reader receive the first token before the prompt is copied into the prefix cache.
    await setImmediate()
    this.#prompts.keep(stream, this.#cache, slot)
    return count
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
