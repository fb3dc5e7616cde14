/**
 * What serving runs of experts that are the public FFN plus a difference of low rank: the public products, and what
 * is an expert's own. Knows no cache, no tokens and no requests.
 */

import { add, type Tensor } from '@tensorflow/tfjs'
import type { Bits } from '../kernels/quantized.ts'
import { expertName, FACTORS, FFN_PROJECTIONS, factorName, PUBLIC_EXPERT } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { lowRankLinear } from '../model/layers.ts'
import { lowRankExperts, type Params, requireParam } from '../model/params.ts'
import {
  type CompiledLayer,
  type LayerCompiler,
  type LayerSpec,
  matrixProduct,
  swiGlu,
} from './layer-compiler.ts'

/**
 * Experts whose weights are W + B A with the public W: its products, which they share, and what is an expert's own.
 * Factors are fed as floats in every weight format: they are a few percent of the bytes.
 */
export interface LowRankLayers {
  /** Those that have no other part: the public expert and all of low rank. */
  readonly experts: ReadonlySet<number>
  /** x (N, C) -> gate, up (N, F), by the public weights. */
  projections(layer: number): CompiledLayer
  /** gate, up (N, F) -> inner (N, F): what the public expert gives to the last projection. */
  readonly activate: CompiledLayer
  /** The same of an expert of low rank, and what its difference makes of it there: x (N, C), gate, up -> inner, y (N, C). */
  adapt(layer: number, e: number): CompiledLayer
  /** inner (N, F) -> y (N, C), by the public weight. */
  down(layer: number): CompiledLayer
}

/** Nothing where no expert is of low rank. */
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
