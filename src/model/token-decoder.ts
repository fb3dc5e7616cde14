/**
 * One more token for each sequence in work, by the vector kernels: the same function as decoder.ts, which
 * reads prompts, but with each weight read once, row after row, and none of an expert that no token
 * chose. Weights are copied to where the kernels see them. Knows no requests.
 */
import { setImmediate } from 'node:timers/promises'
import type { Bits } from '../tensor/quantized.ts'
import type { Job } from '../tensor/vector-jobs.ts'
import { VectorThreads } from '../tensor/vector-threads.ts'
import { AttentionMemory } from './attention-memory.ts'
import { BatchRouter } from './batch-router.ts'
import type { CodedParams } from './coded-params.ts'
import { headSize, keyValueWidth, type ModelConfig } from './config.ts'
import type { DecoderOutput } from './decoder.ts'
import type { KvCache } from './kv-cache.ts'
import { rotaryHalves } from './layers.ts'
import { layerName, type Params, requireParam } from './params.ts'
import {
  ATTENTION,
  type Attention,
  type ExpertPlace,
  type Ffn,
  placeExpert,
  placeTrunk,
  type TrunkPlace,
} from './placed-weights.ts'
import type { ExpertRows, SequenceRouting } from './routing-plan.ts'
import { addNormed, normalise, type RotaryHalves, rotateHeads } from './vector-math.ts'

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
interface Gains {
  readonly q: Float32Array
  readonly k: Float32Array
  readonly attention: Float32Array
  readonly ffn: Float32Array
}

export class TokenDecoder {
  /** For the cache of its sequences. */
  readonly memory: AttentionMemory
  readonly #config: ModelConfig
  readonly #init: TokenDecoderInit
  readonly #bits: 0 | Bits
  readonly #threads: VectorThreads
  readonly #trunk: TrunkPlace
  readonly #experts: readonly ExpertPlace[]
  readonly #embedding: Float32Array
  readonly #gains: readonly Gains[]
  readonly #finalGain: Float32Array
  readonly #batchRouter: BatchRouter
  readonly #rotary: RotaryHalves
  /** (streams, C): the stream, a vector at a time, and what the last block adds. */
  readonly #u: Float32Array
  readonly #y: Float32Array
  readonly #vector: Float32Array
  readonly #inner: Float32Array
  readonly #keys: Float32Array
  readonly #values: Float32Array
  readonly #router: Float32Array
  readonly #logits: Float32Array

