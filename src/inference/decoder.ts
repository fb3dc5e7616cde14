/**
 * The forward pass as serving runs it: only the chosen experts of each token, keys and values kept,
 * logits of last tokens only. Cost does not grow with the experts that a token does not use.
 * Knows no requests; `forward` in transformer.ts is the same function in one graph.
 */

import { keyValueWidth, type ModelConfig } from '../model/config.ts'
import { rotaryHalves } from '../model/layers.ts'
import { type Params, requireParam } from '../model/params.ts'
import type { ExpertRows, SequenceRouting } from '../model/routing-plan.ts'
import type { Engine, Values } from '../tensor/engine.ts'
import { BatchRouter } from './batch-router.ts'
import type { KvCache } from './kv-cache.ts'
import { LowRankMixture } from './low-rank-mixture.ts'
import type { QuantizedParams } from './quantized-params.ts'
import { RowMemory, Rows } from './rows.ts'
import { compileServingLayers, type ServingLayers } from './serving-layers.ts'

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

/** A batch with what every block is told of where its tokens are. */
interface Step {
  readonly batch: DecoderBatch
  /** Inputs by name: positions and angles. */
  readonly places: Readonly<Record<string, Values>>
  /** (1): positions of the longest sequence. */
  readonly total: Int32Array
}

export class Decoder {
  readonly #config: ModelConfig
  readonly #init: DecoderInit
  readonly #layers: ServingLayers
  readonly #lowRank: LowRankMixture | undefined
  readonly #embedding: Float32Array
  readonly #batchRouter: BatchRouter
  readonly #rotary: { cos: Float32Array; sin: Float32Array }
  readonly #memory: RowMemory
  /** Before a block, and after it; they change places. */
  #u: Rows
  #next: Rows
  readonly #y: Rows
  readonly #in: Rows
  readonly #out: Rows
  readonly #keys: Rows
  readonly #values: Rows
  readonly #router: Rows
  readonly #logits: Rows

  private constructor(config: ModelConfig, params: Params, init: DecoderInit, layers: ServingLayers) {
    const { maxRows, E } = init
    this.#config = config
    this.#init = init
    this.#layers = layers
    const memory = new RowMemory(maxRows)
    this.#memory = memory
    this.#lowRank = layers.lowRank && new LowRankMixture(layers.lowRank, config, memory)
    this.#embedding = requireParam(params, 'model.embed_tokens.weight').data
    this.#batchRouter = new BatchRouter(config, params, init)
    this.#rotary = rotaryHalves(config, init.contextLength)
    const wide = (): Rows => memory.rows(config.hiddenSize)
    this.#u = wide()
    this.#next = wide()
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
    quantized: QuantizedParams | undefined,
    init: DecoderInit,
  ): Promise<Decoder> {
    const { E, contextLength } = init
    const layers = await compileServingLayers(engine, config, params, quantized, E, contextLength)
    return new Decoder(config, params, init, layers)
  }

