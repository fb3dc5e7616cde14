/**
 * The functions that serving runs, layer by layer: attend, one expert, head. Knows no cache, no tokens and no
 * requests.
 */
import { add, matMul, type Tensor } from '@tensorflow/tfjs'
import { cachedAttention } from '../tensor/cached-attention.ts'
import type { Engine } from '../tensor/engine.ts'
import { rmsNorm } from '../tensor/fused.ts'
import type { Bits } from '../tensor/quantized.ts'
import type { CodedParams } from './coded-params.ts'
import { headSize, keyValueWidth, type ModelConfig } from './config.ts'
import { type LowRankParts, makeLowRankParts } from './low-rank-parts.ts'
import { expertName, FFN_PROJECTIONS, layerName, type Params, routerName } from './params.ts'
import { gated, type Part, PartMaker, type PartSpec, product } from './part-maker.ts'

export interface ServingParts {
  /**
   * (u, y) of the block before -> x = u + norm(y); attention; u' = x + norm(attention).
   * Inputs u, y (B, T, C), pastKeys, pastValues (B, J, P, D), positions (B, T), lastPositions (B), total (1), cos, sin
   * (R, D / 2); results uNext, logits (B, T, E), and keys, values (B, J, T, D) for the cache.
   */
  readonly attend: readonly Part[]
  /** x (N, C) -> y (N, C): `expert(layer, e)`. */
  expert(layer: number, e: number): Part
  /** Present where some experts are of low rank; `expert` has neither those nor the public one then. */
  readonly lowRank?: LowRankParts
  /** (u, y) of the last block (N, C) -> logits (N, V). */
  readonly head: Part
  dispose(): Promise<void>
}

type Matrices = Readonly<Record<string, string>>

const ATTENTION: Matrices = { q: 'q_proj', k: 'k_proj', v: 'v_proj', o: 'o_proj' }
const GAINS: Matrices = {
  qGain: 'self_attn.q_norm',
  kGain: 'self_attn.k_norm',
  outGain: 'post_attention_layernorm',
}

export async function compileServingParts(
  engine: Engine,
  config: ModelConfig,
  params: Params,
  coded: CodedParams | undefined,
  E: number,
  rotaryLength: number,
): Promise<ServingParts> {
  const maker = new PartMaker(engine, params, coded)
  const { numHiddenLayers: L } = config
  try {
    const attend: Part[] = []
    const experts: Part[][] = []
    const lowRank = await makeLowRankParts(maker, config, params, E)
    for (let layer = 0; layer < L; layer++) {
      attend.push(await maker.make('attend', attendSpec(config, rotaryLength, layer)))
      const row: Part[] = []
      for (let e = 0; e < E; e++) {
        if (!lowRank?.experts.has(e)) row[e] = await maker.make('expert', expertSpec(config, layer, e))
      }
      experts.push(row)
    }
    const head = await maker.make('head', headSpec(config))
    return {
      attend,
      expert: (layer, e) => experts[layer]?.[e] as Part,
      ...(lowRank === undefined ? {} : { lowRank }),
      head,
      dispose: () => maker.dispose(),
    }
  } catch (error) {
    await maker.dispose()
    throw error
  }
}

function attendSpec(config: ModelConfig, rotaryLength: number, layer: number) {
  const { hiddenSize: C, numAttentionHeads: H, numKeyValueHeads: J, rmsNormEps } = config
  const D = headSize(config)
  const K = keyValueWidth(config)
  const past = { shape: ['B', J, 'P', D] }
  const table = { shape: [rotaryLength, D / 2], constant: true } as const
  const named = (rest: string): string => layerName(layer, `${rest}.weight`)
  return (bits: Bits | undefined): PartSpec => ({
    fn: (tensors) => {
      const t = (name: string): Tensor => tensors[name] as Tensor
      const linear = product(tensors, bits, (name) => (name === 'k' || name === 'v' ? [K, C] : [C, C]))
      const x = add(t('u'), rmsNorm(t('y'), t('inGain'), rmsNormEps)) // (B, T, C)
      const { mixed, keys, values } = cachedAttention(
        {
          queries: rmsNorm(linear(x, 'q'), t('qGain'), rmsNormEps),
          keys: rmsNorm(linear(x, 'k'), t('kGain'), rmsNormEps),
          values: linear(x, 'v'),
          pastKeys: t('pastKeys'),
          pastValues: t('pastValues'),
          positions: t('positions'),
          lastPositions: t('lastPositions'),
          total: t('total'),
          cos: t('cos'),
          sin: t('sin'),
        },
        { queries: H, keys: J },
      )
      const u = add(x, rmsNorm(linear(mixed, 'o'), t('outGain'), rmsNormEps))
      const logits = matMul(u as never, t('rows') as never, false, true) as Tensor // (B, T, E)
      return { uNext: u, logits, keys, values }
    },
    inputs: {
      u: { shape: ['B', 'T', C] },
      y: { shape: ['B', 'T', C] },
      pastKeys: past,
      pastValues: past,
      positions: { shape: ['B', 'T'], dtype: 'int32' },
      lastPositions: { shape: ['B'], dtype: 'int32' },
      total: { shape: [1], dtype: 'int32' },
      cos: table,
      sin: table,
    },
    matrices: Object.fromEntries(
      Object.entries(ATTENTION).map(([name, of]) => [name, named(`self_attn.${of}`)]),
    ),
    vectors: {
      // The first block follows none: its y is zero, whatever the gain.
      inGain: layerName(Math.max(0, layer - 1), 'post_feedforward_layernorm.weight'),
      ...Object.fromEntries(Object.entries(GAINS).map(([name, of]) => [name, named(of)])),
      rows: routerName(layer),
    },
  })
}

function expertSpec(config: ModelConfig, layer: number, e: number) {
  const { hiddenSize: C, intermediateSize: F } = config
  return (bits: Bits | undefined): PartSpec => ({
    fn: (tensors) => {
      const linear = product(tensors, bits, (name) => (name === 'down_proj' ? [C, F] : [F, C]))
      const x = tensors['x'] as Tensor
      return { y: linear(gated(linear(x, 'gate_proj'), linear(x, 'up_proj')), 'down_proj') }
    },
    inputs: { x: { shape: ['N', C] } },
    matrices: Object.fromEntries(FFN_PROJECTIONS.map((name) => [name, expertName(layer, e, name)])),
    vectors: {},
  })
}

function headSpec(config: ModelConfig) {
  const { hiddenSize: C, vocabSize: V, numHiddenLayers: L, rmsNormEps } = config
  return (bits: Bits | undefined): PartSpec => ({
    fn: (tensors) => {
      const t = (name: string): Tensor => tensors[name] as Tensor
      const linear = product(tensors, bits, () => [V, C])
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
