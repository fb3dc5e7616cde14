/**
 * The forward pass as serving runs it: only the chosen experts of each token, keys and values kept,
 * logits of last tokens only. Cost does not grow with the experts that a token does not use.
 * Knows no requests; `forward` in transformer.ts is the same function in one graph.
 */
import type { Engine } from '../tensor/engine.ts'
import { BatchRouter } from './batch-router.ts'
import type { CodedParams } from './coded-params.ts'
import { keyValueWidth, type ModelConfig } from './config.ts'
import type { KvCache } from './kv-cache.ts'
import { rotaryHalves } from './layers.ts'
import { LowRankMixture } from './low-rank-mixture.ts'
import { type Params, requireParam } from './params.ts'
import type { ExpertRows, SequenceRouting } from './routing-plan.ts'
import { RowMemory, Rows } from './rows.ts'
import { compileServingParts, type ServingParts } from './serving-parts.ts'

export interface DecoderInit {
  readonly E: number
  readonly topK: number
  readonly contextLength: number
  /** Most rows (sequences times tokens) of one call. */
  readonly maxRows: number
}

/** T new tokens for each of B sequences in neighbouring slots; more than one sequence only with T = 1. */
export interface DecoderBatch {
  readonly slot: number
  readonly B: number
  readonly T: number
  /** (B, T). */
  readonly ids: Int32Array
  /** Tokens that each sequence holds already, length B. */
  readonly lengths: readonly number[]
  /** Of each sequence, length B. */
  readonly routings: readonly SequenceRouting[]
}

export interface DecoderOutput {
  /** (B, V) of each sequence's last token; valid until the next call. */
  readonly logits: Float32Array
  /** Routing weight of each expert for that token, mean over layers, sums to 1: (B, E). */
  readonly shares: Float32Array
}

export class Decoder {
  readonly #config: ModelConfig
  readonly #init: DecoderInit
  readonly #parts: ServingParts
  readonly #lowRank: LowRankMixture | undefined
  readonly #embedding: Float32Array
  readonly #batchRouter: BatchRouter
  readonly #rotary: { cos: Float32Array; sin: Float32Array }
  readonly #memory: RowMemory
  readonly #u: readonly [Rows, Rows]
  readonly #y: Rows
  readonly #in: Rows
  readonly #out: Rows
  readonly #keys: Rows
  readonly #values: Rows
  readonly #router: Rows
  readonly #logits: Rows

  private constructor(config: ModelConfig, params: Params, init: DecoderInit, parts: ServingParts) {
    const { maxRows, E } = init
    this.#config = config
    this.#init = init
    this.#parts = parts
    const memory = new RowMemory(maxRows)
    this.#memory = memory
    this.#lowRank = parts.lowRank && new LowRankMixture(parts.lowRank, config, memory)
    this.#embedding = requireParam(params, 'model.embed_tokens.weight').data
    this.#batchRouter = new BatchRouter(config, params, init)
    this.#rotary = rotaryHalves(config, init.contextLength)
    const wide = (): Rows => memory.rows(config.hiddenSize)
    this.#u = [wide(), wide()]
    this.#y = wide()
    this.#in = wide()
    this.#out = wide()
    this.#keys = Rows.alone(maxRows, keyValueWidth(config))
    this.#values = Rows.alone(maxRows, keyValueWidth(config))
    this.#router = Rows.alone(maxRows, E)
    this.#logits = Rows.alone(maxRows, config.vocabSize)
  }

  static async create(
    engine: Engine,
    config: ModelConfig,
    params: Params,
    coded: CodedParams | undefined,
    init: DecoderInit,
  ): Promise<Decoder> {
    const { E, contextLength } = init
    const parts = await compileServingParts(engine, config, params, coded, E, contextLength)
    return new Decoder(config, params, init, parts)
  }

