/**
 * The weights of token-decoder.ts laid out for the vector kernels, with room for the vectors beside
 * them: one block of memory for what all tokens use, one for each expert. They are copied, and coded
 * where the weight format says so. Knows no token.
 */

import { BlockLayout } from '../kernels/block-layout.ts'
import { type Bits, QUANTIZED_BLOCK } from '../kernels/quantized.ts'
import type { Block, Matrix } from '../kernels/vector-jobs.ts'
import {
  PlainVectors,
  pairedSize,
  pairRows,
  QuantizedRegion,
  VectorRegion,
} from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import { expertName, FFN_PROJECTIONS, layerName, routerName } from '../lib/tensor-names.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { type Params, requireParam } from '../model/params.ts'
import type { QuantizedParams } from './quantized-params.ts'

/** Of one block: addresses have 32 bits. */
const MAX_BLOCK_BYTES = 2 ** 32
/** Norms, what alignment leaves empty, and the like. */
const SPARE_BYTES = 2 ** 22

export const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const
export type Attention = Readonly<Record<(typeof ATTENTION)[number], Matrix>>
export type Ffn = Readonly<Record<(typeof FFN_PROJECTIONS)[number], Matrix>>
/** Floats, or codes where the weights are coded. */
export type VectorInput = VectorRegion | QuantizedRegion

/**
 * Bytes of weights that a decoder copies; infinite where the kernels cannot do this model, which takes
 * vectors of whole fours, or whole blocks of codes, and no block of memory beyond their addresses.
 */
export function weightLayoutBytes(
  config: ModelConfig,
  E: number,
  bits: Bits | undefined,
  streams: number,
): number {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L, vocabSize: V } = config
  const K = keyValueWidth(config)
  const bytes = (values: number): number =>
    bits === undefined ? 4 * values : (values * bits) / 8 + (4 * values) / QUANTIZED_BLOCK
  const trunk = bytes(L * (2 * C * C + 2 * C * K) + V * C) + 4 * L * E * C
  const expert = bytes(L * 3 * C * F)
  const whole = bits === undefined ? 4 : QUANTIZED_BLOCK
  const isFit = headSize(config) % 4 === 0 && C % whole === 0 && F % whole === 0
  // Each vector as the products have it and as it is, four streams to a group.
  const vectors = (streams + 3) * 4 * Math.max(2 * (4 * C + 2 * K + V + E), 3 * F + 2 * C)
  const largest = Math.max(trunk + 8 * V, expert) + vectors + SPARE_BYTES
  if (!isFit || largest > MAX_BLOCK_BYTES) return Number.POSITIVE_INFINITY
  return trunk + E * expert
}

/** Addresses of the gains of one layer's norms. */
export interface Gains {
  readonly q: number
  readonly k: number
  readonly attention: number
  readonly ffn: number
}

/** What all tokens use: attention, router rows, head, norms, and room for vectors. */
export interface TrunkLayout {
  readonly block: Block
  readonly attention: readonly Attention[]
  readonly gains: readonly Gains[]
  readonly finalGain: number
  /** Router rows of every layer, (E, C) each. */
  readonly routerRows: readonly number[]
  readonly head: Matrix
  /** What products read, and what they write. */
  readonly x: VectorInput
  readonly products: Readonly<Record<'q' | 'k' | 'v' | 'logits', VectorRegion>>
  /** Vectors of an expert on their way between its block and this one. */
  readonly transfer: VectorRegion
  /** The stream of every sequence, and what is added to it. */
  readonly u: PlainVectors
  readonly y: PlainVectors
  readonly q: PlainVectors
  readonly k: PlainVectors
  readonly v: PlainVectors
  /** Angles of each sequence's position, (streams, D / 2). */
  readonly cos: PlainVectors
  readonly sin: PlainVectors
  /** Of the router, and of the head. */
  readonly routerLogits: PlainVectors
  readonly logits: PlainVectors
}

export interface ExpertLayout {
  readonly block: Block
  readonly ffn: readonly Ffn[]
  readonly x: VectorInput
  readonly gate: VectorRegion
  readonly up: VectorRegion
  /** What the last projection reads: the gated vectors, or their codes. */
  readonly inner: VectorInput
  readonly y: VectorRegion
}

