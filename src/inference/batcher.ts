/**
 * Many requests at once: each step reads some of the prompts that wait, one after the other, and then one more token
 * of every request in work. Leaving an expert out is a router mask and a gate of the others, so requests that differ
 * in it share a step. Knows no tokenizer, no HTTP and no weights.
 */
import { setImmediate } from 'node:timers/promises'
import type { ModelConfig } from '../model/config.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import type { Decoder, DecoderOutput } from './decoder.ts'
import { KvCache } from './kv-cache.ts'
import { PrefixCache } from './prefix-cache.ts'
import { chooseToken, type Sampling } from './sampling.ts'
import type { TokenDecoder } from './token-decoder.ts'

/** The public expert is always in use. */
export interface GenerateRequest extends SequenceRouting {
  /** At least one token; longer than the context is refused by the caller. */
  readonly prompt: Int32Array
  readonly maxTokens: number
  readonly sampling: Sampling
  /** Ends generation when chosen; not yielded. */
  readonly endOfText: number
}

export interface GeneratedToken {
  readonly id: number
  /** Routing weight of each expert for this token, mean over layers; sums to 1. */
  readonly shares: Float32Array
}

export interface Generator {
  readonly contextLength: number
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, void, void>
  /** Nats of every token after the first, summed; at most `contextLength` tokens. */
  score(tokens: Int32Array, routing: SequenceRouting): Promise<number>
  /** Finish what is in work, then release memory. */
  dispose(): Promise<void>
}

export interface BatcherInit {
  readonly E: number
  /** Longest prompt plus completion. */
  readonly contextLength: number
  /** Requests in work at once; more wait. */
  readonly streams: number
  /** Tokens of a prompt that are read in one run. */
  readonly prefillTokens: number
  readonly prefixCacheBytes: number
}

/** One request in work. */
interface Stream {
  readonly request: GenerateRequest
  readonly choose: (logits: Float32Array) => number
  readonly signal: AbortSignal | undefined
  /** Nobody reads on. */
  abandoned: boolean
  /** Tokens in the cache. */
  length: number
  produced: number
  /** Chosen, but not in the cache yet. */
  next: number
  readonly ready: GeneratedToken[]
  end: { error?: unknown } | undefined
  wake: (() => void) | undefined
}

export class Batcher implements Generator {
  readonly contextLength: number
  readonly #decoder: Decoder
  readonly #tokenDecoder: TokenDecoder | undefined
  readonly #config: ModelConfig
  readonly #E: number
  readonly #streams: number
  readonly #prefillTokens: number
  /** Of the prompt that is being read. */
  #prefillCache: KvCache
  /** Of the requests in work. */
  #cache: KvCache
  readonly #prefixes: PrefixCache
  readonly #waiting: Stream[] = []
  /** Index is the slot in the cache. */
  readonly #active: Stream[] = []
  #work: Promise<void> = Promise.resolve()
  #working = false
  #hasFailed = false

  constructor(decoder: Decoder, tokens: TokenDecoder | undefined, config: ModelConfig, init: BatcherInit) {
    this.#decoder = decoder
    this.#tokenDecoder = tokens
    this.#config = config
    this.#E = init.E
    this.contextLength = init.contextLength
    this.#streams = init.streams
    this.#prefillTokens = init.prefillTokens
    this.#prefillCache = this.#newPrefillCache()
    this.#cache = this.#newCache()
    this.#prefixes = new PrefixCache(init.prefixCacheBytes)
  }

