/**
 * Computes one more token of each active sequence with the vector kernels, which read weights as one sequential
 * stream, once for several sequences, and only those of experts that some token chose. Prompts are read by decoder.ts
 * or, from the same weights, by prompt-decoder.ts. Does not know requests.
 *
 * Other files compute the same function: model/transformer.ts (whole sequences in one graph), inference/decoder.ts with
 * serving-layers.ts, inference/prompt-decoder.ts, and model/onnx-graph.ts (export). test/inference/generate.test.ts
 * holds this file equal to model/transformer.ts, test/model/onnx-graph.test.ts holds the exported graph equal to it,
 * and test/inference/token-decoder.test.ts holds it to a reference in double precision.
 */
import { withVectors } from '../kernels/vector-jobs.ts'
import type { VectorKernels } from '../kernels/vector-kernels.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import { headSize, type ModelConfig } from '../model/config.ts'
import { type RotaryHalves, rotaryHalves } from '../model/layers.ts'
import type { ExpertRows, SequenceRouting } from '../model/routing-plan.ts'
import type { WeightMap } from '../model/weights.ts'
import type { AttentionMemory } from './attention-memory.ts'
import { BatchRouter } from './batch-router.ts'
import { createDecodingState, type DecodingState } from './decoding-state.ts'
import type { HeldWeights } from './held-weights.ts'
import type { KvCache } from './kv-cache.ts'
import type { DecoderOutput } from './prompt-reader.ts'
import { runJobs } from './run-jobs.ts'
import { Turns } from './turns.ts'
import { VectorAttention } from './vector-attention.ts'
import { VectorExperts } from './vector-experts.ts'
import { ATTENTION } from './weight-plan.ts'

export interface TokenDecoderInit {
  /** Number of experts, the public one included. */
  readonly E: number
  readonly topK: number
  /** Maximum number of positions of a sequence. */
  readonly contextLength: number
  /** Maximum number of sequences of one step. */
  readonly streams: number
  /** Number of threads of the pool. */
  readonly threads: number
  /** Writes the embedding of a token, (C). */
  readonly embed: (token: number, into: Float32Array) => void
}

/** One new token for each of the B sequences in the first B cache slots. */
export interface TokenBatch {
  /** The new tokens, length B. */
  readonly ids: Int32Array
  /** Number of tokens of each sequence that are in the cache, length B. */
  readonly lengths: readonly number[]
  /** One for each sequence, length B. */
  readonly routings: readonly SequenceRouting[]
}

/** Milliseconds after which the event loop gets a turn, between two lists of products. */
const LONGEST_TURN_MS = 4

/** Parts of the head of the largest vocabulary that fits memory. */
const MAX_HEAD_PARTS = 64

/** Maximum number of jobs of one list for a mixture of E experts. */
export function longestList(E: number): number {
  return Math.max(ATTENTION.length, MAX_HEAD_PARTS, 2 * E + 2)
}

export class TokenDecoder {
  readonly #config: ModelConfig
  readonly #E: number
  readonly #embed: TokenDecoderInit['embed']
  readonly #threads: VectorThreads
  readonly #held: HeldWeights
  readonly #state: DecodingState
  readonly #kernels: VectorKernels
  readonly #attention: VectorAttention
  readonly #experts: VectorExperts
  readonly #batchRouter: BatchRouter
  readonly #rotary: RotaryHalves
  readonly #logits: Float32Array

  private constructor(
    threads: VectorThreads,
    held: HeldWeights,
    state: DecodingState,
    batchRouter: BatchRouter,
    init: TokenDecoderInit,
  ) {
    const { config } = held
    this.#config = config
    this.#E = init.E
    this.#embed = init.embed
    this.#threads = threads
    this.#held = held
    this.#state = state
    this.#kernels = state.block.kernels
    this.#attention = new VectorAttention(threads, held, state, init)
    this.#experts = new VectorExperts(threads, held, state)
    this.#batchRouter = batchRouter
    this.#rotary = rotaryHalves(config, init.contextLength)
    this.#logits = new Float32Array(init.streams * config.vocabSize)
  }

  /**
   * @param threads runs lists of `longestList(E)` jobs; belongs to the caller
   * @param weights the weights of which `held` has the matrices
   * @throws RangeError if the system cannot provide the memory; as `WeightSource.read`.
   */
  static async create(
    threads: VectorThreads,
    held: HeldWeights,
    weights: WeightMap,
    init: TokenDecoderInit,
  ): Promise<TokenDecoder> {
    const state = await createDecodingState(threads, held.config, weights, init)
    const router = await BatchRouter.create(held.config, weights, { ...init, maxRows: init.streams })
    return new TokenDecoder(threads, held, state, router, init)
  }

  /** Memory that the cache of its sequences must use. */
  get memory(): AttentionMemory {
    return this.#attention.memory
  }

