/**
 * Lays out the weights of token-decoder.ts for the vector kernels: one block of shared memory for the trunk
 * (everything that all tokens use) and one for each expert, each with buffers for vectors. Copies the weights,
 * quantized if the weight format asks for it. Does not know tokens.
 */

import { BlockLayout } from '../kernels/block-layout.ts'
import { type Bits, QUANTIZED_BLOCK } from '../kernels/quantized.ts'
import type { Block, Matrix } from '../kernels/vector-jobs.ts'
import {
  PlainVectors,
  pairedSize,
  pairRows,
  QuantizedRegion,
  type VectorInput,
  VectorRegion,
} from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import { expertName, FFN_PROJECTIONS, layerName, routerName } from '../lib/tensor-names.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { type Params, requireParam } from '../model/params.ts'
import type { QuantizedParams } from './quantized-params.ts'

/** Maximum size of a block, because addresses have 32 bits. */
const MAX_BLOCK_BYTES = 2 ** 32
/** Allowance for norms, alignment and other small items. */
const SPARE_BYTES = 2 ** 22

export const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const
/** The matrices of one layer's attention. */
export type Attention = Readonly<Record<(typeof ATTENTION)[number], Matrix>>
/** The matrices of one layer of an expert. */
export type Ffn = Readonly<Record<(typeof FFN_PROJECTIONS)[number], Matrix>>

/**
 * Bytes of the weights that a decoder would copy. Infinity if the kernels do not support the model: widths must be
 * multiples of 4 (of the quantization block if quantized), and every block of memory must fit into 32-bit addresses.
 * @param streams maximum number of sequences
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
  const multiple = bits === undefined ? 4 : QUANTIZED_BLOCK
  const isSupported = headSize(config) % 4 === 0 && C % multiple === 0 && F % multiple === 0
  // Each vector has a buffer in the layout of products and a contiguous one; streams are rounded up to groups of four.
  const vectors = (streams + 3) * 4 * Math.max(2 * (4 * C + 2 * K + V + E), 3 * F + 2 * C)
  const largest = Math.max(trunk + 8 * V, expert) + vectors + SPARE_BYTES
  if (!isSupported || largest > MAX_BLOCK_BYTES) return Number.POSITIVE_INFINITY
  return trunk + E * expert
}

/** Addresses of the norm gains of one layer. */
export interface Gains {
  readonly q: number
  readonly k: number
  readonly attention: number
  readonly ffn: number
}

/** The block of the trunk: attention, router rows, head, norms, and buffers for vectors. */
export interface TrunkLayout {
  readonly block: Block
  /** By layer. */
  readonly attention: readonly Attention[]
  /** By layer. */
  readonly gains: readonly Gains[]
  /** Address of the gain of the final norm. */
  readonly finalGain: number
  /** Addresses of the router rows (E, C), by layer. */
  readonly routerRows: readonly number[]
  readonly head: Matrix
  /** Input vectors of products, and their results. */
  readonly x: VectorInput
  readonly products: Readonly<Record<'q' | 'k' | 'v' | 'logits', VectorRegion>>
  /** Vectors on the way to or from the block of an expert: kernels can address only one block. */
  readonly transfer: VectorRegion
  /** Residual stream of every sequence. */
  readonly u: PlainVectors
  /** Output of attention or experts, which is added to the residual stream. */
  readonly y: PlainVectors
  readonly q: PlainVectors
  readonly k: PlainVectors
  readonly v: PlainVectors
  /** Rotary tables of each sequence's position, (streams, D / 2) each. */
  readonly cos: PlainVectors
  readonly sin: PlainVectors
  readonly routerLogits: PlainVectors
  readonly logits: PlainVectors
}

/** The block of one expert. */
export interface ExpertLayout {
  readonly block: Block
  /** By layer. */
  readonly ffn: readonly Ffn[]
  readonly x: VectorInput
  readonly gate: VectorRegion
  readonly up: VectorRegion
  /** Input of the down projection: the same as `gate`, which holds the gated vectors, or their quantized copy. */
  readonly inner: VectorInput
  readonly y: VectorRegion
}

