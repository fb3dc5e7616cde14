/**
 * Memory for the key-value cache of token-decoder.ts: one shared block per layer, so that the attention kernel reads
 * keys and values without a copy, with buffers for its other operands. Does not know weights.
 */

import { BlockLayout } from '../kernels/block-layout.ts'
import type { Block } from '../kernels/vector-jobs.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { KvMemory } from './kv-cache.ts'

/** The block of one layer and the buffers of its attention kernel. */
export interface AttentionBlock {
  readonly block: Block
  /** Queries (streams, C). */
  readonly q: Float32Array
  /** Address of the attention output (streams, C), before the output projection. */
  readonly out: number
  /** The attention output of each stream, (C). */
  readonly mixed: readonly Float32Array[]
  /** (streams): number of positions of each sequence. */
  readonly lengths: Int32Array
  /** Address of the scratch space for scores. */
  readonly scores: number
}

export class AttentionMemory implements KvMemory {
  readonly #threads: VectorThreads
  readonly #streams: number
  readonly #width: number
  readonly #threadCount: number
  readonly #layers: AttentionBlock[] = []

  /** @param width width of all query heads together, C */
  constructor(threads: VectorThreads, streams: number, width: number, threadCount: number) {
    this.#threads = threads
    this.#streams = streams
    this.#width = width
    this.#threadCount = threadCount
  }

  /** The block of a layer. Valid from the first `allocate` of that layer until its next. */
  block(layer: number): AttentionBlock {
    return this.#layers[layer] as AttentionBlock
  }

  allocate(layer: number, floats: number, positions: number): Float32Array {
    const vectors = this.#streams * this.#width
    const layout = new BlockLayout()
    const cache = layout.reserve(floats)
    const q = layout.reserve(vectors)
    const out = layout.reserve(vectors)
    const lengths = layout.reserve(this.#streams)
    const scores = layout.reserve(this.#threadCount * (positions + 4))
    const block = this.#threads.block(layout.bytes, this.#layers[layer]?.block)
    this.#layers[layer] = {
      block,
      q: new Float32Array(block.buffer, q, vectors),
      out,
      mixed: Array.from(
        { length: this.#streams },
        (_, stream) => new Float32Array(block.buffer, out + 4 * stream * this.#width, this.#width),
      ),
      lengths: new Int32Array(block.buffer, lengths, this.#streams),
      scores,
    }
    return new Float32Array(block.buffer, cache, floats)
  }
}
