/**
 * The layers that decoder.ts runs: attention with the router, each expert, and the head. Does not know caches, tokens
 * or requests.
 *
 * Together with decoder.ts they compute the same function as model/transformer.ts, inference/token-decoder.ts and
 * model/onnx-graph.ts; test/inference/generate.test.ts and test/model/onnx-graph.test.ts hold them equal.
 */

import { add, matMul, type Tensor, transpose } from '@tensorflow/tfjs-core'
import type { Bits } from '../kernels/quantized.ts'
import { expertName, FFN_PROJECTIONS, layerName, routerName } from '../lib/tensor-names.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import type { Params } from '../model/weights.ts'
import { type CachedKeysInputs, cachedAttention, cachedKeys } from '../tensor/cached-attention.ts'
import type { Engine } from '../tensor/engine.ts'
import { rmsNorm } from '../tensor/fused.ts'
import { type CompiledLayer, LayerCompiler, type LayerSpec, matrixProduct, swiGlu } from './layer-compiler.ts'
import { compileLowRankLayers, type LowRankLayers } from './low-rank-layers.ts'
import type { QuantizedParams } from './quantized-params.ts'

/**
 * The compiled layers of one mixture. Shapes: J heads of keys and values, a cache of P positions, R rotary positions.
 */
export interface ServingLayers {
  /**
   * By layer: completes the previous block, x = u + norm(y), then computes u' = x + norm(attention(x)) and the logits
   * of the router rows. Inputs: u, y (B, T, C), pastKeys, pastValues (B, J, P, D), positions (B, T), lastPositions
   * (B), total (1), cos, sin (R, D / 2). Results: uNext (B, T, C), logits (B, T, E), and keys, values (B, J, T, D)
   * for the cache.
   */
  readonly attend: readonly CompiledLayer[]
  /**
   * Computes only the keys and values of `attend` in the last block, for tokens whose output nothing reads. Inputs:
   * u, y, positions, lastPositions, cos, sin. Results: keys, values.
   */
  readonly cacheKeysValues: CompiledLayer
  /** The layer of an expert, x (N, C) -> y (N, C), in the variant that is fastest for N = `rows`. */
  expert(layer: number, e: number, rows: number): CompiledLayer
  /**
   * Layers of low-rank experts and the public expert, which `expert` then lacks; undefined if no expert has low rank.
   */
  readonly lowRank?: LowRankLayers
  /** Completes the last block and computes the logits: u, y (N, C) -> logits (N, V). */
  readonly head: CompiledLayer
  dispose(): Promise<void>
}

type Matrices = Readonly<Record<string, string>>

const ATTENTION = { q: 'q_proj', k: 'k_proj', v: 'v_proj', o: 'o_proj' }
const GAINS = {
  qGain: 'self_attn.q_norm',
  kGain: 'self_attn.k_norm',
  outGain: 'post_attention_layernorm',
}

/** Compiles all layers. @param rotaryLength number of positions of the rotary tables, R */
export async function compileServingLayers(
  engine: Engine,
  config: ModelConfig,
  params: Params,
  quantized: QuantizedParams | undefined,
  E: number,
  rotaryLength: number,
): Promise<ServingLayers> {
  const compiler = new LayerCompiler(engine, params, quantized)
  const { numHiddenLayers: L } = config
  try {
    const attend: CompiledLayer[] = []
    const experts: { one: CompiledLayer; several: CompiledLayer }[][] = []
    const lowRank = await compileLowRankLayers(compiler, config, params, E)
    for (let layer = 0; layer < L; layer++) {
      attend.push(await compiler.compile('attend', attendSpec(config, rotaryLength, layer)))
      const row: (typeof experts)[number] = []
      for (let e = 0; e < E; e++) {
        if (lowRank?.experts.has(e)) continue
        const one = await compiler.compile('expert', expertSpec(config, layer, e))
        const several = quantized
          ? one
          : await compiler.compile('expert for several rows', severalRowsSpec(config, layer, e))
        row[e] = { one, several }
      }
      experts.push(row)
    }
    const cacheKeysValues = await compiler.compile(
      'cacheKeysValues',
      cacheKeysValuesSpec(config, rotaryLength),
    )
    const head = await compiler.compile('head', headSpec(config))
    return {
      attend,
      cacheKeysValues,
      expert: (layer, e, rows) => experts[layer]?.[e]?.[rows === 1 ? 'one' : 'several'] as CompiledLayer,
      ...(lowRank === undefined ? {} : { lowRank }),
      head,
      dispose: () => compiler.dispose(),
    }
  } catch (error) {
    await compiler.dispose()
    throw error
  }
}

/** Inputs that `attend` and `cacheKeysValues` have in common. */
function newTokens(config: ModelConfig, rotaryLength: number): LayerSpec['inputs'] {
  const { hiddenSize: C } = config
  const table = { shape: [rotaryLength, headSize(config) / 2], constant: true } as const
  return {
    u: { shape: ['B', 'T', C] },
    y: { shape: ['B', 'T', C] },
    positions: { shape: ['B', 'T'], dtype: 'int32' },
    lastPositions: { shape: ['B'], dtype: 'int32' },
    cos: table,
    sin: table,
  }
}

