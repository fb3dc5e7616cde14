/**
 * Where the cache of token-decoder.ts lies: a block for each layer, so that attention reads keys and values where
 * they are, with room beside them for what it reads and writes. Knows no weights.
 */

import { BlockLayout } from '../kernels/block-layout.ts'
import type { Block } from '../kernels/vector-jobs.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { KvMemory } from './kv-cache.ts'

/** Cache of one layer with the vectors that its attention reads and writes. */
export interface Past {
  readonly block: Block
  /** (streams, C) each. */
  readonly q: Float32Array
  readonly mixed: Float32Array
  readonly lengths: Int32Array
  readonly scores: number
}

export class AttentionMemory implements KvMemory {
  readonly #threads: VectorThreads
  readonly #streams: number
  readonly #width: number
  readonly #threadCount: number
  readonly #layers: Past[] = []

  /** @param width of all heads together, C. */
  constructor(threads: VectorThreads, streams: number, width: number, threadCount: number) {
    this.#threads = threads
    this.#streams = streams
    this.#width = width
    this.#threadCount = threadCount
  }

  /** Of a layer whose cache was allocated. */
  past(layer: number): Past {
    return this.#layers[layer] as Past
  }

  allocate(layer: number, floats: number, positions: number): Float32Array {
    const vectors = this.#streams * this.#width
    const layout = new BlockLayout()
    const cache = layout.reserve(floats)
    const q = layout.reserve(vectors)
    const mixed = layout.reserve(vectors)
    const lengths = layout.reserve(this.#streams)
    const scores = layout.reserve(this.#threadCount * (positions + 4))
    const block = this.#threads.block(layout.bytes, this.#layers[layer]?.block)
    this.#layers[layer] = {
      block,
      q: new Float32Array(block.buffer, q, vectors),
      mixed: new Float32Array(block.buffer, mixed, vectors),
      lengths: new Int32Array(block.buffer, lengths, this.#streams),
      scores,
    }
    return new Float32Array(block.buffer, cache, floats)
  }
}