  /** Read the batch into the cache, whose room the caller has ensured. */
  async forward(cache: KvCache, batch: DecoderBatch): Promise<DecoderOutput> {
    const shares = await this.#blocks(cache, batch)
    const { B, T } = batch
    const last = Array.from({ length: B }, (_, b) => b * T + T - 1)
    return { logits: await this.#head(last), shares }
  }

  /** Nats of `labels` (T) after the batch's tokens (one sequence), summed; ids as for `forward`. */
  async score(cache: KvCache, batch: DecoderBatch, labels: Int32Array): Promise<number> {
    await this.#blocks(cache, batch)
    const { vocabSize: V } = this.#config
    const logits = await this.#head(Array.from(labels.keys()))
    let nats = 0
    labels.forEach((label, row) => {
      const z = logits.subarray(row * V, (row + 1) * V)
      const peak = z.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
      let total = 0
      for (const value of z) total += Math.exp(value - peak)
      nats += peak + Math.log(total) - (z[label] as number)
    })
    return nats
  }

  async dispose(): Promise<void> {
    await this.#parts.dispose()
  }

  async #blocks(cache: KvCache, batch: DecoderBatch): Promise<Float32Array> {
    const { slot, B, T, lengths, ids } = batch
    const { hiddenSize: C, numHiddenLayers: L } = this.#config
    const { E } = this.#init
    const N = B * T
    const sizes = { B, T, P: cache.positions }
    const positions = Int32Array.from(
      { length: N },
      (_, i) => (lengths[Math.floor(i / T)] as number) + (i % T),
    )
    const lastPositions = Int32Array.from(lengths, (length) => length + T - 1)
    const total = Int32Array.of(Math.max(...lengths) + T)
    const y = this.#y.first(N)
    const router = this.#router.first(N)
    const shares = new Float32Array(B * E)
    let u = this.#u[0].first(N)
    let next = this.#u[1].first(N)
    ids.forEach((id, row) => {
      u.set(this.#embedding.subarray(id * C, (id + 1) * C), row * C)
    })
    y.fill(0)
    this.#batchRouter.begin(cache, batch)
    const keys = this.#keys.first(N)
    const values = this.#values.first(N)
    for (let layer = 0; layer < L; layer++) {
      const pastKeys = cache.keys(layer, slot, B)
      const pastValues = cache.values(layer, slot, B)
      await this.#parts.attend[layer]?.run(
        { u, y, pastKeys, pastValues, positions, lastPositions, total, ...this.#rotary },
        { uNext: next, logits: router, keys, values },
        sizes,
      )
      cache.write(layer, slot, lengths, T, keys, values)
      ;[u, next] = [next, u]
      const plan = this.#batchRouter.plan(layer, batch, router)
      y.fill(0)
      await this.#addExperts(layer, u, y, plan.experts)
      for (let b = 0; b < B; b++) {
        const row = (b * T + T - 1) * E
        for (let e = 0; e < E; e++) {
          shares[b * E + e] = (shares[b * E + e] as number) + (plan.shares[row + e] as number) / L
        }
      }
    }
    // The head reads the stream from the first buffer.
    if (L % 2 === 1) next.set(u)
    return shares
  }

  /** Add the weighted outputs of experts for their rows of u to the same rows of y, both (N, C). */
  async #addExperts(
    layer: number,
    u: Float32Array,
    y: Float32Array,
    chosen: readonly ExpertRows[],
  ): Promise<void> {
    const shared = chosen.filter(({ expert }) => this.#lowRank?.has(expert))
    if (shared.length > 0) await this.#lowRank?.add(layer, u, y, shared)
    for (const one of chosen) if (!shared.includes(one)) await this.#addExpert(layer, u, y, one)
  }

  async #addExpert(layer: number, u: Float32Array, y: Float32Array, chosen: ExpertRows): Promise<void> {
    const { hiddenSize: C } = this.#config
    const { expert, rows } = chosen
    const n = rows.length
    const isWhole = u.length === n * C
    const x = isWhole ? u : this.#memory.take(u, rows, this.#in.first(n), C)
    const out = this.#out.first(n)
    await this.#parts.expert(layer, expert).run({ x }, { y: out }, { N: n })
    this.#memory.add(y, chosen, out, C)
  }

  async #head(rows: readonly number[]): Promise<Float32Array> {
    const { hiddenSize: C } = this.#config
    const n = rows.length
    const u = this.#memory.take(this.#u[0].all, rows, this.#in.first(n), C)
    const y = this.#memory.take(this.#y.all, rows, this.#out.first(n), C)
    const logits = this.#logits.first(n)
    await this.#parts.head.run({ u, y }, { logits }, { N: n })
    return logits
  }
}
