/**
 * The block of shared memory with the small weights that all tokens use (norms and router rows) and the vectors of each
 * sequence while a token is computed. Does not know tokens.
 */
import { BlockLayout } from '../kernels/block-layout.ts'
import type { Block } from '../kernels/vector-jobs.ts'
import { PlainVectors } from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import { layerName, routerName } from '../lib/tensor-names.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { requireWeight, type WeightMap, wholeValues } from '../model/weights.ts'

/** Addresses of the norm gains of one layer. */
export interface Gains {
  readonly q: number
  readonly k: number
  readonly attention: number
  readonly ffn: number
}

export interface DecodingState {
  readonly block: Block
  /** By layer. */
  readonly gains: readonly Gains[]
  /** Address of the gain of the final norm. */
  readonly finalGain: number
  /** Addresses of the router rows (E, C), by layer. */
  readonly routerRows: readonly number[]
  /** Residual stream of every sequence. */
  readonly u: PlainVectors
  /** Output of attention or experts, which is added to the residual stream. */
  readonly y: PlainVectors
  /** One vector: the output of an expert. */
  readonly out: PlainVectors
  readonly q: PlainVectors
  readonly k: PlainVectors
  readonly v: PlainVectors
  /** Rotary tables of each sequence's position, (streams, D / 2) each. */
  readonly cos: PlainVectors
  readonly sin: PlainVectors
  readonly routerLogits: PlainVectors
}

/** Allocates the block and copies the small weights. @throws RangeError if the system cannot provide the memory. */
export async function createDecodingState(
  threads: VectorThreads,
  config: ModelConfig,
  weights: WeightMap,
  { E, streams }: { E: number; streams: number },
): Promise<DecodingState> {
  const { hiddenSize: C, numHiddenLayers: L } = config
  const K = keyValueWidth(config)
  const layout = new BlockLayout()
  const copies: ((buffer: SharedArrayBuffer) => void)[] = []
  const floats = async (name: string): Promise<number> => {
    const values = await wholeValues(requireWeight(weights, name))
    const at = layout.reserve(values.length)
    copies.push((buffer) => new Float32Array(buffer, at, values.length).set(values))
    return at
  }
  const gains: Gains[] = []
  const routerRows: number[] = []
  for (let layer = 0; layer < L; layer++) {
    const gain = (rest: string): Promise<number> => floats(layerName(layer, `${rest}.weight`))
    gains.push({
      q: await gain('self_attn.q_norm'),
      k: await gain('self_attn.k_norm'),
      attention: await gain('post_attention_layernorm'),
      ffn: await gain('post_feedforward_layernorm'),
    })
    routerRows.push(await floats(routerName(layer)))
  }
  const finalGain = await floats('model.norm.weight')
  const vectors: PlainVectors[] = []
  const plain = (width: number, count = streams): PlainVectors => {
    const region = new PlainVectors(layout, count, width)
    vectors.push(region)
    return region
  }
  const half = headSize(config) / 2
  const named = {
    ...{ u: plain(C), y: plain(C), out: plain(C, 1), q: plain(C), k: plain(K), v: plain(K) },
    ...{ cos: plain(half), sin: plain(half), routerLogits: plain(E) },
  }
  const block = threads.block(layout.bytes)
  for (const copy of copies) copy(block.buffer)
  for (const region of vectors) region.bind(block)
  return { block, gains, finalGain, routerRows, ...named }
}
