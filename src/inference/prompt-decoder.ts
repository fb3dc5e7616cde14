/**
 * Reads prompts with the weights that token-decoder.ts decodes with, so that a large model is held once. Computes the
 * same function as decoder.ts, but takes one sequence at a time. Does not know requests.
 */

import type { VectorThreads } from '../kernels/vector-threads.ts'
import { layerName, routerName } from '../lib/tensor-names.ts'
import { keyValueWidth, type ModelConfig } from '../model/config.ts'
import { rotaryHalves } from '../model/layers.ts'
import { requireWeight, type WeightMap, wholeValues } from '../model/weights.ts'
import type { Engine, Values } from '../tensor/engine.ts'
import { BatchRouter } from './batch-router.ts'
import type { HeldAttention, HeldWeights } from './held-weights.ts'
import type { KvCache } from './kv-cache.ts'
import { PromptAttention } from './prompt-attention.ts'
import { PromptExperts } from './prompt-experts.ts'
import { compilePromptLayers, type PromptLayers } from './prompt-layers.ts'
import { FEW_VECTORS, PromptProducts, setColumn } from './prompt-products.ts'
import {
  type DecoderBatch,
  type DecoderInit,
  type DecoderOutput,
  lastOf,
  type OnLogits,
  type OnStream,
  type PromptReader,
} from './prompt-reader.ts'
import { multiplyHead, type TokenDecoder } from './token-decoder.ts'
import { Turns } from './turns.ts'

/** Gains and router rows of one layer. */
interface SmallWeights {
  readonly q: Float32Array
  readonly k: Float32Array
  readonly attention: Float32Array
  readonly ffn: Float32Array
  readonly rows: Float32Array
}

export interface PromptDecoderInit extends DecoderInit {
  /** Runs the experts for a few vectors in place. */
  readonly tokens: TokenDecoder
}

/** Milliseconds after which the event loop gets a turn, between two products. */
const LONGEST_TURN_MS = 4

/** Tokens of one sequence on their way through the layers. */
interface Pass {
  readonly batch: DecoderBatch
  /** Residual stream (T, C), before the output of the experts is added. */
  u: Float32Array
  /** Output of the experts of the previous block (C, T). */
  yT: Float32Array
  /** Positions and rotary tables. */
  readonly positions: Readonly<Record<string, Values>>
}

export class PromptDecoder implements PromptReader {
  readonly #config: ModelConfig
  readonly #E: number
  readonly #threads: VectorThreads
  readonly #held: HeldWeights
  readonly #small: readonly SmallWeights[]
  readonly #finalGain: Float32Array
  readonly #products: PromptProducts
  readonly #experts: PromptExperts
  readonly #tokens: TokenDecoder
  readonly #layers: PromptLayers
  readonly #attention: PromptAttention
  readonly #batchRouter: BatchRouter
  readonly #rotary: { readonly cos: Float32Array; readonly sin: Float32Array }
  readonly #turns = new Turns(LONGEST_TURN_MS)

  private constructor(
    threads: VectorThreads,
    held: HeldWeights,
    init: PromptDecoderInit,
    parts: {
      readonly small: readonly SmallWeights[]
      readonly finalGain: Float32Array
      readonly products: PromptProducts
      readonly experts: PromptExperts
      readonly layers: PromptLayers
      readonly batchRouter: BatchRouter
    },
  ) {
    this.#config = held.config
    this.#E = init.E
    this.#threads = threads
    this.#held = held
    this.#small = parts.small
    this.#finalGain = parts.finalGain
    this.#products = parts.products
    this.#experts = parts.experts
    this.#tokens = init.tokens
    this.#layers = parts.layers
    this.#batchRouter = parts.batchRouter
    this.#rotary = rotaryHalves(held.config, init.contextLength)
    this.#attention = new PromptAttention(held.config, parts.layers, this.#rotary)
  }

  /** @throws RangeError if the system cannot provide the memory; as `WeightSource.read`. */
  static async create(
    engine: Engine,
    threads: VectorThreads,
    held: HeldWeights,
    weights: WeightMap,
    init: PromptDecoderInit,
  ): Promise<PromptDecoder> {
    const { config } = held
    const values = (name: string): Promise<Float32Array> => wholeValues(requireWeight(weights, name))
    const small: SmallWeights[] = []
    for (let layer = 0; layer < config.numHiddenLayers; layer++) {
      const gain = (rest: string): Promise<Float32Array> => values(layerName(layer, `${rest}.weight`))
      small.push({
        q: await gain('self_attn.q_norm'),
        k: await gain('self_attn.k_norm'),
        attention: await gain('post_attention_layernorm'),
        ffn: await gain('post_feedforward_layernorm'),
        rows: await values(routerName(layer)),
      })
    }
    const products = await PromptProducts.create(engine, threads)
    return new PromptDecoder(threads, held, init, {
      small,
      finalGain: await values('model.norm.weight'),
      products,
      experts: await PromptExperts.create(engine, held, products),
      layers: await compilePromptLayers(engine, config, init.E, init.contextLength),
      batchRouter: await BatchRouter.create(config, weights, init),
    })
  }