/** The start of a block: x (B, T, C) from u and y of the previous block, and the keys and values of the new tokens. */
function blockStart(config: ModelConfig, bits: Bits | undefined, tensors: Readonly<Record<string, Tensor>>) {
  const { hiddenSize: C, rmsNormEps } = config
  const K = keyValueWidth(config)
  const t = (name: string): Tensor => tensors[name] as Tensor
  const linear = matrixProduct(tensors, bits, (name) => (name === 'k' || name === 'v' ? [K, C] : [C, C]))
  const x = add(t('u'), rmsNorm(t('y'), t('inGain'), rmsNormEps))
  const fresh: CachedKeysInputs = {
    keys: rmsNorm(linear(x, 'k'), t('kGain'), rmsNormEps),
    values: linear(x, 'v'),
    positions: t('positions'),
    lastPositions: t('lastPositions'),
    cos: t('cos'),
    sin: t('sin'),
  }
  return { t, linear, x, fresh }
}

/** Gain of the norm of y from the previous block. The first block has none, but its y is 0, so any gain will do. */
function inGain(layer: number): string {
  return layerName(Math.max(0, layer - 1), 'post_feedforward_layernorm.weight')
}

function weightNames(layer: number, names: Matrices, prefix = ''): Matrices {
  return Object.fromEntries(
    Object.entries(names).map(([name, of]) => [name, layerName(layer, `${prefix}${of}.weight`)]),
  )
}

function attendSpec(config: ModelConfig, rotaryLength: number, layer: number) {
  const { numAttentionHeads: H, numKeyValueHeads: J, rmsNormEps } = config
  const past = { shape: ['B', J, 'P', headSize(config)] }
  return (bits: Bits | undefined): LayerSpec => ({
    fn: (tensors) => {
      const { t, linear, x, fresh } = blockStart(config, bits, tensors)
      const queries = rmsNorm(linear(x, 'q'), t('qGain'), rmsNormEps)
      const pasts = { pastKeys: t('pastKeys'), pastValues: t('pastValues'), total: t('total') }
      const heads = { queries: H, keys: J }
      const { mixed, keys, values } = cachedAttention({ queries, ...fresh, ...pasts }, heads)
      const u = add(x, rmsNorm(linear(mixed, 'o'), t('outGain'), rmsNormEps))
      const logits = matMul(u as never, t('rows') as never, false, true) as Tensor // (B, T, E)
      return { uNext: u, logits, keys, values }
    },
    inputs: {
      ...newTokens(config, rotaryLength),
      pastKeys: past,
      pastValues: past,
      total: { shape: [1], dtype: 'int32' },
    },
    matrices: weightNames(layer, ATTENTION, 'self_attn.'),
    vectors: { inGain: inGain(layer), ...weightNames(layer, GAINS), rows: routerName(layer) },
  })
}

function cacheKeysValuesSpec(config: ModelConfig, rotaryLength: number) {
  const layer = config.numHiddenLayers - 1
  const { k, v } = ATTENTION
  const { kGain } = GAINS
  return (bits: Bits | undefined): LayerSpec => ({
    fn: (tensors) => ({ ...cachedKeys(blockStart(config, bits, tensors).fresh, config.numKeyValueHeads) }),
    inputs: newTokens(config, rotaryLength),
    matrices: weightNames(layer, { k, v }, 'self_attn.'),
    vectors: { inGain: inGain(layer), ...weightNames(layer, { kGain }) },
  })
}

function expertSpec(config: ModelConfig, layer: number, e: number) {
  const { hiddenSize: C, intermediateSize: F } = config
  return (bits: Bits | undefined): LayerSpec => ({
    fn: (tensors) => {
      const linear = matrixProduct(tensors, bits, (name) => (name === 'down_proj' ? [C, F] : [F, C]))
      const x = tensors['x'] as Tensor
      return { y: linear(swiGlu(linear(x, 'gate_proj'), linear(x, 'up_proj')), 'down_proj') }
    },
    inputs: { x: { shape: ['N', C] } },
    matrices: expertMatrices(layer, e),
    vectors: {},
  })
}

/**
 * An expert for several rows: computes transposed products, with the weights as left operands. ONNX Runtime reads left
 * operands in place, but repacks right ones at every run, which takes a sixth of the time for 50 rows. For one row it
 * needs no repacking.
 */
function severalRowsSpec({ hiddenSize: C }: ModelConfig, layer: number, e: number) {
  return (): LayerSpec => ({
    fn: ({ x, gate_proj, up_proj, down_proj }) => {
      const left = (W: Tensor | undefined, columns: Tensor | undefined, transposed = false): Tensor =>
        matMul(W as never, columns as never, false, transposed)
      const inner = swiGlu(left(gate_proj, x, true), left(up_proj, x, true)) // (F, N)
      return { y: transpose(left(down_proj, inner)) }
    },
    inputs: { x: { shape: ['N', C] } },
    matrices: expertMatrices(layer, e),
    vectors: {},
  })
}

function expertMatrices(layer: number, e: number): Matrices {
  return Object.fromEntries(FFN_PROJECTIONS.map((name) => [name, expertName(layer, e, name)]))
}

function headSpec(config: ModelConfig) {
  const { hiddenSize: C, vocabSize: V, numHiddenLayers: L, rmsNormEps } = config
  return (bits: Bits | undefined): LayerSpec => ({
    fn: (tensors) => {
      const t = (name: string): Tensor => tensors[name] as Tensor
      const linear = matrixProduct(tensors, bits, () => [V, C])
      const x = add(t('u'), rmsNorm(t('y'), t('inGain'), rmsNormEps))
      return { logits: linear(rmsNorm(x, t('gain'), rmsNormEps), 'lmHead') }
    },
    inputs: { u: { shape: ['N', C] }, y: { shape: ['N', C] } },
    matrices: { lmHead: 'lm_head.weight' },
    vectors: {
      inGain: layerName(L - 1, 'post_feedforward_layernorm.weight'),
      gain: 'model.norm.weight',
    },
  })
}
