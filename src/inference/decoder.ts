/**
 * The forward pass that serving runs on an engine, layer by layer: with a key-value cache, logits of last tokens only,
 * and only the chosen experts of each token, so the cost does not grow with the experts that a token does not use. Does
 * not know requests.
 *
 * Together with serving-layers.ts this computes the same function as model/transformer.ts (whole sequences in one
 * graph), inference/token-decoder.ts (one token by vector kernels), inference/prompt-decoder.ts (prompts of large models)
 * and model/onnx-graph.ts (export).
 * test/inference/generate.test.ts holds it equal to model/transformer.ts, with and without token-decoder.ts;
 * test/model/onnx-graph.test.ts holds the exported graph equal to it.
 */

import { layerName } from '../lib/tensor-names.ts'
import { keyValueWidth, type ModelConfig } from '../model/config.ts'
import { rotaryHalves } from '../model/layers.ts'
import { requireParam } from '../model/params.ts'
import type { ExpertRows } from '../model/routing-plan.ts'
import type { Params } from '../model/weights.ts'
import type { Engine, Values } from '../tensor/engine.ts'
import { BatchRouter } from './batch-router.ts'
import type { KvCache } from './kv-cache.ts'
import { LowRankMixture } from './low-rank-mixture.ts'
import {
  type DecoderBatch,
  type DecoderInit,
  type DecoderOutput,
  lastOf,
  type OnLogits,
  type OnStream,
  type PromptReader,
} from './prompt-reader.ts'
import type { QuantizedParams } from './quantized-params.ts'
import { RowMemory, Rows } from './rows.ts'
import { compileServingLayers, type ServingLayers } from './serving-layers.ts'
import { Turns } from './turns.ts'

/** Milliseconds of `readAll` after which the event loop gets a turn. */
const LONGEST_TURN_MS = 4

/** A batch, with the positions of its tokens as inputs of every block. */
interface Step {
  readonly batch: DecoderBatch
  /** Inputs by name: positions and rotary tables. */
  readonly positions: Readonly<Record<string, Values>>
  /** (1): number of positions of the longest sequence. */
  readonly total: Int32Array
}

export class Decoder implements PromptReader {
  readonly #config: ModelConfig
  readonly #init: DecoderInit
  readonly #layers: ServingLayers
  readonly #lowRank: LowRankMixture | undefined
  readonly #embedding: Float32Array
  /** Gain of the norm after the last experts, and of the final norm. */
  readonly #lastGain: Float32Array
  readonly #finalGain: Float32Array
  readonly #batchRouter: BatchRouter
  readonly #rotary: { cos: Float32Array; sin: Float32Array }
  readonly #memory: RowMemory
  /** Residual stream before and after a block; the two are swapped after each block. */
  #u: Rows
  #next: Rows
  /** Sum of the experts' outputs of a block. */
  readonly #y: Rows
  /** Input and output of one expert. */
  readonly #in: Rows
  readonly #out: Rows
  readonly #keys: Rows
  readonly #values: Rows
  readonly #router: Rows
  readonly #logits: Rows

