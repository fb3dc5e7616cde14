/**
 * One more token for each sequence in work, by the vector kernels: the same function as decoder.ts, which
 * reads prompts, but with each weight read once, row after row, and none of an expert that no token
 * chose. Weights are copied to where the kernels see them. Knows no requests.
 */
import { setImmediate } from 'node:timers/promises'
import { BlockLayout, groupsOf, VectorRegion } from '../tensor/vector-layout.ts'
import { type Block, type Job, VectorThreads } from '../tensor/vector-threads.ts'
import { headSize, keyValueWidth, type ModelConfig } from './config.ts'
import type { DecoderOutput } from './decoder.ts'
import type { KvCache, KvMemory } from './kv-cache.ts'
import { rotaryHalves } from './layers.ts'
import {
  biasName,
  expertName,
  FFN_PROJECTIONS,
  layerName,
  type Params,
  requireParam,
  routerName,
} from './params.ts'
import { planRouting } from './routing-plan.ts'

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
  /** Router mask of each sequence, length E. */
  readonly masks: readonly Float32Array[]
}

/** The event loop has its turn at least this often. */
const LONGEST_TURN_MS = 4
/** Of one block: addresses have 32 bits, and vectors lie beside the weights. */
const MAX_WEIGHT_BYTES = 2 ** 32 - 2 ** 28

const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const
type Attention = Readonly<Record<(typeof ATTENTION)[number], number>>
type Ffn = Readonly<Record<(typeof FFN_PROJECTIONS)[number], number>>

/**
 * Bytes of weights that a decoder copies; infinite where the kernels cannot do this model, which takes
 * vectors of whole fours and no block beyond their addresses.
 */
export function tokenDecoderBytes(config: ModelConfig, E: number): number {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L, vocabSize: V } = config
  const trunk = 4 * (L * (2 * C * C + 2 * C * keyValueWidth(config) + E * C) + V * C)
  const expert = 4 * L * 3 * C * F
  const isFit = [C, F, headSize(config)].every((size) => size % 4 === 0)
  if (!isFit || Math.max(trunk, expert) > MAX_WEIGHT_BYTES) return Number.POSITIVE_INFINITY
  return trunk + E * expert
}

/** What all tokens use: attention, router rows, head, and room for vectors. */
interface Trunk {
  readonly block: Block
  readonly attention: readonly Attention[]
  readonly rows: readonly number[]
  readonly head: number
  readonly x: VectorRegion
  readonly q: VectorRegion
  readonly k: VectorRegion
  readonly v: VectorRegion
  readonly logits: VectorRegion
  /** (C) and (E), of one token. */
  readonly routerIn: Float32Array
  readonly routerOut: Float32Array
}

interface Expert {
  readonly block: Block
  readonly ffn: readonly Ffn[]
  readonly x: VectorRegion
  readonly gate: VectorRegion
  readonly up: VectorRegion
  readonly y: VectorRegion
}

/** Cache of one layer with the vectors that its attention reads and writes. */
interface Past {
  readonly block: Block
  /** (streams, C) each. */
  readonly q: Float32Array
  readonly mixed: Float32Array
  readonly lengths: Int32Array
  readonly scores: number
}

interface Gains {
  readonly q: Float32Array
  readonly k: Float32Array
  readonly attention: Float32Array
  readonly ffn: Float32Array
}

export class TokenDecoder implements KvMemory {
  readonly #config: ModelConfig
  readonly #init: TokenDecoderInit
  readonly #threads: VectorThreads
  readonly #trunk: Trunk
  readonly #experts: readonly Expert[]
  readonly #past: Past[] = []
  readonly #embedding: Float32Array
  readonly #gains: readonly Gains[]
  readonly #finalGain: Float32Array
  /** min(bias, 0) of every layer (flexolmo 3.4). */
  readonly #bias: readonly Float32Array[]
  readonly #rotary: { cos: Float32Array; sin: Float32Array }
  /** (streams, C): the stream, a vector at a time, and what the last block adds. */
  readonly #u: Float32Array
  readonly #y: Float32Array
  readonly #vector: Float32Array
  readonly #keys: Float32Array
  readonly #values: Float32Array
  readonly #router: Float32Array
  readonly #logits: Float32Array

