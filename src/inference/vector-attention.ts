/**
 * Attention of one new token of each sequence with the vector kernels: projections, norms of queries and keys, rotary
 * positions, the cache, and the output projection. Jobs are encoded once, since encoding them takes about as long as the
 * products of a small model. Does not know experts or tokens.
 */
import { type EncodedJob, withVectors } from '../kernels/vector-jobs.ts'
import type { PlainVectors, ProductResults } from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { type AttentionBlock, AttentionMemory } from './attention-memory.ts'
import type { DecodingState, Gains } from './decoding-state.ts'
import type { HeldWeights } from './held-weights.ts'
import type { KvCache } from './kv-cache.ts'

/** The products of one layer. */
interface LayerJobs {
  /** Query, key and value projections. */
  readonly inputs: readonly EncodedJob[]
  readonly output: readonly EncodedJob[]
  attend: AttendJob | undefined
}

/** The attention job of one layer, valid for one block of its cache and one number of sequences. */
interface AttendJob {
  readonly past: AttentionBlock
  readonly sequences: number
  readonly jobs: readonly EncodedJob[]
}

export class VectorAttention {
  /** Memory that the cache of the sequences must use. */
  readonly memory: AttentionMemory
  readonly #threads: VectorThreads
  readonly #held: HeldWeights
  readonly #state: DecodingState
  readonly #config: ModelConfig
  readonly #layers: readonly LayerJobs[]

  /** @param init maximum number of sequences, and number of threads of the pool */
  constructor(
    threads: VectorThreads,
    held: HeldWeights,
    state: DecodingState,
    init: { readonly streams: number; readonly threads: number },
  ) {
    const { config } = held
    this.#threads = threads
    this.#held = held
    this.#state = state
    this.#config = config
    this.memory = new AttentionMemory(threads, init.streams, config.hiddenSize, init.threads)
    this.#layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => {
      const { block, matrices, x, q, k, v } = held.attention(layer)
      const from = { kind: 'product', block, x: x.address, vectors: 1 } as const
      return {
        inputs: [
          threads.encode({ ...from, matrix: matrices.q_proj, y: q.address }),
          threads.encode({ ...from, matrix: matrices.k_proj, y: k.address }),
          threads.encode({ ...from, matrix: matrices.v_proj, y: v.address }),
        ],
        output: [threads.encode({ ...from, matrix: matrices.o_proj, y: q.address })],
        attend: undefined,
      }
    })
  }

  /**
   * Sets the first vectors y of the state to the attention of the vectors u, and appends keys and values to the cache.
   * @param lengths number of tokens of each sequence that are in the cache
   */
  run(cache: KvCache, layer: number, lengths: readonly number[]): void {
    const { hiddenSize: C, rmsNormEps } = this.#config
    const B = lengths.length
    const { block, u, y, q, k, v, cos, sin, gains: allGains } = this.#state
    const { kernels } = block
    const past = this.memory.block(layer)
    const held = this.#held.attention(layer)
    const { inputs, output } = this.#layers[layer] as LayerJobs
    const gains = allGains[layer] as Gains
    const K = keyValueWidth(this.#config)
    const half = headSize(this.#config) / 2
    for (let b = 0; b < B; b++) held.x.write(B, b, u.vector(b))
    for (const job of inputs) withVectors(job, B)
    this.#threads.runEncoded(inputs)
    for (let b = 0; b < B; b++) {
      readResult(held.q, b, q)
      readResult(held.k, b, k)
      readResult(held.v, b, v)
      kernels.rmsNorm(q.at(b), gains.q, q.at(b), C, rmsNormEps)
      kernels.rmsNorm(k.at(b), gains.k, k.at(b), K, rmsNormEps)
      kernels.rotate(q.at(b), cos.at(b), sin.at(b), half, C)
      kernels.rotate(k.at(b), cos.at(b), sin.at(b), half, K)
      past.lengths[b] = (lengths[b] as number) + 1
    }
    past.q.set(q.first(B))
    cache.write(layer, 0, lengths, 1, k.first(B), v.first(B))
    this.#threads.runEncoded(this.#attendJobs(cache, layer, past, B))
    for (let b = 0; b < B; b++) held.x.write(B, b, past.mixed[b] as Float32Array)
    for (const job of output) withVectors(job, B)
    this.#threads.runEncoded(output)
    for (let b = 0; b < B; b++) readResult(held.q, b, y)
  }

  #attendJobs(cache: KvCache, layer: number, past: AttentionBlock, sequences: number): readonly EncodedJob[] {
    const jobs = this.#layers[layer] as LayerJobs
    if (jobs.attend?.past === past && jobs.attend.sequences === sequences) return jobs.attend.jobs
    const { numAttentionHeads, numKeyValueHeads } = this.#config
    const job = this.#threads.encode({
      kind: 'attend',
      block: past.block,
      q: past.q.byteOffset,
      out: past.out,
      keys: cache.keys(layer, 0, sequences).byteOffset,
      values: cache.values(layer, 0, sequences).byteOffset,
      lengths: past.lengths.byteOffset,
      scores: past.scores,
      sequences,
      heads: numAttentionHeads,
      keyValueHeads: numKeyValueHeads,
      positions: cache.positions,
      width: headSize(this.#config),
    })
    jobs.attend = { past, sequences, jobs: [job] }
    return jobs.attend.jobs
  }
}

/** Copies result b of a product to vector b of `to`. */
function readResult(from: ProductResults, b: number, to: PlainVectors): void {
  to.vector(b).set(from.vector(b))
}
