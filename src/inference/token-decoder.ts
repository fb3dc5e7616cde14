/**
 * One more token for each sequence in work, by the vector kernels: the same function as decoder.ts, which
 * reads prompts, but with weights read in one stream, once for four sequences, and none of an expert that no
 * token chose. Weights are copied to where the kernels see them. Knows no requests.
 */
import { setImmediate } from 'node:timers/promises'
import type { Bits } from '../kernels/quantized.ts'
import type { Job } from '../kernels/vector-jobs.ts'
import type { VectorKernels } from '../kernels/vector-kernels.ts'
import { type PlainVectors, VectorRegion } from '../kernels/vector-layout.ts'
import { VectorThreads } from '../kernels/vector-threads.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { type RotaryHalves, rotaryHalves } from '../model/layers.ts'
import { type Params, requireParam } from '../model/params.ts'
import type { ExpertRows, SequenceRouting } from '../model/routing-plan.ts'
import { AttentionMemory } from './attention-memory.ts'
import { BatchRouter } from './batch-router.ts'
import type { DecoderOutput } from './decoder.ts'
import type { KvCache } from './kv-cache.ts'
import type { QuantizedParams } from './quantized-params.ts'
import {
  ATTENTION,
  type Attention,
  type ExpertLayout,
  type Ffn,
  type Gains,
  layOutExpert,
  layOutTrunk,
  type TrunkLayout,
  type VectorInput,
} from './weight-layout.ts'

export interface TokenDecoderInit {
  readonly E: number
  readonly topK: number
  readonly contextLength: number
  /** Most sequences of one step. */
  readonly streams: number
  readonly threads: number
}

/** One token for each of B sequences in the first slots. */
export interface TokenBatch {
  /** Length B. */
  readonly ids: Int32Array
  /** Tokens that each sequence holds already. */
  readonly lengths: readonly number[]
  readonly routings: readonly SequenceRouting[]
}

/** The event loop has its turn at least this often. */
const LONGEST_TURN_MS = 4

