/**
 * Computes one more token of each active sequence with the vector kernels, which read weights as one sequential
 * stream, once for four sequences, and only those of experts that some token chose. Uses its own copy of the weights.
 * Prompts are read by decoder.ts. Does not know requests.
 *
 * Three other files compute the same function: model/transformer.ts (whole sequences in one graph),
 * inference/decoder.ts with serving-layers.ts, and model/onnx-graph.ts (export). test/inference/generate.test.ts
 * holds this file equal to model/transformer.ts, test/model/onnx-graph.test.ts holds the exported graph equal to it,
 * and test/inference/token-decoder.test.ts holds it to a reference in double precision.
 */
import { setImmediate } from 'node:timers/promises'
import type { VectorKernels } from '../kernels/vector-kernels.ts'
import type { PlainVectors, ProductResults } from '../kernels/vector-layout.ts'
import { VectorThreads } from '../kernels/vector-threads.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { type RotaryHalves, rotaryHalves } from '../model/layers.ts'
import { requireParam } from '../model/params.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import type { Params } from '../model/weights.ts'
import { AttentionMemory } from './attention-memory.ts'
import { BatchRouter } from './batch-router.ts'
import type { DecoderOutput } from './decoder.ts'
import type { KvCache } from './kv-cache.ts'
import type { QuantizedParams } from './quantized-params.ts'
import { VectorExperts } from './vector-experts.ts'
import { ATTENTION, type Attention, type Gains, layOutTrunk, type TrunkLayout } from './weight-layout.ts'

export interface TokenDecoderInit {
  /** Number of experts, the public one included. */
  readonly E: number
  readonly topK: number
  /** Maximum number of positions of a sequence. */
  readonly contextLength: number
  /** Maximum number of sequences of one step. */
  readonly streams: number
  /** Number of threads, the caller included. */
  readonly threads: number
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

/** Milliseconds after which the event loop gets a turn, at the end of a layer. */
const LONGEST_TURN_MS = 4

export class TokenDecoder {
  /** Memory that the cache of its sequences must use. */
  readonly memory: AttentionMemory
  readonly #config: ModelConfig
  readonly #E: number
  readonly #threads: VectorThreads
  readonly #trunk: TrunkLayout
  readonly #kernels: VectorKernels
  readonly #experts: VectorExperts
  readonly #embedding: Float32Array
  readonly #batchRouter: BatchRouter
  readonly #rotary: RotaryHalves

  private constructor(
    config: ModelConfig,
    params: Params,
    quantized: QuantizedParams | undefined,
    init: TokenDecoderInit,
    threads: VectorThreads,
  ) {
    const { E, streams } = init
    this.#config = config
    this.#E = E
    this.#threads = threads
    this.memory = new AttentionMemory(threads, streams, config.hiddenSize, init.threads)
    this.#trunk = layOutTrunk(threads, config, params, quantized, init)
    this.#kernels = this.#trunk.block.kernels
    this.#experts = new VectorExperts(threads, config, params, quantized, this.#trunk, init)
    this.#embedding = requireParam(params, 'model.embed_tokens.weight').data
    this.#batchRouter = new BatchRouter(config, params, { ...init, maxRows: streams })
    this.#rotary = rotaryHalves(config, init.contextLength)
  }

  /** Copies the weights and starts the threads. @throws RangeError if the system cannot provide the memory. */
  static async create(
    config: ModelConfig,
    params: Params,
    quantized: QuantizedParams | undefined,
    init: TokenDecoderInit,
  ): Promise<TokenDecoder> {
    const longestList = Math.max(ATTENTION.length, init.E)
    const threads = await VectorThreads.create(init.threads, longestList)
    try {
      return new TokenDecoder(config, params, quantized, init, threads)
    } catch (error) {
      await threads.dispose()
      throw error
    }
  }