/** Allocates and fills the block of the trunk. @throws RangeError if the system cannot provide the memory. */
export function layOutTrunk(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  quantized: QuantizedParams | undefined,
  { E, streams }: { E: number; streams: number },
): TrunkLayout {
  const { hiddenSize: C, vocabSize: V, numHiddenLayers: L } = config
  const K = keyValueWidth(config)
  const builder = new BlockBuilder(params, quantized, streams)
  const layers = Array.from({ length: L }, (_, layer) => layer)
  const attention = layers.map((layer) =>
    byName(ATTENTION, (name) => builder.matrix(layerName(layer, `self_attn.${name}.weight`))),
  )
  const gains = layers.map((layer): Gains => {
    const gain = (rest: string): number => builder.floats(layerName(layer, `${rest}.weight`))
    return {
      q: gain('self_attn.q_norm'),
      k: gain('self_attn.k_norm'),
      attention: gain('post_attention_layernorm'),
      ffn: gain('post_feedforward_layernorm'),
    }
  })
  const finalGain = builder.floats('model.norm.weight')
  const routerRows = layers.map((layer) => builder.floats(routerName(layer)))
  const head = builder.matrix('lm_head.weight')
  const x = builder.input(C)
  const products = {
    q: builder.region(C),
    k: builder.region(K),
    v: builder.region(K),
    logits: builder.region(V),
  }
  const transfer = builder.region(C)
  const [u, y, q] = [builder.plain(C), builder.plain(C), builder.plain(C)]
  const [k, v] = [builder.plain(K), builder.plain(K)]
  const [cos, sin] = [builder.plain(headSize(config) / 2), builder.plain(headSize(config) / 2)]
  const [routerLogits, logits] = [builder.plain(E), builder.plain(V)]
  const block = builder.block(threads)
  return {
    ...{ block, attention, gains, finalGain, routerRows, head, x, products, transfer },
    ...{ u, y, q, k, v, cos, sin, routerLogits, logits },
  }
}

/** Allocates and fills the block of expert e. @throws RangeError if the system cannot provide the memory. */
export function layOutExpert(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  quantized: QuantizedParams | undefined,
  e: number,
  streams: number,
): ExpertLayout {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
  const builder = new BlockBuilder(params, quantized, streams)
  const ffn = Array.from({ length: L }, (_, layer) =>
    byName(FFN_PROJECTIONS, (name) => builder.matrix(expertName(layer, e, name))),
  )
  const x = builder.input(C)
  const gate = builder.region(F)
  const up = builder.region(F)
  const inner = quantized === undefined ? gate : builder.input(F)
  const y = builder.region(C)
  return { block: builder.block(threads), ffn, x, gate, up, inner, y }
}

function byName<N extends string>(names: readonly N[], value: (name: N) => Matrix): Record<N, Matrix> {
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<N, Matrix>
}

/** Reserves the contents of one block, then allocates the block and fills it. */
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

  /** Reserves a parameter, row-major. @returns its address */
  floats(name: string): number {
    const { data } = requireParam(this.#params, name)
    const at = this.layout.reserve(data.length)
    this.#copies.push((buffer) => new Float32Array(buffer, at, data.length).set(data))
    return at
  }

  /** Reserves a matrix in the layout of products. */
  matrix(name: string): Matrix {
    const matrix = this.#quantized?.of(name)
    if (matrix === undefined) return { w: this.#paired(name), scales: 0 }
    const { bits } = matrix
    const w = this.layout.reserve(matrix.packed.length / 4)
    const scales = this.layout.reserve(matrix.scales.length)
    this.#copies.push((buffer) => {
      const packed = new Uint8Array(buffer, w, matrix.packed.length)
      // The kernels read signed bytes.
      if (bits === 8) for (let i = 0; i < packed.length; i++) packed[i] = (matrix.packed[i] as number) ^ 128
      else packed.set(matrix.packed)
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

  #register<R extends { bind(buffer: SharedArrayBuffer): void }>(region: R): R {
    this.#regions.push(region)
    return region
  }

  /** Allocates the block, copies the weights into it and binds the vector buffers. */
  block(threads: VectorThreads): Block {
    const block = threads.block(this.layout.bytes)
    for (const copy of this.#copies) copy(block.buffer)
    for (const region of this.#regions) region.bind(block.buffer)
    return block
  }
}