  private constructor(
    config: ModelConfig,
    params: Params,
    init: DecoderInit,
    layers: ServingLayers,
    batchRouter: BatchRouter,
  ) {
    const { maxRows, E } = init
    this.#config = config
    this.#init = init
    this.#layers = layers
    const memory = new RowMemory(maxRows)
    this.#memory = memory
    this.#lowRank = layers.lowRank && new LowRankMixture(layers.lowRank, config, memory)
    this.#embedding = requireParam(params, 'model.embed_tokens.weight').data
    this.#lastGain = requireParam(
      params,
      layerName(config.numHiddenLayers - 1, 'post_feedforward_layernorm.weight'),
    ).data
    this.#finalGain = requireParam(params, 'model.norm.weight').data
    this.#batchRouter = batchRouter
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
    return new Decoder(config, params, init, layers, await BatchRouter.create(config, params, init))
  }

  /**
   * In the last block only the last token of each sequence attends and uses experts; for the other tokens only keys and
   * values are computed.
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

  async prefill(cache: KvCache, batch: DecoderBatch): Promise<void> {
    const step = this.#stepOf(batch)
    await this.#lowerBlocks(cache, step)
    await this.#cacheKeysValues(cache, step)
  }

  async readAll(cache: KvCache, batch: DecoderBatch, onLogits: OnLogits): Promise<void> {
    const step = this.#stepOf(batch)
    await this.#lowerBlocks(cache, step)
    await this.#block(cache, this.#lastLayer, step)
    const { vocabSize: V } = this.#config
    const logits = await this.#head(Array.from(batch.ids.keys()))
    const turns = new Turns(LONGEST_TURN_MS)
    for (let t = 0; t < batch.T; t++) {
      onLogits(t, logits.subarray(t * V, (t + 1) * V))
      if (turns.isDue) await turns.take()
    }
  }

  async readStream(cache: KvCache, batch: DecoderBatch, onStream: OnStream): Promise<void> {
    const step = this.#stepOf(batch)
    await this.#lowerBlocks(cache, step)
    await this.#block(cache, this.#lastLayer, step)
    const { hiddenSize: C, rmsNormEps } = this.#config
    const [u, y] = [this.#u.first(batch.T), this.#y.first(batch.T)]
    for (let t = 0; t < batch.T; t++) {
      // Completes the last block, x = u + norm(y), as the head does.
      const x = normalized(y.subarray(t * C, (t + 1) * C), this.#lastGain, rmsNormEps)
      for (let c = 0; c < C; c++) x[c] = (x[c] as number) + (u[t * C + c] as number)
      onStream(t, normalized(x, this.#finalGain, rmsNormEps))
    }
  }

  /** Releases the compiled layers. */
  async dispose(): Promise<void> {
    await this.#layers.dispose()
  }

  get #lastLayer(): number {
    return this.#config.numHiddenLayers - 1
  }

  /** Runs all blocks but the last. @param shares (B, E): adds those of each sequence's last token */
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

  /** Runs one block. @param shares (B, E): adds those of each sequence's last token */
  async #block(
    cache: KvCache,
    layer: number,
    { batch, positions, total }: Step,
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
      { u: this.#u.first(N), y, ...past, ...positions },
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

  /**
   * Computes the keys and values of the last block for all tokens, then moves the last token of sequence b to row b of
   * the residual stream.
   */
  async #cacheKeysValues(cache: KvCache, { batch, positions }: Step): Promise<void> {
    const { slot, B, T, lengths, ids } = batch
    const N = ids.length
    const u = this.#u.first(N)
    const y = this.#y.first(N)
    const keys = this.#keys.first(N)
    const values = this.#values.first(N)
    await this.#layers.cacheKeysValues.run({ u, y, ...positions }, { keys, values }, { B, T })
    cache.write(this.#lastLayer, slot, lengths, T, keys, values)
    const { hiddenSize: C } = this.#config
    for (const rows of [u, y]) {
      for (let b = 0; b < B; b++) rows.copyWithin(b * C, (b * T + T - 1) * C, (b + 1) * T * C)
    }
    this.#batchRouter.keepLast(batch)
  }

  #stepOf(batch: DecoderBatch): Step {
    const { T, lengths, ids } = batch
    const inputs = {
      positions: ids.map((_, i) => (lengths[Math.floor(i / T)] as number) + (i % T)),
      lastPositions: Int32Array.from(lengths, (length) => length + T - 1),
      ...this.#rotary,
    }
    return { batch, positions: inputs, total: Int32Array.of(Math.max(...lengths) + T) }
  }

  /** Adds the weighted outputs of experts, for their rows of u, to the same rows of y; both are (N, C). */
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
    const isEveryRow = u.length === n * C
    const x = isEveryRow ? u : this.#memory.gather(u, rows, this.#in.first(n), C)
    const out = this.#out.first(n)
    await this.#layers.expert(layer, expert, n).run({ x }, { y: out }, { N: n })
    this.#memory.scatterAdd(y, chosen, out, C)
  }

  /** Logits (rows, V) of the given rows of the residual stream. */
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

/** RMS norm of one vector. */
function normalized(x: Float32Array, gain: Float32Array, epsilon: number): Float32Array {
  const squares = x.reduce((sum, value) => sum + value * value, 0)
  const scale = 1 / Math.sqrt(squares / x.length + epsilon)
  return x.map((value, c) => value * scale * (gain[c] as number))
}