  /**
   * Appends one token to each sequence and computes the logits after it.
   * @param cache uses `memory` of this decoder and has space for one more token of each sequence
   */
  async forward(cache: KvCache, { ids, lengths, routings }: TokenBatch): Promise<DecoderOutput> {
    const { hiddenSize: C, numHiddenLayers: L } = this.#config
    const E = this.#E
    const B = ids.length
    const batch = { slot: 0, T: 1, ids, lengths, routings }
    this.#batchRouter.begin(cache, batch)
    const shares = new Float32Array(B * E)
    const stream = this.#trunk.u.first(B)
    ids.forEach((id, b) => {
      stream.set(this.#embedding.subarray(id * C, (id + 1) * C), b * C)
    })
    this.#setAngles(lengths)
    let turn = performance.now()
    for (let layer = 0; layer < L; layer++) {
      this.#addPreviousBlock(layer, B)
      this.#attend(cache, layer, lengths)
      const router = this.#route(layer, B)
      const plan = this.#batchRouter.plan(layer, batch, router)
      this.#experts.run(layer, B, plan.experts)
      for (let i = 0; i < B * E; i++) shares[i] = (shares[i] as number) + (plan.shares[i] as number) / L
      if (performance.now() - turn > LONGEST_TURN_MS) {
        await setImmediate()
        turn = performance.now()
      }
    }
    this.#addPreviousBlock(L, B)
    return { logits: this.#head(B), shares }
  }

  /** Stops the threads. */
  async dispose(): Promise<void> {
    await this.#threads.dispose()
  }

  /** Copies the rotary tables of each sequence's next position. */
  #setAngles(positions: readonly number[]): void {
    const half = headSize(this.#config) / 2
    for (const name of ['cos', 'sin'] as const) {
      const angles = this.#trunk[name].first(positions.length)
      positions.forEach((position, b) => {
        angles.set(this.#rotary[name].subarray(position * half, (position + 1) * half), b * half)
      })
    }
  }

  /** Completes the previous block, if there is one: u += norm(y), where y is the output of its experts. */
  #addPreviousBlock(layer: number, B: number): void {
    if (layer > 0) this.#addToStream(this.#trunk.gains[layer - 1]?.ffn as number, B)
  }

  /** u += norm(y). */
  #addToStream(gain: number, B: number): void {
    const { hiddenSize: C, rmsNormEps } = this.#config
    const { u, y } = this.#trunk
    for (let b = 0; b < B; b++) this.#kernels.addRmsNorm(y.at(b), gain, u.at(b), C, rmsNormEps)
  }

  /** u += norm(attention(u)). Writes the new keys and values into the cache. */
  #attend(cache: KvCache, layer: number, lengths: readonly number[]): void {
    const { hiddenSize: C, rmsNormEps, numAttentionHeads, numKeyValueHeads } = this.#config
    const B = lengths.length
    const trunk = this.#trunk
    const { block, x, u, y, q, k, v, cos, sin, products } = trunk
    const kernels = this.#kernels
    const past = this.memory.block(layer)
    const weights = trunk.attention[layer] as Attention
    const gains = trunk.gains[layer] as Gains
    const K = keyValueWidth(this.#config)
    const from = { kind: 'product', block, x: x.address, vectors: B } as const
    for (let b = 0; b < B; b++) x.writeFrom(B, b, u.at(b))
    this.#threads.run([
      { ...from, matrix: weights.q_proj, y: products.q.address },
      { ...from, matrix: weights.k_proj, y: products.k.address },
      { ...from, matrix: weights.v_proj, y: products.v.address },
    ])
    const half = headSize(this.#config) / 2
    lengths.forEach((length, b) => {
      this.#readOutput(products.q, b, q)
      this.#readOutput(products.k, b, k)
      this.#readOutput(products.v, b, v)
      kernels.rmsNorm(q.at(b), gains.q, q.at(b), C, rmsNormEps)
      kernels.rmsNorm(k.at(b), gains.k, k.at(b), K, rmsNormEps)
      kernels.rotate(q.at(b), cos.at(b), sin.at(b), half, C)
      kernels.rotate(k.at(b), cos.at(b), sin.at(b), half, K)
      past.lengths[b] = length + 1
    })
    past.q.set(q.first(B))
    cache.write(layer, 0, lengths, 1, k.first(B), v.first(B))
    this.#threads.run([
      {
        kind: 'attend',
        block: past.block,
        q: past.q.byteOffset,
        out: past.mixed.byteOffset,
        keys: cache.keys(layer, 0, B).byteOffset,
        values: cache.values(layer, 0, B).byteOffset,
        lengths: past.lengths.byteOffset,
        scores: past.scores,
        sequences: B,
        heads: numAttentionHeads,
        keyValueHeads: numKeyValueHeads,
        positions: cache.positions,
        width: headSize(this.#config),
      },
    ])
    q.first(B).set(past.mixed.subarray(0, B * C))
    for (let b = 0; b < B; b++) x.writeFrom(B, b, q.at(b))
    this.#threads.run([{ ...from, matrix: weights.o_proj, y: products.q.address }])
    for (let b = 0; b < B; b++) this.#readOutput(products.q, b, y)
    this.#addToStream(gains.attention, B)
  }

  /** Logits of the router rows (B, E), without bias. */
  #route(layer: number, B: number): Float32Array {
    const { hiddenSize: C } = this.#config
    const { u, routerRows, routerLogits } = this.#trunk
    const rows = routerRows[layer] as number
    for (let b = 0; b < B; b++) this.#kernels.dots(u.at(b), rows, routerLogits.at(b), this.#E, C)
    return routerLogits.first(B)
  }

  /** Copies result b of a product to vector b of `to`. */
  #readOutput(from: ProductResults, b: number, to: PlainVectors): void {
    const result = from.vector(b)
    to.first(b + 1).set(result, b * result.length)
  }

  /** Logits (B, V) of the residual stream, which this overwrites. */
  #head(B: number): Float32Array {
    const { hiddenSize: C, rmsNormEps } = this.#config
    const { block, x, u, head, finalGain, products, logits } = this.#trunk
    const kernels = this.#kernels
    for (let b = 0; b < B; b++) {
      kernels.rmsNorm(u.at(b), finalGain, u.at(b), C, rmsNormEps)
      x.writeFrom(B, b, u.at(b))
    }
    const y = products.logits.address
    this.#threads.run([{ kind: 'product', block, x: x.address, matrix: head, y, vectors: B }])
    for (let b = 0; b < B; b++) this.#readOutput(products.logits, b, logits)
    return logits.first(B)
  }
}
