/**
 * The weights of token-decoder.ts laid out for the vector kernels, with room for the vectors beside
 * them: one block of memory for what all tokens use, one for each expert. They are copied, and coded
 * where the weight format says so. Knows no token.
 */
import { type Bits, QUANTIZED_BLOCK } from '../tensor/quantized.ts'
import type { Block, Matrix } from '../tensor/vector-jobs.ts'
import {
  BlockLayout,
  EncodedRegion,
  pairedSize,
  pairRows,
  type VectorInput,
  VectorRegion,
} from '../tensor/vector-layout.ts'
import type { VectorThreads } from '../tensor/vector-threads.ts'
import type { CodedParams } from './coded-params.ts'
import { headSize, keyValueWidth, type ModelConfig } from './config.ts'
import { expertName, FFN_PROJECTIONS, layerName, type Params, requireParam, routerName } from './params.ts'

/** Of one block: addresses have 32 bits, and vectors lie beside the weights. */
const MAX_WEIGHT_BYTES = 2 ** 32 - 2 ** 28

export const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const
export type Attention = Readonly<Record<(typeof ATTENTION)[number], Matrix>>
export type Ffn = Readonly<Record<(typeof FFN_PROJECTIONS)[number], Matrix>>

/**
 * Bytes of weights that a decoder copies; infinite where the kernels cannot do this model, which takes
 * vectors of whole fours, or whole blocks of codes, and no block of memory beyond their addresses.
 */
export function placedBytes(config: ModelConfig, E: number, bits: Bits | undefined): number {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L, vocabSize: V } = config
  const bytes = (values: number): number =>
    bits === undefined ? 4 * values : (values * bits) / 8 + (4 * values) / QUANTIZED_BLOCK
  const trunk = bytes(L * (2 * C * C + 2 * C * keyValueWidth(config)) + V * C) + 4 * L * E * C
  const expert = bytes(L * 3 * C * F)
  const whole = bits === undefined ? 4 : QUANTIZED_BLOCK
  const isFit = headSize(config) % 4 === 0 && C % whole === 0 && F % whole === 0
  if (!isFit || Math.max(trunk, expert) > MAX_WEIGHT_BYTES) return Number.POSITIVE_INFINITY
  return trunk + E * expert
}

/** What all tokens use: attention, router rows, head, and room for vectors. */
export interface TrunkPlace {
  readonly block: Block
  readonly attention: readonly Attention[]
  /** Router rows of every layer, in floats. */
  readonly rows: readonly number[]
  readonly head: Matrix
  readonly x: VectorInput
  readonly q: VectorRegion
  readonly k: VectorRegion
  readonly v: VectorRegion
  readonly logits: VectorRegion
  /** (C) and (E), of one token. */
  readonly routerIn: Float32Array
  readonly routerOut: Float32Array
}

export interface ExpertPlace {
  readonly block: Block
  readonly ffn: readonly Ffn[]
  readonly x: VectorInput
  readonly gate: VectorRegion
  readonly up: VectorRegion
  /** What the last projection reads: the gated vectors, or their codes. */
  readonly inner: VectorInput
  readonly y: VectorRegion
}

export function placeTrunk(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  coded: CodedParams | undefined,
  { E, streams }: { E: number; streams: number },
): TrunkPlace {
  const { hiddenSize: C, vocabSize: V, numHiddenLayers: L } = config
  const placer = new Placer(params, coded, streams)
  const layers = Array.from({ length: L }, (_, layer) => layer)
  const attention = layers.map((layer) =>
    byName(ATTENTION, (name) => placer.matrix(layerName(layer, `self_attn.${name}.weight`))),
  )
  const rows = layers.map((layer) => placer.floats(routerName(layer)))
  const head = placer.matrix('lm_head.weight')
  const x = placer.input(C)
  const q = placer.region(C)
  const k = placer.region(keyValueWidth(config))
  const v = placer.region(keyValueWidth(config))
  const logits = placer.region(V)
  const routerIn = placer.layout.reserve(C)
  const routerOut = placer.layout.reserve(E)
  const block = placer.block(threads)
  return {
    ...{ block, attention, rows, head, x, q, k, v, logits },
    routerIn: new Float32Array(block.buffer, routerIn, C),
    routerOut: new Float32Array(block.buffer, routerOut, E),
  }
}

export function placeExpert(
  threads: VectorThreads,
  config: ModelConfig,
  params: Params,
  coded: CodedParams | undefined,
  e: number,
  streams: number,
): ExpertPlace {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
  const placer = new Placer(params, coded, streams)
  const ffn = Array.from({ length: L }, (_, layer) =>
    byName(FFN_PROJECTIONS, (name) => placer.matrix(expertName(layer, e, name))),
  )
  const x = placer.input(C)
  const gate = placer.region(F)
  const up = placer.region(F)
  const inner = coded === undefined ? gate : placer.input(F)
  const y = placer.region(C)
  return { block: placer.block(threads), ffn, x, gate, up, inner, y }
}

function byName<N extends string>(names: readonly N[], value: (name: N) => Matrix): Record<N, Matrix> {
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<N, Matrix>
}

/** Lays out one block, and fills it when all of it is known. */
class Placer {
  readonly layout = new BlockLayout()
  readonly #params: Params
  readonly #coded: CodedParams | undefined
  readonly #streams: number
  readonly #inputs: VectorInput[] = []
  readonly #copies: ((buffer: SharedArrayBuffer) => void)[] = []

  constructor(params: Params, coded: CodedParams | undefined, streams: number) {
    this.#params = params
    this.#coded = coded
    this.#streams = streams
  }

  floats(name: string): number {
    const { data } = requireParam(this.#params, name)
    const at = this.layout.reserve(data.length)
    this.#copies.push((buffer) => new Float32Array(buffer, at, data.length).set(data))
    return at
  }

  matrix(name: string): Matrix {
    const made = this.#coded?.of(name)
    if (made === undefined) return { w: this.#paired(name), scales: 0 }
    const { bits } = made
    const w = this.layout.reserve(made.codes.length / 4)
    const scales = this.layout.reserve(made.scales.length)
    this.#copies.push((buffer) => {
      const codes = new Uint8Array(buffer, w, made.codes.length)
      // The kernels' bytes are signed.
      if (bits === 8) for (let i = 0; i < codes.length; i++) codes[i] = (made.codes[i] as number) ^ 128
      else codes.set(made.codes)
      new Float32Array(buffer, scales, made.scales.length).set(made.scales)
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
    const region = new VectorRegion(this.layout, this.#streams, width, this.#coded === undefined)
    this.#inputs.push(region)
    return region
  }

  input(width: number): VectorInput {
    if (this.#coded === undefined) return this.region(width)
    const region = new EncodedRegion(this.layout, this.#streams, width, this.#coded.bits)
    this.#inputs.push(region)
    return region
  }

  block(threads: VectorThreads): Block {
    const block = threads.block(this.layout.bytes)
    for (const copy of this.#copies) copy(block.buffer)
    for (const input of this.#inputs) input.bind(block.buffer)
    return block
  }
}