  /**
   * Read the batch into the cache, whose room the caller has ensured. In the last block only each sequence's last
   * token attends and asks experts: of the others nothing is read but their keys and values.
   */
  async forward(cache: KvCache, batch: DecoderBatch): Promise<DecoderOutput> {
    const { B } = batch
    const shares = new Float32Array(B * this.#init.E)
    const step = this.#stepOf(batch)
    await this.#lowerBlocks(cache, step, shares)
    if (batch.T > 1) await this.#cacheKeysValues(cache, step)
    const last = batch.T > 1 ? this.#stepOf(lastOf(batch)) : step
    await this.#block(cache, this.#lastLayer, last, shares)
    return { logits: await this.#head(Array.from({ length: B }, (_, b) => b)), shares }
  }

  /** The same where more of the prompt follows, so that nobody asks what comes next. */
  async prefill(cache: KvCache, batch: DecoderBatch): Promise<void> {
    const step = this.#stepOf(batch)
    await this.#lowerBlocks(cache, step)
    await this.#cacheKeysValues(cache, step)
  }

  /** Nats of `labels` (T) after the batch's tokens (one sequence), summed; ids as for `forward`. */
  async score(cache: KvCache, batch: DecoderBatch, labels: Int32Array): Promise<number> {
    const step = this.#stepOf(batch)
    await this.#lowerBlocks(cache, step)
    await this.#block(cache, this.#lastLayer, step)
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
    await this.#layers.dispose()
  }

  get #lastLayer(): number {
    return this.#config.numHiddenLayers - 1
  }

  /** Of a new batch, all blocks but the last. */
  async #lowerBlocks(cache: KvCache, step: Step, shares?: Float32Array): Promise<void> {
    const { hiddenSize: C } = this.#config
    const { batch } = step
    const N = batch.ids.length
    const u = this.#u.first(N)
    batch.ids.forEach((id, row) => {
      u.set(this.#embedding.subarray(id * C, (id + 1) * C), row * C)
    })
    this.#y.first(N).fill(0)
    this.#batchRouter.begin(cache, batch)
    for (let layer = 0; layer < this.#lastLayer; layer++) await this.#block(cache, layer, step, shares)
  }

  /** @param shares (B, E): those of each sequence's last token are added. */
  async #block(
    cache: KvCache,
    layer: number,
    { batch, places, total }: Step,
    shares?: Float32Array,
  ): Promise<void> {
    const { slot, B, T, lengths, ids } = batch
    const { E } = this.#init
    const N = ids.length
    const keys = this.#keys.first(N)
    const values = this.#values.first(N)
    const router = this.#router.first(N)
    const u = this.#next.first(N)
    const y = this.#y.first(N)
    const past = {
      pastKeys: cache.keys(layer, slot, B),
      pastValues: cache.values(layer, slot, B),
      total,
    }
    await this.#layers.attend[layer]?.run(
      { u: this.#u.first(N), y, ...past, ...places },
      { uNext: u, logits: router, keys, values },
      { B, T, P: cache.positions },
    )
    cache.write(layer, slot, lengths, T, keys, values)
    ;[this.#u, this.#next] = [this.#next, this.#u]
    const plan = this.#batchRouter.plan(layer, batch, router)
    y.fill(0)
    await this.#addExperts(layer, u, y, plan.experts)
    const L = this.#config.numHiddenLayers
    shares?.forEach((share, i) => {
      const lastRow = Math.floor(i / E) * T + T - 1
      shares[i] = share + (plan.shares[lastRow * E + (i % E)] as number) / L
    })
  }

  /** The last block's keys and values of the batch; then each sequence's last token is row b of its streams. */
  async #cacheKeysValues(cache: KvCache, { batch, places }: Step): Promise<void> {
    const { slot, B, T, lengths, ids } = batch
    const N = ids.length
    const u = this.#u.first(N)
    const y = this.#y.first(N)
    const keys = this.#keys.first(N)
    const values = this.#values.first(N)
    await this.#layers.cacheKeysValues.run({ u, y, ...places }, { keys, values }, { B, T })
    cache.write(this.#lastLayer, slot, lengths, T, keys, values)
    const { hiddenSize: C } = this.#config
    for (const rows of [u, y]) {
      for (let b = 0; b < B; b++) rows.copyWithin(b * C, (b * T + T - 1) * C, (b + 1) * T * C)
    }
    this.#batchRouter.keepLast(batch)
  }

  #stepOf(batch: DecoderBatch): Step {
    const { T, lengths, ids } = batch
    const places = {
      positions: ids.map((_, i) => (lengths[Math.floor(i / T)] as number) + (i % T)),
      lastPositions: Int32Array.from(lengths, (length) => length + T - 1),
      ...this.#rotary,
    }
    return { batch, places, total: Int32Array.of(Math.max(...lengths) + T) }
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
    const x = isWhole ? u : this.#memory.gather(u, rows, this.#in.first(n), C)
    const out = this.#out.first(n)
    await this.#layers.expert(layer, expert, n).run({ x }, { y: out }, { N: n })
    this.#memory.scatterAdd(y, chosen, out, C)
  }

  async #head(rows: readonly number[]): Promise<Float32Array> {
    const { hiddenSize: C } = this.#config
    const n = rows.length
    const u = this.#memory.gather(this.#u.all, rows, this.#in.first(n), C)
    const y = this.#memory.gather(this.#y.all, rows, this.#out.first(n), C)
    const logits = this.#logits.first(n)
    await this.#layers.head.run({ u, y }, { logits }, { N: n })
    return logits
  }
}

/** The last token of each sequence, as if the others had been read before. */
function lastOf({ slot, B, T, ids, lengths, routings }: DecoderBatch): DecoderBatch {
  return {
    slot,
    B,
    T: 1,
    ids: Int32Array.from({ length: B }, (_, b) => ids[b * T + T - 1] as number),
    lengths: lengths.map((length) => length + T - 1),
    routings,
  }
}
