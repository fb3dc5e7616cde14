/** Converts between an expert as the model uses it and tensors under package names. Copies no values. */

import {
  biasName,
  expertName,
  FACTORS,
  FFN_PROJECTIONS,
  factorName,
  PAIR_EXPERT,
  routerName,
  STATISTICS_TOKENS,
} from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import {
  type Expert,
  expertFfn,
  expertRank,
  factorShape,
  type Param,
  projectionShape,
} from '../model/params.ts'
import type { ExpertTensor, Float32Tensor } from './safetensors.ts'

/** An expert's tensors under package names, as views. */
export function tensorsOfExpert(config: ModelConfig, expert: Expert): Map<string, Float32Tensor> {
  const { hiddenSize: C, numHiddenLayers: L } = config
  const rank = expertRank(expert)
  const tensors = new Map<string, Float32Tensor>()
  for (let layer = 0; layer < L; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const key = `${layer}.${projection}`
      if (rank === 0) {
        const { data } = expertFfn(expert, key)
        tensors.set(expertName(layer, PAIR_EXPERT, projection), {
          shape: projectionShape(config, projection),
          data,
        })
        continue
      }
      for (const factor of FACTORS) {
        const { data } = expertFfn(expert, `${key}.${factor}`)
        const shape = factorShape(config, projection, factor, rank)
        tensors.set(factorName(layer, PAIR_EXPERT, projection, factor), { shape, data })
      }
    }
    tensors.set(routerName(layer), { shape: [1, C], data: expert.routerRows[layer] as Float32Array })
    if (expert.bias !== undefined) {
      tensors.set(biasName(layer), { shape: [1], data: expert.bias.subarray(layer, layer + 1) })
    }
  }
  if (expert.statistics !== undefined) {
    const { tokens } = expert.statistics
    tensors.set(STATISTICS_TOKENS, { shape: [tokens.length], data: tokens })
  }
  return tensors
}

/** The inverse of `tensorsOfExpert`, for tensors whose names and shapes were checked. All but the bias are views. */
export function expertOfTensors(config: ModelConfig, tensors: ReadonlyMap<string, ExpertTensor>): Expert {
  const L = config.numHiddenLayers
  const isLowRank = tensors.has(factorName(0, PAIR_EXPERT, 'gate_proj', 'A'))
  const ffn = new Map<string, Param>()
  const routerRows: Float32Array[] = []
  const bias = tensors.has(biasName(0)) ? new Float32Array(L) : undefined
  for (let layer = 0; layer < L; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const key = `${layer}.${projection}`
      if (!isLowRank) ffn.set(key, tensors.get(expertName(layer, PAIR_EXPERT, projection)) as ExpertTensor)
      else
        for (const factor of FACTORS) {
          ffn.set(
            `${key}.${factor}`,
            tensors.get(factorName(layer, PAIR_EXPERT, projection, factor)) as ExpertTensor,
          )
        }
    }
    routerRows.push((tensors.get(routerName(layer)) as ExpertTensor).data)
    if (bias !== undefined) bias[layer] = tensors.get(biasName(layer))?.data[0] as number
  }
  const tokens = tensors.get(STATISTICS_TOKENS)?.data
  return { ffn, routerRows, bias, statistics: tokens && { tokens } }
}