  private constructor(config: ModelConfig, params: Params, init: TokenDecoderInit, threads: VectorThreads) {
    const { hiddenSize: C, numHiddenLayers: L, vocabSize: V } = config
    const { E, streams } = init
    const data = (name: string): Float32Array => requireParam(params, name).data
    const layers = Array.from({ length: L }, (_, layer) => layer)
    const gain = (layer: number, rest: string): Float32Array => data(layerName(layer, `${rest}.weight`))
    this.#config = config
    this.#init = init
    this.#threads = threads
    this.#trunk = placeTrunk(threads, config, params, init)
    this.#experts = Array.from({ length: E }, (_, e) => placeExpert(threads, config, params, e, streams))
    this.#embedding = data('model.embed_tokens.weight')
    this.#finalGain = data('model.norm.weight')
    this.#gains = layers.map((layer) => ({
      q: gain(layer, 'self_attn.q_norm'),
      k: gain(layer, 'self_attn.k_norm'),
      attention: gain(layer, 'post_attention_layernorm'),
      ffn: gain(layer, 'post_feedforward_layernorm'),
    }))
    this.#bias = layers.map((layer) =>
      (params.get(biasName(layer))?.data ?? new Float32Array(E)).map((b) => Math.min(b, 0)),
    )
    this.#rotary = rotaryHalves(config, init.contextLength)
    this.#u = new Float32Array(streams * C)
    this.#y = new Float32Array(streams * C)
    this.#vector = new Float32Array(C)
    this.#keys = new Float32Array(streams * keyValueWidth(config))
    this.#values = new Float32Array(streams * keyValueWidth(config))
    this.#router = new Float32Array(streams * E)
    this.#logits = new Float32Array(streams * V)
  }

  static async create(config: ModelConfig, params: Params, init: TokenDecoderInit): Promise<TokenDecoder> {
    const longestList = Math.max(ATTENTION.length, init.E)
    return new TokenDecoder(config, params, init, await VectorThreads.create(init.threads, longestList))
  }

  /** Memory of one layer's cache, so that attention reads it where it is. */
  allocate(layer: number, floats: number, positions: number): Float32Array {
    const { hiddenSize: C } = this.#config
    const { streams, threads } = this.#init
    const layout = new BlockLayout()
    const cache = layout.reserve(floats)
    const q = layout.reserve(streams * C)
    const mixed = layout.reserve(streams * C)
    const lengths = layout.reserve(streams)
    const scores = layout.reserve(threads * (positions + 4))
    const block = this.#threads.block(layout.bytes, this.#past[layer]?.block)
    this.#past[layer] = {
      block,
      q: new Float32Array(block.buffer, q, streams * C),
      mixed: new Float32Array(block.buffer, mixed, streams * C),
      lengths: new Int32Array(block.buffer, lengths, streams),
      scores,
    }
    return new Float32Array(block.buffer, cache, floats)
  }

  /** `cache` has this decoder's memory, and room for one more token of each sequence. */
  async forward(cache: KvCache, { ids, lengths, masks }: TokenBatch): Promise<DecoderOutput> {
    const { hiddenSize: C, numHiddenLayers: L } = this.#config
    const { E, topK } = this.#init
    const B = ids.length
    const shares = new Float32Array(B * E)
    ids.forEach((id, b) => {
      this.#u.set(this.#embedding.subarray(id * C, (id + 1) * C), b * C)
    })
    let turn = performance.now()
    for (let layer = 0; layer < L; layer++) {
      this.#addBlock(layer, B)
      this.#attend(cache, layer, lengths)
      const router = this.#route(layer, B)
      const offsets = masks.map((mask) => mask.map((m, e) => m + (this.#bias[layer]?.[e] as number)))
      const plan = planRouting(router, B, E, topK, (row) => offsets[row] as Float32Array)
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
    const past = this.#past[layer] as Past
    const weights = trunk.attention[layer] as Attention
    const gains = this.#gains[layer] as Gains
    const W = keyValueWidth(this.#config)
    const groups = groupsOf(B)
    const from = { kind: 'product', block, x: x.address, width: C, groups } as const
    for (let b = 0; b < B; b++) x.write(B, b, this.#u, b * C)
    this.#threads.run([
      { ...from, w: weights.q_proj, y: trunk.q.address, rows: C },
      { ...from, w: weights.k_proj, y: trunk.k.address, rows: W },
      { ...from, w: weights.v_proj, y: trunk.v.address, rows: W },
    ])
    lengths.forEach((length, b) => {
      trunk.q.read(B, b, past.q, b * C)
      trunk.k.read(B, b, this.#keys, b * W)
      trunk.v.read(B, b, this.#values, b * W)
      normalise(past.q, b * C, gains.q, rmsNormEps)
      normalise(this.#keys, b * W, gains.k, rmsNormEps)
      this.#rotate(past.q, b * C, C, length)
      this.#rotate(this.#keys, b * W, W, length)
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
    this.#threads.run([{ ...from, w: weights.o_proj, y: trunk.q.address, rows: C }])
    for (let b = 0; b < B; b++) {
      trunk.q.read(B, b, this.#y, b * C)
      addNormed(this.#u, this.#y, b * C, gains.attention, rmsNormEps)
    }
  }

  /** Rotate-half of every head by the angles of a position (flexolmo 1.1). */
  #rotate(values: Float32Array, start: number, width: number, position: number): void {
    const half = headSize(this.#config) / 2
    const { cos, sin } = this.#rotary
    for (let head = start; head < start + width; head += 2 * half) {
      for (let i = 0; i < half; i++) {
        const a = values[head + i] as number
        const b = values[head + half + i] as number
        const c = cos[position * half + i] as number
        const s = sin[position * half + i] as number
        values[head + i] = a * c - b * s
        values[head + half + i] = b * c + a * s
      }
    }
  }

  /** Router logits (B, E) without bias. */
  #route(layer: number, B: number): Float32Array {
    const { hiddenSize: C } = this.#config
    const { E } = this.#init
    const { block, rows, routerIn, routerOut } = this.#trunk
    for (let b = 0; b < B; b++) {
      routerIn.set(this.#u.subarray(b * C, (b + 1) * C))
      block.kernels.product1(routerIn.byteOffset, rows[layer] as number, routerOut.byteOffset, E, C)
      this.#router.set(routerOut, b * E)
    }
    return this.#router.subarray(0, B * E)
  }

  /** y = the weighted outputs of the chosen experts. */
  #runExperts(
    layer: number,
    chosen: readonly { expert: number; rows: readonly number[]; weights: readonly number[] }[],
  ): void {
    const { hiddenSize: C, intermediateSize: F } = this.#config
    const first: Job[] = []
    const second: Job[] = []
    for (const { expert, rows } of chosen) {
      const { block, ffn, x, gate, up, y } = this.#experts[expert] as Expert
      const weights = ffn[layer] as Ffn
      const groups = groupsOf(rows.length)
      rows.forEach((row, i) => {
        x.write(rows.length, i, this.#u, row * C)
      })
      first.push({
        kind: 'gated',
        block,
        x: x.address,
        gateWeights: weights.gate_proj,
        upWeights: weights.up_proj,
        y: gate.address,
        up: up.address,
        rows: F,
        width: C,
        groups,
      })
      second.push({
        kind: 'product',
        block,
        x: gate.address,
        w: weights.down_proj,
        y: y.address,
        rows: C,
        width: F,
        groups,
      })
    }
    this.#threads.run(first)
    this.#threads.run(second)
    this.#y.fill(0)
    for (const { expert, rows, weights } of chosen) {
      const { y } = this.#experts[expert] as Expert
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
    const groups = groupsOf(B)
    this.#threads.run([
      { kind: 'product', block, x: x.address, w: head, y: logits.address, rows: V, width: C, groups },
    ])
    for (let b = 0; b < B; b++) logits.read(B, b, this.#logits, b * V)
    return this.#logits.subarray(0, B * V)
  }
}

/** values *= gain / rms(values), in place, for `gain.length` values from `start`. */
function normalise(values: Float32Array, start: number, gain: Float32Array, eps: number): void {
  const scale = inverseRms(values, start, gain.length, eps)
  for (let i = 0; i < gain.length; i++) {
    values[start + i] = (values[start + i] as number) * scale * (gain[i] as number)
  }
}

function addNormed(
  target: Float32Array,
  values: Float32Array,
  start: number,
  gain: Float32Array,
  eps: number,
): void {
  const scale = inverseRms(values, start, gain.length, eps)
  for (let i = 0; i < gain.length; i++) {
    const normed = (values[start + i] as number) * scale * (gain[i] as number)
    target[start + i] = (target[start + i] as number) + normed
  }
}

function inverseRms(values: Float32Array, start: number, length: number, eps: number): number {
  let sum = 0
  for (let i = start; i < start + length; i++) sum += (values[i] as number) ** 2
  return 1 / Math.sqrt(sum / length + eps)
}

function placeTrunk(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  { E, streams }: TokenDecoderInit,
): Trunk {
  const { hiddenSize: C, vocabSize: V, numHiddenLayers: L } = config
  const layout = new BlockLayout()
  const copies: Copy[] = []
  const place = placer(layout, params, copies)
  const layers = Array.from({ length: L }, (_, layer) => layer)
  const attention = layers.map(
    (layer) =>
      Object.fromEntries(
        ATTENTION.map((name) => [name, place(layerName(layer, `self_attn.${name}.weight`))]),
      ) as Attention,
  )
  const rows = layers.map((layer) => place(routerName(layer)))
  const head = place('lm_head.weight')
  const region = (width: number): VectorRegion => new VectorRegion(layout, streams, width)
  const regions = {
    x: region(C),
    q: region(C),
    k: region(keyValueWidth(config)),
    v: region(keyValueWidth(config)),
    logits: region(V),
  }
  const routerIn = layout.reserve(C)
  const routerOut = layout.reserve(E)
  const block = filled(threads, layout, copies, Object.values(regions))
  return {
    block,
    attention,
    rows,
    head,
    ...regions,
    routerIn: new Float32Array(block.buffer, routerIn, C),
    routerOut: new Float32Array(block.buffer, routerOut, E),
  }
}

function placeExpert(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  e: number,
  streams: number,
): Expert {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
  const layout = new BlockLayout()
  const copies: Copy[] = []
  const place = placer(layout, params, copies)
  const ffn = Array.from(
    { length: L },
    (_, layer) =>
      Object.fromEntries(FFN_PROJECTIONS.map((name) => [name, place(expertName(layer, e, name))])) as Ffn,
  )
  const region = (width: number): VectorRegion => new VectorRegion(layout, streams, width)
  const regions = { x: region(C), gate: region(F), up: region(F), y: region(C) }
  return { block: filled(threads, layout, copies, Object.values(regions)), ffn, ...regions }
}

interface Copy {
  readonly at: number
  readonly data: Float32Array
}

function placer(layout: BlockLayout, params: Params, copies: Copy[]): (name: string) => number {
  return (name) => {
    const { data } = requireParam(params, name)
    const at = layout.reserve(data.length)
    copies.push({ at, data })
    return at
  }
}

function filled(
  threads: VectorThreads,
  layout: BlockLayout,
  copies: readonly Copy[],
  regions: readonly VectorRegion[],
): Block {
  const block = threads.block(layout.bytes)
  for (const { at, data } of copies) new Float32Array(block.buffer, at, data.length).set(data)
  for (const region of regions) region.bind(block.buffer)
  return block
}
