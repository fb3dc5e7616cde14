/** An expert as the model uses it, and as tensors under package names: two views of the same memory. */

import {
  biasTensorName,
  factorTensorName,
  ffnTensorName,
  routerTensorName,
  STATISTICS_TOKENS,
} from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import {
  type Expert,
  expertFfn,
  expertRank,
  FACTORS,
  FFN_PROJECTIONS,
  factorShape,
  type Param,
  projectionShape,
} from '../model/params.ts'
import type { ExpertTensor, Float32Tensor } from './safetensors.ts'

const PROJECTIONS = ['gate', 'up', 'down'] as const

/** An expert's tensors under package names; nothing is copied. */
export function tensorsOfExpert(config: ModelConfig, expert: Expert): Map<string, Float32Tensor> {
  const { hiddenSize: C, numHiddenLayers: L } = config
  const rank = expertRank(expert)
  const tensors = new Map<string, Float32Tensor>()
  for (let layer = 0; layer < L; layer++) {
    for (const [i, short] of PROJECTIONS.entries()) {
      const projection = FFN_PROJECTIONS[i] ?? 'gate_proj'
      const key = `${layer}.${projection}`
      if (rank === 0) {
        const { data } = expertFfn(expert, key)
        tensors.set(ffnTensorName(layer, short), { shape: projectionShape(config, projection), data })
        continue
      }
      for (const factor of FACTORS) {
        const { data } = expertFfn(expert, `${key}.${factor}`)
        const shape = factorShape(config, projection, factor, rank)
        tensors.set(factorTensorName(layer, short, factor), { shape, data })
      }
    }
    tensors.set(routerTensorName(layer), { shape: [1, C], data: expert.routerRows[layer] as Float32Array })
    if (expert.bias !== undefined) {
      tensors.set(biasTensorName(layer), { shape: [1], data: expert.bias.subarray(layer, layer + 1) })
    }
  }
  if (expert.statistics !== undefined) {
    const { tokens } = expert.statistics
    tensors.set(STATISTICS_TOKENS, { shape: [tokens.length], data: tokens })
  }
  return tensors
}

/** The inverse, for tensors whose names and shapes were checked; nothing is copied. */
export function expertOfTensors(config: ModelConfig, tensors: ReadonlyMap<string, ExpertTensor>): Expert {
  const L = config.numHiddenLayers
  const isLowRank = tensors.has(factorTensorName(0, 'gate', 'A'))
  const ffn = new Map<string, Param>()
  const routerRows: Float32Array[] = []
  const bias = tensors.has(biasTensorName(0)) ? new Float32Array(L) : undefined
  for (let layer = 0; layer < L; layer++) {
    for (const [i, short] of PROJECTIONS.entries()) {
      const key = `${layer}.${FFN_PROJECTIONS[i]}`
      if (!isLowRank) ffn.set(key, tensors.get(ffnTensorName(layer, short)) as ExpertTensor)
      else
        for (const factor of FACTORS) {
          ffn.set(`${key}.${factor}`, tensors.get(factorTensorName(layer, short, factor)) as ExpertTensor)
        }
    }
    routerRows.push((tensors.get(routerTensorName(layer)) as ExpertTensor).data)
    if (bias !== undefined) bias[layer] = tensors.get(biasTensorName(layer))?.data[0] as number
  }
  const tokens = tensors.get(STATISTICS_TOKENS)?.data
  return { ffn, routerRows, bias, statistics: tokens && { tokens } }
}