  async *generate(
    request: GenerateRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<GeneratedToken, void, void> {
    signal?.throwIfAborted()
    if (request.maxTokens < 1) return
    const stream: Stream = {
      request,
      choose: chooseToken(request.sampling),
      signal,
      abandoned: false,
      length: 0,
      produced: 0,
      next: 0,
      ready: [],
      end: undefined,
      wake: undefined,
    }
    const wake = (): void => stream.wake?.()
    signal?.addEventListener('abort', wake)
    this.#waiting.push(stream)
    this.#start()
    try {
      for (;;) {
        signal?.throwIfAborted()
        const token = stream.ready.shift()
        if (token !== undefined) yield token
        else if (stream.end !== undefined) {
          if ('error' in stream.end) throw stream.end.error
          return
        } else {
          await new Promise<void>((resolve) => {
            stream.wake = resolve
          })
        }
      }
    } finally {
      stream.abandoned = true
      signal?.removeEventListener('abort', wake)
    }
  }

  async score(tokens: Int32Array, routing: SequenceRouting): Promise<number> {
    const cache = this.#newPrefillCache()
    cache.ensure(1, tokens.length)
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
    while (this.#working) await this.#work
    await this.#work
    await this.#tokenDecoder?.dispose()
    await this.#decoder.dispose()
  }

  /** The decoder's buffers serve one call at a time. */
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
    if (this.#working) return
    this.#working = true
    void this.#loop()
  }

  async #loop(): Promise<void> {
    try {
      if (this.#hasFailed) {
        // Whatever it was may have left them half grown.
        this.#prefillCache = this.#newPrefillCache()
        this.#cache = this.#newCache()
        this.#hasFailed = false
      }
      while (this.#active.length > 0 || this.#waiting.length > 0) {
        await this.#exclusive(() => this.#admit())
        this.#dropFinished()
        await this.#exclusive(() => this.#step())
        this.#dropFinished()
      }
    } catch (error) {
      for (const stream of [...this.#waiting.splice(0), ...this.#active.splice(0)]) finish(stream, { error })
      this.#hasFailed = true
    } finally {
      this.#working = false
    }
  }

  /** Read of the prompts that wait as many tokens as one step may. */
  async #admit(): Promise<void> {
    for (let room = this.#prefillTokens; room > 0; ) {
      const read = await this.#prefillNext(room)
      if (read === 0) return
      room -= read
    }
  }

  /** At most `room` tokens of the first prompt that waits; with its last piece the request goes into work. */
  async #prefillNext(room: number): Promise<number> {
    while (this.#waiting[0] !== undefined && isOver(this.#waiting[0])) {
      finish(this.#waiting.shift() as Stream, {})
    }
    const stream = this.#waiting[0]
    const slot = this.#active.length
    if (stream === undefined || slot >= this.#streams) return 0
    const { prompt } = stream.request
    if (stream.length === 0) {
      this.#prefillCache.ensure(1, prompt.length)
      const known = this.#prefixes.find(prompt, stream.request)
      // The last token is read in any case: its logits are what comes next.
      const length = Math.min(known?.length ?? 0, prompt.length - 1)
      if (known !== undefined && length > 0) {
        this.#prefillCache.copyIn(0, known.prefix, length)
        stream.length = length
      }
    }
    const isFirst = room === this.#prefillTokens
    // Behind another prompt only what ends its own: a run of few tokens costs nearly as much as one of many.
    if (!isFirst && prompt.length - stream.length > room) return 0
    const ids = prompt.subarray(stream.length, stream.length + room)
    const batch = { slot: 0, B: 1, T: ids.length, ids, lengths: [stream.length], routings: [stream.request] }
    stream.length += ids.length
    if (stream.length < prompt.length) {
      await this.#decoder.prefill(this.#prefillCache, batch)
      return ids.length
    }
    const out = await this.#decoder.forward(this.#prefillCache, batch)
    this.#waiting.shift()
    this.#active.push(stream)
    this.#cache.ensure(slot + 1, prompt.length)
    this.#cache.copy(this.#prefillCache, 0, slot, prompt.length)
    this.#choose(stream, out, 0)
    // Whoever waits for the first token has it before what is kept is copied.
    await setImmediate()
    this.#prefixes.add(prompt, stream.request, this.#prefillCache, 0)
    return ids.length
  }

  /** One more token of every request in work. */
  async #step(): Promise<void> {
    const B = this.#active.length
    if (B === 0) return
    const lengths = this.#active.map(({ length }) => length)
    this.#cache.ensure(B, Math.max(...lengths) + 1)
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

  #choose(stream: Stream, { logits, shares }: DecoderOutput, b: number): void {
    const { vocabSize: V } = this.#config
    const E = this.#E
    const id = stream.choose(logits.subarray(b * V, (b + 1) * V))
    if (id === stream.request.endOfText) {
      finish(stream, {})
      return
    }
    stream.next = id
    stream.produced++
    stream.ready.push({ id, shares: shares.slice(b * E, (b + 1) * E) })
    if (stream.length >= this.contextLength || stream.produced >= stream.request.maxTokens) finish(stream, {})
    stream.wake?.()
  }

  /** Slots in use stay the first ones: the last moves into the place of one that ended. */
  #dropFinished(): void {
    for (let slot = this.#active.length - 1; slot >= 0; slot--) {
      const stream = this.#active[slot] as Stream
      if (!isOver(stream)) continue
      finish(stream, {})
      const last = this.#active.pop() as Stream
      if (last === stream) continue
      this.#cache.copy(this.#cache, this.#active.length, slot, last.length)
      this.#active[slot] = last
    }
  }
}

function isOver(stream: Stream): boolean {
  return stream.end !== undefined || stream.abandoned || stream.signal?.aborted === true
}

function finish(stream: Stream, end: { error?: unknown }): void {
  stream.end ??= end
  stream.wake?.()
}
