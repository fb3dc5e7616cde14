/**
 * Reading prompts into a key-value cache: the batches, what is computed for them, and the interface of those that do it
 * (decoder.ts on an engine, prompt-decoder.ts by vector kernels). Does not know how it is computed.
 */
import type { SequenceRouting } from '../model/routing-plan.ts'
import type { KvCache } from './kv-cache.ts'

export interface DecoderInit {
  /** Number of experts, the public one included. */
  readonly E: number
  readonly topK: number
  /** Maximum number of positions of a sequence. */
  readonly contextLength: number
  /** Maximum number of rows (sequences times tokens) of one call. */
  readonly maxRows: number
}

/** T new tokens for each of B sequences in consecutive cache slots; T is 1 if there are several sequences. */
export interface DecoderBatch {
  /** First cache slot. */
  readonly slot: number
  readonly B: number
  readonly T: number
  /** (B, T). */
  readonly ids: Int32Array
  /** Number of tokens of each sequence that are in the cache, length B. */
  readonly lengths: readonly number[]
  /** One for each sequence, length B. */
  readonly routings: readonly SequenceRouting[]
}

export interface DecoderOutput {
  /** Logits of each sequence's last token (B, V); valid until the next call. */
  readonly logits: Float32Array
  /** Routing weight of each expert for that token (B, E), mean over layers; each row sums to 1. */
  readonly shares: Float32Array
}

/** @param t index of the token in the batch. @param logits (V) after it */
export type OnLogits = (t: number, logits: Float32Array) => void

/** @param t index of the token in the batch. @param stream (C) final stream after its norm, from which the head computes logits */
export type OnStream = (t: number, stream: Float32Array) => void

/** Reads prompts into a cache; its buffers serve one call at a time. */
export interface PromptReader {
  /**
   * Reads the batch into the cache and computes the logits of each sequence's last token. The caller has ensured that
   * the cache has space.
   */
  forward(cache: KvCache, batch: DecoderBatch): Promise<DecoderOutput>
  /** Reads the batch into the cache without computing logits, when more of the prompt follows. */
  prefill(cache: KvCache, batch: DecoderBatch): Promise<void>
  /**
   * Reads the batch, which has one sequence, into the cache, and computes the logits after each of its tokens.
   * @param onLogits receives them (V) in the order of the tokens; they are valid until it returns.
   */
  readAll(cache: KvCache, batch: DecoderBatch, onLogits: OnLogits): Promise<void>
  /**
   * Reads the batch, which has one sequence, into the cache, without logits.
   * @param onStream receives the stream of each token in the order of the tokens; it is valid until it returns.
   */
  readStream(cache: KvCache, batch: DecoderBatch, onStream: OnStream): Promise<void>
  dispose(): Promise<void>
}

/** The batch reduced to the last token of each sequence; the tokens before it count as cached. */
export function lastOf({ slot, B, T, ids, lengths, routings }: DecoderBatch): DecoderBatch {
  return {
    slot,
    B,
    T: 1,
    ids: Int32Array.from({ length: B }, (_, b) => ids[b * T + T - 1] as number),
    lengths: lengths.map((length) => length + T - 1),
    routings,
  }
}
