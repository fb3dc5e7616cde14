/**
 * Lays out the weights of token-decoder.ts for the vector kernels: one block of shared memory for the trunk
 * (everything that all tokens use) and one for each expert, each with buffers for vectors. Copies the weights,
 * quantized if the weight format asks for it. Does not know tokens.
 */

import { BlockLayout } from '../kernels/block-layout.ts'
import { packMatrix } from '../kernels/coded-matrix.ts'
import {
  isCoded,
  type Matrix,
  type MatrixFormat,
  matrixBytes,
  widthMultiple,
} from '../kernels/matrix-format.ts'
import { pairRows } from '../kernels/paired-rows.ts'
import type { Bits } from '../kernels/quantized.ts'
import type { Block } from '../kernels/vector-jobs.ts'
import { PlainVectors, ProductInputs, ProductResults } from '../kernels/vector-layout.ts'
import { MAX_BLOCK_BYTES, type VectorThreads } from '../kernels/vector-threads.ts'
import { expertName, FFN_PROJECTIONS, layerName, routerName } from '../lib/tensor-names.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { requireParam } from '../model/params.ts'
import type { Params } from '../model/weights.ts'
import type { QuantizedParams } from './quantized-params.ts'

/** Allowance for norms, alignment and other small items. */
const SPARE_BYTES = 2 ** 22

export const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const
/** The matrices of one layer's attention. */
export type Attention = Readonly<Record<(typeof ATTENTION)[number], Matrix>>
/** The matrices of one layer of an expert. */
export type Ffn = Readonly<Record<(typeof FFN_PROJECTIONS)[number], Matrix>>

/** The format of the matrices whose integers have this number of bits; undefined: floats. */
function formatOf(bits: Bits | undefined): MatrixFormat {
  return bits === undefined ? 'fp32' : bits === 8 ? 'int8' : 'int4'
}

/**
 * Bytes of the weights that a decoder would copy. Infinity if the kernels do not support the model: the sizes of heads
 * must be multiples of 4, widths multiples of 4 (of the quantization block if quantized), and every block of memory
 * must fit into 32-bit addresses.
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
  const format = formatOf(bits)
  const bytes = (rows: number, width: number): number => matrixBytes(format, rows, width)
  const trunk = L * (2 * bytes(C, C) + 2 * bytes(K, C)) + bytes(V, C) + 4 * L * E * C
  const expert = L * (2 * bytes(F, C) + bytes(C, F))
  const multiple = widthMultiple(format)
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
  readonly x: ProductInputs
  readonly products: Readonly<Record<'q' | 'k' | 'v' | 'logits', ProductResults>>
  /** A result on its way from the block of an expert: kernels can address only one block. */
  readonly transfer: PlainVectors
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
  readonly x: ProductInputs
  readonly gate: ProductResults
  readonly up: ProductResults
  /** Input of the down projection: the gated vectors in the layout of products. */
  readonly inner: ProductInputs
  readonly y: ProductResults
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
    q: builder.results(C),
    k: builder.results(K),
    v: builder.results(K),
    logits: builder.results(V),
  }
  const transfer = builder.plain(C)
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
  const gate = builder.results(F)
  const up = builder.results(F)
  const inner = builder.input(F)
  const y = builder.results(C)
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
  readonly #vectors: { bind(block: Block): void }[] = []
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
    const { data, shape } = requireParam(this.#params, name)
    const [rows, width] = shape as [number, number]
    const format = this.#format
    const bytes = matrixBytes(format, rows, width)
    const at = this.layout.reserveBytes(bytes)
    this.#copies.push((buffer) => {
      if (isCoded(format)) {
        const quantized = this.#quantized?.of(name)
        if (quantized !== undefined) packMatrix(quantized, new Uint8Array(buffer, at, bytes))
      } else pairRows(data, new Float32Array(buffer, at, bytes / 4), width)
    })
    return { format, at, rows, width }
  }

  get #format(): MatrixFormat {
    return formatOf(this.#quantized?.bits)
  }

  results(rows: number): ProductResults {
    return this.#register(new ProductResults(this.layout, this.#streams, rows))
  }

  input(width: number): ProductInputs {
    return this.#register(new ProductInputs(this.layout, this.#streams, width, this.#format))
  }

  plain(width: number): PlainVectors {
    return this.#register(new PlainVectors(this.layout, this.#streams, width))
  }

  #register<R extends { bind(block: Block): void }>(vectors: R): R {
    this.#vectors.push(vectors)
    return vectors
  }

  /** Allocates the block, copies the weights into it and binds the vector buffers. */
  block(threads: VectorThreads): Block {
    const block = threads.block(this.layout.bytes)
    for (const copy of this.#copies) copy(block.buffer)
    for (const vectors of this.#vectors) vectors.bind(block)
    return block
  }
}