  /**
   * Appends one token to each sequence and computes the logits after it.
   * @param cache uses `memory` of this decoder and has space for one more token of each sequence
   */
  async forward(cache: KvCache, { ids, lengths, routings }: TokenBatch): Promise<DecoderOutput> {
    const { numHiddenLayers: L } = this.#config
    const E = this.#E
    const B = ids.length
    const batch = { slot: 0, T: 1, ids, lengths, routings }
    this.#batchRouter.begin(cache, batch)
    const shares = new Float32Array(B * E)
    ids.forEach((id, b) => {
      this.#embed(id, this.#state.u.vector(b))
    })
    this.#setAngles(lengths)
    const turns = new Turns(LONGEST_TURN_MS)
    for (let layer = 0; layer < L; layer++) {
      this.#addPreviousBlock(layer, B)
      this.#attention.run(cache, layer, lengths)
      this.#addToStream(this.#state.gains[layer]?.attention as number, B)
      const router = this.#route(layer, B)
      const plan = this.#batchRouter.plan(layer, batch, router)
      if (turns.isDue) await turns.take()
      await this.#experts.run(layer, B, plan.experts, turns)
      for (let i = 0; i < B * E; i++) shares[i] = (shares[i] as number) + (plan.shares[i] as number) / L
      if (turns.isDue) await turns.take()
    }
    this.#addPreviousBlock(L, B)
    return { logits: await this.#head(B, turns), shares }
  }

  /**
   * Weighted sums (n, C) of the chosen experts' outputs for a few vectors u (n, C) of a prompt; valid until the next
   * call of this decoder.
   */
  async runExperts(
    layer: number,
    n: number,
    u: Float32Array,
    chosen: readonly ExpertRows[],
    turns: Turns,
  ): Promise<Float32Array> {
    this.#state.u.first(n).set(u)
    await this.#experts.run(layer, n, chosen, turns)
    return this.#state.y.first(n)
  }

  /** Copies the rotary tables of each sequence's next position. */
  #setAngles(positions: readonly number[]): void {
    const half = headSize(this.#config) / 2
    for (const name of ['cos', 'sin'] as const) {
      const angles = this.#state[name].first(positions.length)
      positions.forEach((position, b) => {
        angles.set(this.#rotary[name].subarray(position * half, (position + 1) * half), b * half)
      })
    }
  }

  /** Completes the previous block, if there is one: u += norm(y), where y is the output of its experts. */
  #addPreviousBlock(layer: number, B: number): void {
    if (layer > 0) this.#addToStream(this.#state.gains[layer - 1]?.ffn as number, B)
  }

  /** u += norm(y). */
  #addToStream(gain: number, B: number): void {
    const { hiddenSize: C, rmsNormEps } = this.#config
    const { u, y } = this.#state
    for (let b = 0; b < B; b++) this.#kernels.addRmsNorm(y.at(b), gain, u.at(b), C, rmsNormEps)
  }

  /** Logits of the router rows (B, E), without bias. */
  #route(layer: number, B: number): Float32Array {
    const { hiddenSize: C } = this.#config
    const { u, routerRows, routerLogits } = this.#state
    const rows = routerRows[layer] as number
    for (let b = 0; b < B; b++) this.#kernels.dots(u.at(b), rows, routerLogits.at(b), this.#E, C)
    return routerLogits.first(B)
  }

  /** Logits (B, V) of the residual stream, which this overwrites. */
  async #head(B: number, turns: Turns): Promise<Float32Array> {
    const { hiddenSize: C, rmsNormEps } = this.#config
    const { u, finalGain } = this.#state
    for (let b = 0; b < B; b++) this.#kernels.rmsNorm(u.at(b), finalGain, u.at(b), C, rmsNormEps)
    return multiplyHead(this.#threads, this.#held, u.first(B), B, this.#logits, turns)
  }
}

/**
 * Products of the head with the first `n` vectors of `x` (n, C), which are at most as many as `held` has space for.
 * @param into the first n rows of it (n, V) receive the logits
 * @returns those rows
 */
export async function multiplyHead(
  threads: VectorThreads,
  held: HeldWeights,
  x: Float32Array,
  n: number,
  into: Float32Array,
  turns: Turns,
): Promise<Float32Array> {
  const { hiddenSize: C, vocabSize: V } = held.config
  for (const input of new Set(held.head.map((part) => part.x))) {
    for (let i = 0; i < n; i++) input.write(n, i, x.subarray(i * C, (i + 1) * C))
  }
  await runJobs(
    threads,
    held.head.map(({ job }) => withVectors(job, n)),
    turns,
  )
  for (const { from, logits } of held.head) {
    for (let i = 0; i < n; i++) into.set(logits.vector(i), i * V + from)
  }
  return into.subarray(0, n * V)
}