export function layOutTrunk(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  quantized: QuantizedParams | undefined,
  { E, streams }: { E: number; streams: number },
): TrunkLayout {
  const { hiddenSize: C, vocabSize: V, numHiddenLayers: L } = config
  const K = keyValueWidth(config)
  const placer = new BlockBuilder(params, quantized, streams)
  const layers = Array.from({ length: L }, (_, layer) => layer)
  const attention = layers.map((layer) =>
    byName(ATTENTION, (name) => placer.matrix(layerName(layer, `self_attn.${name}.weight`))),
  )
  const gains = layers.map((layer): Gains => {
    const gain = (rest: string): number => placer.floats(layerName(layer, `${rest}.weight`))
    return {
      q: gain('self_attn.q_norm'),
      k: gain('self_attn.k_norm'),
      attention: gain('post_attention_layernorm'),
      ffn: gain('post_feedforward_layernorm'),
    }
  })
  const finalGain = placer.floats('model.norm.weight')
  const routerRows = layers.map((layer) => placer.floats(routerName(layer)))
  const head = placer.matrix('lm_head.weight')
  const x = placer.input(C)
  const products = {
    q: placer.region(C),
    k: placer.region(K),
    v: placer.region(K),
    logits: placer.region(V),
  }
  const transfer = placer.region(C)
  const [u, y, q] = [placer.plain(C), placer.plain(C), placer.plain(C)]
  const [k, v] = [placer.plain(K), placer.plain(K)]
  const [cos, sin] = [placer.plain(headSize(config) / 2), placer.plain(headSize(config) / 2)]
  const [routerLogits, logits] = [placer.plain(E), placer.plain(V)]
  const block = placer.block(threads)
  return {
    ...{ block, attention, gains, finalGain, routerRows, head, x, products, transfer },
    ...{ u, y, q, k, v, cos, sin, routerLogits, logits },
  }
}

export function layOutExpert(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  quantized: QuantizedParams | undefined,
  e: number,
  streams: number,
): ExpertLayout {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
  const placer = new BlockBuilder(params, quantized, streams)
  const ffn = Array.from({ length: L }, (_, layer) =>
    byName(FFN_PROJECTIONS, (name) => placer.matrix(expertName(layer, e, name))),
  )
  const x = placer.input(C)
  const gate = placer.region(F)
  const up = placer.region(F)
  const inner = quantized === undefined ? gate : placer.input(F)
  const y = placer.region(C)
  return { block: placer.block(threads), ffn, x, gate, up, inner, y }
}

function byName<N extends string>(names: readonly N[], value: (name: N) => Matrix): Record<N, Matrix> {
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<N, Matrix>
}

/** Lays out one block, and fills it when all of it is known. */
class BlockBuilder {
  readonly layout = new BlockLayout()
  readonly #params: Params
  readonly #quantized: QuantizedParams | undefined
  readonly #streams: number
  readonly #regions: { bind(buffer: SharedArrayBuffer): void }[] = []
  readonly #copies: ((buffer: SharedArrayBuffer) => void)[] = []

  constructor(params: Params, quantized: QuantizedParams | undefined, streams: number) {
    this.#params = params
    this.#quantized = quantized
    this.#streams = streams
  }

  floats(name: string): number {
    const { data } = requireParam(this.#params, name)
    const at = this.layout.reserve(data.length)
    this.#copies.push((buffer) => new Float32Array(buffer, at, data.length).set(data))
    return at
  }

  matrix(name: string): Matrix {
    const matrix = this.#quantized?.of(name)
    if (matrix === undefined) return { w: this.#paired(name), scales: 0 }
    const { bits } = matrix
    const w = this.layout.reserve(matrix.packed.length / 4)
    const scales = this.layout.reserve(matrix.scales.length)
    this.#copies.push((buffer) => {
      const codes = new Uint8Array(buffer, w, matrix.packed.length)
      // The kernels' bytes are signed.
      if (bits === 8) for (let i = 0; i < codes.length; i++) codes[i] = (matrix.packed[i] as number) ^ 128
      else codes.set(matrix.packed)
      new Float32Array(buffer, scales, matrix.scales.length).set(matrix.scales)
    })
    return { w, scales }
  }

  #paired(name: string): number {
    const { data, shape } = requireParam(this.#params, name)
    const width = shape.at(-1) as number
    const size = pairedSize(data.length / width, width)
    const at = this.layout.reserve(size)
    this.#copies.push((buffer) => pairRows(data, new Float32Array(buffer, at, size), width))
    return at
  }

  region(width: number): VectorRegion {
    return this.#register(new VectorRegion(this.layout, this.#streams, width, this.#quantized === undefined))
  }

  input(width: number): VectorInput {
    if (this.#quantized === undefined) return this.region(width)
    return this.#register(new QuantizedRegion(this.layout, this.#streams, width, this.#quantized.bits))
  }

  plain(width: number): PlainVectors {
    return this.#register(new PlainVectors(this.layout, this.#streams, width))
  }

  #register<R extends { bind(buffer: SharedArrayBuffer): void }>(room: R): R {
    this.#regions.push(room)
    return room
  }

  block(threads: VectorThreads): Block {
    const block = threads.block(this.layout.bytes)
    for (const copy of this.#copies) copy(block.buffer)
    for (const room of this.#regions) room.bind(block.buffer)
    return block
  }
}