export class TokenDecoder {
  /** For the cache of its sequences. */
  readonly memory: AttentionMemory
  readonly #config: ModelConfig
  readonly #E: number
  readonly #bits: 0 | Bits
  readonly #threads: VectorThreads
  readonly #trunk: TrunkLayout
  readonly #kernels: VectorKernels
  readonly #experts: readonly ExpertLayout[]
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
    this.#bits = quantized?.bits ?? 0
    this.#threads = threads
    this.memory = new AttentionMemory(threads, streams, config.hiddenSize, init.threads)
    this.#trunk = layOutTrunk(threads, config, params, quantized, init)
    this.#kernels = this.#trunk.block.kernels
    this.#experts = Array.from({ length: E }, (_, e) =>
      layOutExpert(threads, config, params, quantized, e, streams),
    )
    this.#embedding = requireParam(params, 'model.embed_tokens.weight').data
    this.#batchRouter = new BatchRouter(config, params, { ...init, maxRows: streams })
    this.#rotary = rotaryHalves(config, init.contextLength)
  }

  /** @throws RangeError where the system has no room for the weights. */
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

  /** `cache` lies in this decoder's memory, with room for one more token of each sequence. */
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
      this.#runExperts(layer, B, plan.experts)
      for (let i = 0; i < B * E; i++) shares[i] = (shares[i] as number) + (plan.shares[i] as number) / L
      if (performance.now() - turn > LONGEST_TURN_MS) {
        await setImmediate()
        turn = performance.now()
      }
    }
    this.#addPreviousBlock(L, B)
    return { logits: this.#head(B), shares }
  }

  async dispose(): Promise<void> {
    await this.#threads.dispose()
  }

  /** The angles of each sequence's next position. */
  #setAngles(positions: readonly number[]): void {
    const half = headSize(this.#config) / 2
    for (const name of ['cos', 'sin'] as const) {
      const angles = this.#trunk[name].first(positions.length)
      positions.forEach((position, b) => {
        angles.set(this.#rotary[name].subarray(position * half, (position + 1) * half), b * half)
      })
    }
  }

  /** u += norm(y), where y is what the experts of the block before gave. */
  #addPreviousBlock(layer: number, B: number): void {
    if (layer > 0) this.#addToStream(this.#trunk.gains[layer - 1]?.ffn as number, B)
  }

  /** u += norm(y). */
  #addToStream(gain: number, B: number): void {
    const { hiddenSize: C, rmsNormEps } = this.#config
    const { u, y } = this.#trunk
    for (let b = 0; b < B; b++) this.#kernels.addRmsNorm(y.at(b), gain, u.at(b), C, rmsNormEps)
  }

  /** u += norm(attention(u)); the new keys and values go into the cache. */
  #attend(cache: KvCache, layer: number, lengths: readonly number[]): void {
    const { hiddenSize: C, rmsNormEps, numAttentionHeads, numKeyValueHeads } = this.#config
    const B = lengths.length
    const trunk = this.#trunk
    const { block, x, u, y, q, k, v, cos, sin, products } = trunk
    const kernels = this.#kernels
    const past = this.memory.past(layer)
    const weights = trunk.attention[layer] as Attention
    const gains = trunk.gains[layer] as Gains
    const K = keyValueWidth(this.#config)
    const bits = this.#bits
    const from = { kind: 'product', block, x: x.address, width: C, bits, vectors: B } as const
    for (let b = 0; b < B; b++) this.#writeInput(u, b, x, B, b)
    this.#threads.run([
      { ...from, matrix: weights.q_proj, y: products.q.address, rows: C },
      { ...from, matrix: weights.k_proj, y: products.k.address, rows: K },
      { ...from, matrix: weights.v_proj, y: products.v.address, rows: K },
    ])
    const half = headSize(this.#config) / 2
    lengths.forEach((length, b) => {
      this.#readOutput(products.q, B, b, q)
      this.#readOutput(products.k, B, b, k)
      this.#readOutput(products.v, B, b, v)
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
    for (let b = 0; b < B; b++) this.#writeInput(q, b, x, B, b)
    this.#threads.run([{ ...from, matrix: weights.o_proj, y: products.q.address, rows: C }])
    for (let b = 0; b < B; b++) this.#readOutput(products.q, B, b, y)
    this.#addToStream(gains.attention, B)
  }

  /** Router logits (B, E) without bias. */
  #route(layer: number, B: number): Float32Array {
    const { hiddenSize: C } = this.#config
    const { u, routerRows, routerLogits } = this.#trunk
    const rows = routerRows[layer] as number
    for (let b = 0; b < B; b++) this.#kernels.dots(u.at(b), rows, routerLogits.at(b), this.#E, C)
    return routerLogits.first(B)
  }

  /** y = the weighted sum of what the chosen experts give. */
  #runExperts(layer: number, B: number, chosen: readonly ExpertRows[]): void {
    const { hiddenSize: C, intermediateSize: F } = this.#config
    const { u, y, transfer } = this.#trunk
    const first: Job[] = []
    const second: Job[] = []
    for (const { expert, rows } of chosen) {
      const place = this.#experts[expert] as ExpertLayout
      const { block, gate, up, inner } = place
      const weights = place.ffn[layer] as Ffn
      const n = rows.length
      // A kernel reaches one block only.
      const x = place.x instanceof VectorRegion ? transfer : place.x
      rows.forEach((row, i) => {
        this.#writeInput(u, row, x, n, i)
      })
      if (place.x instanceof VectorRegion) place.x.floats(n).set(transfer.floats(n))
      const shared = { block, bits: this.#bits, vectors: n }
      first.push({
        ...shared,
        kind: 'swiGlu',
        x: place.x.address,
        gateWeights: weights.gate_proj,
        upWeights: weights.up_proj,
        y: gate.address,
        scratch: up.address,
        rows: F,
        width: C,
      })
      second.push({
        ...shared,
        kind: 'product',
        x: inner.address,
        matrix: weights.down_proj,
        y: place.y.address,
        rows: C,
        width: F,
      })
    }
    this.#threads.run(first)
    for (const { expert, rows } of chosen) {
      const { gate, inner } = this.#experts[expert] as ExpertLayout
      if (inner instanceof VectorRegion) continue
      const gated = gate.floats(rows.length)
      rows.forEach((_, i) => {
        inner.write(i, gated, (gate.at(i) - gate.address) / 4)
      })
    }
    this.#threads.run(second)
    y.first(B).fill(0)
    for (const { expert, rows, weights } of chosen) {
      const place = this.#experts[expert] as ExpertLayout
      const n = rows.length
      transfer.floats(n).set(place.y.floats(n))
      rows.forEach((row, i) => {
        this.#kernels.addDeinterleaved(
          transfer.at(i),
          transfer.step(n, i),
          weights[i] as number,
          y.at(row),
          C,
        )
      })
    }
  }

  /** Vector b to where a product of n vectors reads its vector i. */
  #writeInput(from: PlainVectors, b: number, to: VectorInput, n: number, i: number): void {
    if (to instanceof VectorRegion) this.#kernels.interleave(from.at(b), to.at(i), to.step(n, i), to.width)
    else to.write(i, from.first(b + 1), b * to.width)
  }

  /** Vector b of the n that a product wrote. */
  #readOutput(from: VectorRegion, n: number, b: number, to: PlainVectors): void {
    this.#kernels.deinterleave(from.at(b), from.step(n, b), to.at(b), from.width)
  }

  /** Logits (B, V) of the stream, which is used up. */
  #head(B: number): Float32Array {
    const { hiddenSize: C, vocabSize: V, rmsNormEps } = this.#config
    const { block, x, u, head, finalGain, products, logits } = this.#trunk
    for (let b = 0; b < B; b++) {
      this.#kernels.rmsNorm(u.at(b), finalGain, u.at(b), C, rmsNormEps)
      this.#writeInput(u, b, x, B, b)
    }
    this.#threads.run([
      {
        kind: 'product',
        block,
        x: x.address,
        matrix: head,
        y: products.logits.address,
        rows: V,
        width: C,
        bits: this.#bits,
        vectors: B,
      },
    ])
    // Ascending: a vector of no whole fours is written into the one behind it.
    for (let b = 0; b < B; b++) this.#readOutput(products.logits, B, b, logits)
    return logits.first(B)
  }
}