  private constructor(
    config: ModelConfig,
    params: Params,
    coded: CodedParams | undefined,
    init: TokenDecoderInit,
    threads: VectorThreads,
  ) {
    const { hiddenSize: C, numHiddenLayers: L, vocabSize: V } = config
    const { E, streams } = init
    const data = (name: string): Float32Array => requireParam(params, name).data
    const layers = Array.from({ length: L }, (_, layer) => layer)
    const gain = (layer: number, rest: string): Float32Array => data(layerName(layer, `${rest}.weight`))
    this.#config = config
    this.#init = init
    this.#bits = coded?.bits ?? 0
    this.#threads = threads
    this.memory = new AttentionMemory(threads, streams, C, init.threads)
    this.#trunk = placeTrunk(threads, config, params, coded, init)
    this.#experts = Array.from({ length: E }, (_, e) =>
      placeExpert(threads, config, params, coded, e, init.streams),
    )
    this.#embedding = data('model.embed_tokens.weight')
    this.#finalGain = data('model.norm.weight')
    this.#gains = layers.map((layer) => ({
      q: gain(layer, 'self_attn.q_norm'),
      k: gain(layer, 'self_attn.k_norm'),
      attention: gain(layer, 'post_attention_layernorm'),
      ffn: gain(layer, 'post_feedforward_layernorm'),
    }))
    this.#batchRouter = new BatchRouter(config, params, { ...init, maxRows: streams })
    this.#rotary = { ...rotaryHalves(config, init.contextLength), half: headSize(config) / 2 }
    this.#u = new Float32Array(streams * C)
    this.#y = new Float32Array(streams * C)
    this.#vector = new Float32Array(C)
    this.#inner = new Float32Array(config.intermediateSize)
    this.#keys = new Float32Array(streams * keyValueWidth(config))
    this.#values = new Float32Array(streams * keyValueWidth(config))
    this.#router = new Float32Array(streams * E)
    this.#logits = new Float32Array(streams * V)
  }

  static async create(
    config: ModelConfig,
    params: Params,
    coded: CodedParams | undefined,
    init: TokenDecoderInit,
  ): Promise<TokenDecoder> {
    const longestList = Math.max(ATTENTION.length, init.E)
    return new TokenDecoder(
      config,
      params,
      coded,
      init,
      await VectorThreads.create(init.threads, longestList),
    )
  }

  /** `cache` lies in this decoder's memory, with room for one more token of each sequence. */
  async forward(cache: KvCache, { ids, lengths, routings }: TokenBatch): Promise<DecoderOutput> {
    const { hiddenSize: C, numHiddenLayers: L } = this.#config
    const { E } = this.#init
    const B = ids.length
    const batch = { slot: 0, T: 1, ids, lengths, routings }
    this.#batchRouter.begin(cache, batch)
    const shares = new Float32Array(B * E)
    ids.forEach((id, b) => {
      this.#u.set(this.#embedding.subarray(id * C, (id + 1) * C), b * C)
    })
    let turn = performance.now()
    for (let layer = 0; layer < L; layer++) {
      this.#addBlock(layer, B)
      this.#attend(cache, layer, lengths)
      const router = this.#route(layer, B)
      const plan = this.#batchRouter.plan(layer, batch, router)
      this.#y.fill(0)
      this.#runExperts(layer, plan.experts)
      for (let i = 0; i < B * E; i++) shares[i] = (shares[i] as number) + (plan.shares[i] as number) / L
      if (performance.now() - turn > LONGEST_TURN_MS) {
        await setImmediate()
        turn = performance.now()
      }
    }
    this.#addBlock(L, B)
    return { logits: this.#head(B), shares }
  }

  async dispose(): Promise<void> {
    await this.#threads.dispose()
  }

  /** u += norm(y), where y is what the experts of the block before gave. */
  #addBlock(layer: number, B: number): void {
    if (layer === 0) return
    const gain = this.#gains[layer - 1]?.ffn as Float32Array
    const { hiddenSize: C, rmsNormEps } = this.#config
    for (let b = 0; b < B; b++) addNormed(this.#u, this.#y, b * C, gain, rmsNormEps)
  }

  /** u += norm(attention(u)); the new keys and values go into the cache. */
  #attend(cache: KvCache, layer: number, lengths: readonly number[]): void {
    const { hiddenSize: C, rmsNormEps, numAttentionHeads, numKeyValueHeads } = this.#config
    const B = lengths.length
    const trunk = this.#trunk
    const { block, x } = trunk
    const past = this.memory.past(layer)
    const weights = trunk.attention[layer] as Attention
    const gains = this.#gains[layer] as Gains
    const W = keyValueWidth(this.#config)
    const bits = this.#bits
    const from = { kind: 'product', block, x: x.address, width: C, bits, vectors: B } as const
    for (let b = 0; b < B; b++) x.write(B, b, this.#u, b * C)
    this.#threads.run([
      { ...from, matrix: weights.q_proj, y: trunk.q.address, rows: C },
      { ...from, matrix: weights.k_proj, y: trunk.k.address, rows: W },
      { ...from, matrix: weights.v_proj, y: trunk.v.address, rows: W },
    ])
    lengths.forEach((length, b) => {
      trunk.q.read(B, b, past.q, b * C)
      trunk.k.read(B, b, this.#keys, b * W)
      trunk.v.read(B, b, this.#values, b * W)
      normalise(past.q, b * C, gains.q, rmsNormEps)
      normalise(this.#keys, b * W, gains.k, rmsNormEps)
      rotateHeads(past.q, b * C, C, length, this.#rotary)
      rotateHeads(this.#keys, b * W, W, length, this.#rotary)
      past.lengths[b] = length + 1
    })
    cache.write(layer, 0, lengths, 1, this.#keys.subarray(0, B * W), this.#values.subarray(0, B * W))
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
    for (let b = 0; b < B; b++) x.write(B, b, past.mixed, b * C)
    this.#threads.run([{ ...from, matrix: weights.o_proj, y: trunk.q.address, rows: C }])
    for (let b = 0; b < B; b++) {
      trunk.q.read(B, b, this.#y, b * C)
      addNormed(this.#u, this.#y, b * C, gains.attention, rmsNormEps)
    }
  }

  /** Router logits (B, E) without bias. */
  #route(layer: number, B: number): Float32Array {
    const { hiddenSize: C } = this.#config
    const { E } = this.#init
    const { block, rows, routerIn, routerOut } = this.#trunk
    for (let b = 0; b < B; b++) {
      routerIn.set(this.#u.subarray(b * C, (b + 1) * C))
      block.kernels.dots(routerIn.byteOffset, rows[layer] as number, routerOut.byteOffset, E, C)
      this.#router.set(routerOut, b * E)
    }
    return this.#router.subarray(0, B * E)
  }

  /** y += the weighted outputs of the chosen experts. */
  #runExperts(layer: number, chosen: readonly ExpertRows[]): void {
    const { hiddenSize: C, intermediateSize: F } = this.#config
    const first: Job[] = []
    const second: Job[] = []
    for (const { expert, rows } of chosen) {
      const { block, ffn, x, gate, up, inner, y } = this.#experts[expert] as ExpertPlace
      const weights = ffn[layer] as Ffn
      rows.forEach((row, i) => {
        x.write(rows.length, i, this.#u, row * C)
      })
      const shared = { block, bits: this.#bits, vectors: rows.length }
      first.push({
        ...shared,
        kind: 'gated',
        x: x.address,
        gate: weights.gate_proj,
        upward: weights.up_proj,
        y: gate.address,
        up: up.address,
        rows: F,
        width: C,
      })
      second.push({
        ...shared,
        kind: 'product',
        x: inner.address,
        matrix: weights.down_proj,
        y: y.address,
        rows: C,
        width: F,
      })
    }
    this.#threads.run(first)
    for (const { expert, rows } of chosen) {
      const { gate, inner } = this.#experts[expert] as ExpertPlace
      if (inner === gate) continue
      rows.forEach((_, i) => {
        gate.read(rows.length, i, this.#inner, 0)
        inner.write(rows.length, i, this.#inner, 0)
      })
    }
    this.#threads.run(second)
    for (const { expert, rows, weights } of chosen) {
      const { y } = this.#experts[expert] as ExpertPlace
      rows.forEach((row, i) => {
        y.addTo(rows.length, i, weights[i] as number, this.#y, row * C)
      })
    }
  }

  /** Logits (B, V) of the stream. */
  #head(B: number): Float32Array {
    const { hiddenSize: C, vocabSize: V, rmsNormEps } = this.#config
    const { block, x, head, logits } = this.#trunk
    for (let b = 0; b < B; b++) {
      this.#vector.set(this.#u.subarray(b * C, (b + 1) * C))
      normalise(this.#vector, 0, this.#finalGain, rmsNormEps)
      x.write(B, b, this.#vector, 0)
    }
    this.#threads.run([
      {
        kind: 'product',
        block,
        x: x.address,
        matrix: head,
        y: logits.address,
        rows: V,
        width: C,
        bits: this.#bits,
        vectors: B,
      },
    ])
    for (let b = 0; b < B; b++) logits.read(B, b, this.#logits, b * V)
    return this.#logits.subarray(0, B * V)
  }
}
