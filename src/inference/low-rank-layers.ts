/**
 * Compiles the layers of experts that are the public FFN plus a low-rank difference: the products with public weights,
 * which these experts share, and the products with each expert's factors. Does not know caches, tokens or requests.
 */

import { add, type Tensor } from '@tensorflow/tfjs-core'
import type { Bits } from '../kernels/quantized.ts'
import { expertName, FACTORS, FFN_PROJECTIONS, factorName, PUBLIC_EXPERT } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { lowRankLinear } from '../model/layers.ts'
import { lowRankExperts, requireParam } from '../model/params.ts'
import type { Params } from '../model/weights.ts'
import {
  type CompiledLayer,
  type LayerCompiler,
  type LayerSpec,
  matrixProduct,
  swiGlu,
} from './layer-compiler.ts'

/**
 * Layers of the experts with weights W + B A, where W is public. Factors are floats in every weight format, because
 * they are only a few percent of the bytes.
 */
export interface LowRankLayers {
  /** Experts that these layers compute: the public one and all low-rank ones. */
  readonly experts: ReadonlySet<number>
  /** x (N, C) -> gate and up (N, F), products with the public weights. */
  projections(layer: number): CompiledLayer
  /** gate and up (N, F) -> inner (N, F): input of the public expert's down projection. */
  readonly activate: CompiledLayer
  /**
   * x (N, C), gate and up (N, F) of the public expert -> inner (N, F), the input of the expert's down projection, and
   * y (N, C), the product of inner with the expert's own difference in that projection.
   */
  adapt(layer: number, e: number): CompiledLayer
  /** inner (N, F) -> y (N, C), product with the public weight of the down projection. */
  down(layer: number): CompiledLayer
}

/** Compiles the layers. @returns undefined if no expert has low rank. */
export async function compileLowRankLayers(
  compiler: LayerCompiler,
  config: ModelConfig,
  params: Params,
  E: number,
): Promise<LowRankLayers | undefined> {
  const guests = lowRankExperts(params, E)
  if (guests.size === 0) return undefined
  const projections: CompiledLayer[] = []
  const down: CompiledLayer[] = []
  const adapted: CompiledLayer[][] = []
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    projections.push(await compiler.compile('projections', projectionsSpec(config, layer)))
    down.push(await compiler.compile('down', downSpec(config, layer)))
    const row: CompiledLayer[] = []
    for (const e of guests) {
      const rank = requireParam(params, factorName(layer, e, 'gate_proj', 'A')).shape[0]
      row[e] = await compiler.compile(`adapt ${rank}`, adaptSpec(config, layer, e))
    }
    adapted.push(row)
  }
  return {
    experts: new Set([PUBLIC_EXPERT, ...guests]),
    projections: (layer) => projections[layer] as CompiledLayer,
    activate: await compiler.compile('activate', activateSpec(config)),
    adapt: (layer, e) => adapted[layer]?.[e] as CompiledLayer,
    down: (layer) => down[layer] as CompiledLayer,
  }
}

function projectionsSpec({ hiddenSize: C, intermediateSize: F }: ModelConfig, layer: number) {
  return (bits: Bits | undefined): LayerSpec => ({
    fn: (tensors) => {
      const linear = matrixProduct(tensors, bits, () => [F, C])
      const x = tensors['x'] as Tensor
      return { gate: linear(x, 'gate_proj'), up: linear(x, 'up_proj') }
    },
    inputs: { x: { shape: ['N', C] } },
    matrices: {
      gate_proj: expertName(layer, PUBLIC_EXPERT, 'gate_proj'),
      up_proj: expertName(layer, PUBLIC_EXPERT, 'up_proj'),
    },
    vectors: {},
  })
}

function downSpec({ hiddenSize: C, intermediateSize: F }: ModelConfig, layer: number) {
  return (bits: Bits | undefined): LayerSpec => ({
    fn: (tensors) => ({
      y: matrixProduct(tensors, bits, () => [C, F])(tensors['inner'] as Tensor, 'down_proj'),
    }),
    inputs: { inner: { shape: ['N', F] } },
    matrices: { down_proj: expertName(layer, PUBLIC_EXPERT, 'down_proj') },
    vectors: {},
  })
}

function activateSpec({ intermediateSize: F }: ModelConfig) {
  return (): LayerSpec => ({
    fn: (tensors) => ({ inner: swiGlu(tensors['gate'] as Tensor, tensors['up'] as Tensor) }),
    inputs: { gate: { shape: ['N', F] }, up: { shape: ['N', F] } },
    matrices: {},
    vectors: {},
  })
}

function adaptSpec({ hiddenSize: C, intermediateSize: F }: ModelConfig, layer: number, e: number) {
  return (): LayerSpec => ({
    fn: (tensors) => {
      const t = (name: string): Tensor => tensors[name] as Tensor
      const own = (x: Tensor, name: string): Tensor =>
        lowRankLinear(x, { A: t(`${name}.A`), B: t(`${name}.B`) })
      const x = t('x')
      const inner = swiGlu(add(t('gate'), own(x, 'gate_proj')), add(t('up'), own(x, 'up_proj')))
      return { inner, y: own(inner, 'down_proj') }
    },
    inputs: { x: { shape: ['N', C] }, gate: { shape: ['N', F] }, up: { shape: ['N', F] } },
    matrices: {},
    vectors: Object.fromEntries(
      FFN_PROJECTIONS.flatMap((name) =>
        FACTORS.map((factor) => [`${name}.${factor}`, factorName(layer, e, name, factor)]),
      ),
    ),
  })
}