  async forward(cache: KvCache, batch: DecoderBatch): Promise<DecoderOutput> {
    const shares = new Float32Array(this.#E)
    const pass = await this.#lowerBlocks(cache, batch, shares)
    const last = batch.T > 1 ? await this.#cacheKeysValues(cache, pass) : pass
    await this.#block(cache, this.#lastLayer, last, shares)
    const logits = new Float32Array(this.#config.vocabSize)
    const x = await this.#headInput(last)
    return { logits: await multiplyHead(this.#threads, this.#held, x, 1, logits, this.#turns), shares }
  }

  async prefill(cache: KvCache, batch: DecoderBatch): Promise<void> {
    const pass = await this.#lowerBlocks(cache, batch)
    const x = await this.#addBlock(pass, this.#lastLayer)
    await this.#writeKeysValues(cache, pass, x)
  }

  async readAll(cache: KvCache, batch: DecoderBatch, onLogits: OnLogits): Promise<void> {
    const { hiddenSize: C, vocabSize: V } = this.#config
    const pass = await this.#lowerBlocks(cache, batch)
    await this.#block(cache, this.#lastLayer, pass)
    const x = await this.#headInput(pass)
    const { T } = batch
    const atOnce = Math.min(this.#held.capacity, T)
    const logits = new Float32Array(atOnce * V)
    for (let from = 0; from < T; from += atOnce) {
      const n = Math.min(atOnce, T - from)
      await multiplyHead(
        this.#threads,
        this.#held,
        x.subarray(from * C, (from + n) * C),
        n,
        logits,
        this.#turns,
      )
      for (let i = 0; i < n; i++) {
        onLogits(from + i, logits.subarray(i * V, (i + 1) * V))
        if (this.#turns.isDue) await this.#turns.take()
      }
    }
  }

  async readStream(cache: KvCache, batch: DecoderBatch, onStream: OnStream): Promise<void> {
    const { hiddenSize: C } = this.#config
    const pass = await this.#lowerBlocks(cache, batch)
    await this.#block(cache, this.#lastLayer, pass)
    const x = await this.#headInput(pass)
    for (let t = 0; t < batch.T; t++) onStream(t, x.subarray(t * C, (t + 1) * C))
  }

  async dispose(): Promise<void> {
    await this.#layers.dispose()
    await this.#experts.dispose()
    await this.#products.dispose()
  }

  get #lastLayer(): number {
    return this.#config.numHiddenLayers - 1
  }

  /** Runs all blocks but the last. @param shares (E): adds those of the last token */
  async #lowerBlocks(cache: KvCache, batch: DecoderBatch, shares?: Float32Array): Promise<Pass> {
    const { hiddenSize: C } = this.#config
    const { ids, T } = batch
    const u = new Float32Array(T * C)
    ids.forEach((id, t) => {
      this.#held.embed(id, u.subarray(t * C, (t + 1) * C))
    })
    const pass = this.#passOf(batch, u, new Float32Array(C * T))
    this.#batchRouter.begin(cache, batch)
    for (let layer = 0; layer < this.#lastLayer; layer++) await this.#block(cache, layer, pass, shares)
    return pass
  }

  #passOf(batch: DecoderBatch, u: Float32Array, yT: Float32Array): Pass {
    const { ids, T, lengths } = batch
    const [length] = lengths as [number]
    const positions = {
      positions: ids.map((_, t) => length + t),
      lastPositions: Int32Array.of(length + T - 1),
      ...this.#rotary,
    }
    return { batch, u, yT, positions }
  }

  /** x (T, C): the residual stream with the output of the previous block. */
  async #addBlock({ batch: { T }, u, yT }: Pass, layer: number): Promise<Float32Array> {
    if (layer === 0) return u
    const x = new Float32Array(u.length)
    const gain = (this.#small[layer - 1] as SmallWeights).ffn
    await this.#layers.addBlock.run({ u, yT, gain }, { x }, { T })
    return x
  }

  /** Runs one block. @param shares (E): adds those of the last token */
  async #block(cache: KvCache, layer: number, pass: Pass, shares?: Float32Array): Promise<void> {
    const { hiddenSize: C, numHiddenLayers: L } = this.#config
    const { batch } = pass
    const { slot, T, lengths } = batch
    const E = this.#E
    const small = this.#small[layer] as SmallWeights
    const held = this.#held.attention(layer)
    const x = await this.#addBlock(pass, layer)
    const qT = await this.#project(held, 'q_proj', x, T)
    const fresh = await this.#keysValues(held, x, T)
    const [length] = lengths as [number]
    const tokens = { slot, length, T, qT, ...fresh, qGain: small.q, kGain: small.k }
    const mixed = await this.#attention.run(cache, layer, tokens, this.#turns)
    const oT = await this.#project(held, 'o_proj', mixed, T)
    const u = new Float32Array(T * C)
    const logits = new Float32Array(T * E)
    await this.#layers.route.run({ x, oT, gain: small.attention, rows: small.rows }, { u, logits }, { T })
    const plan = this.#batchRouter.plan(layer, batch, logits)
    const yT = new Float32Array(C * T)
    if (T <= FEW_VECTORS) {
      const y = await this.#tokens.runExperts(layer, T, u, plan.experts, this.#turns)
      for (let t = 0; t < T; t++) setColumn(yT, y.subarray(t * C, (t + 1) * C), t, T)
    } else await this.#experts.run(layer, u, T, plan.experts, yT, this.#turns)
    shares?.forEach((share, e) => {
      shares[e] = share + (plan.shares[(T - 1) * E + e] as number) / L
    })
    pass.u = u
    pass.yT = yT
  }

  /**
   * Computes only the keys and values of the last block.
   * @returns a pass of the last token alone; those before it count as cached.
   */
  async #cacheKeysValues(cache: KvCache, pass: Pass): Promise<Pass> {
    const { hiddenSize: C } = this.#config
    const { batch, u, yT } = pass
    const { T } = batch
    await this.#writeKeysValues(cache, pass, await this.#addBlock(pass, this.#lastLayer))
    this.#batchRouter.keepLast(batch)
    const lastY = Float32Array.from({ length: C }, (_, c) => yT[c * T + T - 1] as number)
    return this.#passOf(lastOf(batch), u.slice((T - 1) * C), lastY)
  }

  async #writeKeysValues(cache: KvCache, pass: Pass, x: Float32Array): Promise<void> {
    const { slot, T, lengths } = pass.batch
    const layer = this.#lastLayer
    const fresh = await this.#keysValues(this.#held.attention(layer), x, T)
    const { keys, values } = this.#newKeys(T)
    const kGain = (this.#small[layer] as SmallWeights).k
    await this.#layers.keys.run({ ...fresh, kGain, ...pass.positions }, { keys, values }, { T })
    cache.write(layer, slot, lengths, T, keys, values)
  }

  #newKeys(T: number): { keys: Float32Array; values: Float32Array } {
    const K = keyValueWidth(this.#config)
    return { keys: new Float32Array(T * K), values: new Float32Array(T * K) }
  }

  /** Keys and values (K, T) before norm and rotary embedding. */
  async #keysValues(
    held: HeldAttention,
    x: Float32Array,
    T: number,
  ): Promise<{ kT: Float32Array; vT: Float32Array }> {
    return { kT: await this.#project(held, 'k_proj', x, T), vT: await this.#project(held, 'v_proj', x, T) }
  }

  /** Product (O, T) of an attention matrix with x (T, C). */
  async #project(
    held: HeldAttention,
    name: keyof HeldAttention['matrices'],
    x: Float32Array,
    T: number,
  ): Promise<Float32Array> {
    const matrix = held.matrices[name]
    const y = name === 'k_proj' ? held.k : name === 'v_proj' ? held.v : held.q
    const into = new Float32Array(matrix.rows * T)
    await this.#products.multiply({ block: held.block, matrix, x: held.x, y }, x, T, into, this.#turns)
    return into
  }

  /** Input of the head (T, C). */
  async #headInput(pass: Pass): Promise<Float32Array> {
    const u = await this.#addBlock(pass, this.#config.numHiddenLayers)
    const x = new Float32Array(u.length)
    await this.#layers.last.run({ u, gain: this.#finalGain }, { x }, { T: pass.batch.T })
    return x
  }
}
