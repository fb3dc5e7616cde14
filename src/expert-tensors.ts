/** An expert as the model uses it, and as tensors under package names: two views of the same memory. */
import type { ModelConfig } from './model/config.ts'
import { type Expert, FFN_PROJECTIONS, type Param } from './model/params.ts'
import type { ExpertTensor, Float32Tensor } from './packaging/package.ts'
import {
  biasTensorName,
  ffnTensorName,
  routerTensorName,
  STATISTICS_MEAN,
  STATISTICS_SECOND,
} from './packaging/tensor-names.ts'

const PROJECTIONS = ['gate', 'up', 'down'] as const

/** An expert's tensors under package names; nothing is copied. */
export function tensorsOfExpert(config: ModelConfig, expert: Expert): Map<string, Float32Tensor> {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
  const tensors = new Map<string, Float32Tensor>()
  for (let layer = 0; layer < L; layer++) {
    for (const projection of PROJECTIONS) {
      const data = expert.ffn.get(`${layer}.${projection}_proj`)?.data as Float32Array
      tensors.set(ffnTensorName(layer, projection), { shape: projection === 'down' ? [C, F] : [F, C], data })
    }
    tensors.set(routerTensorName(layer), { shape: [1, C], data: expert.routerRows[layer] as Float32Array })
    if (expert.bias !== undefined) {
      tensors.set(biasTensorName(layer), { shape: [1], data: expert.bias.subarray(layer, layer + 1) })
    }
  }
  if (expert.statistics !== undefined) {
    const { second, mean } = expert.statistics
    tensors.set(STATISTICS_SECOND, { shape: [second.length], data: second })
    tensors.set(STATISTICS_MEAN, { shape: [mean.length], data: mean })
  }
  return tensors
}

/** The inverse, for tensors whose names and shapes were checked; nothing is copied. */
export function expertOfTensors(config: ModelConfig, tensors: ReadonlyMap<string, ExpertTensor>): Expert {
  const L = config.numHiddenLayers
  const ffn = new Map<string, Param>()
  const routerRows: Float32Array[] = []
  const bias = tensors.has(biasTensorName(0)) ? new Float32Array(L) : undefined
  for (let layer = 0; layer < L; layer++) {
    for (const [i, projection] of PROJECTIONS.entries()) {
      const tensor = tensors.get(ffnTensorName(layer, projection)) as ExpertTensor
      ffn.set(`${layer}.${FFN_PROJECTIONS[i]}`, tensor)
    }
    routerRows.push((tensors.get(routerTensorName(layer)) as ExpertTensor).data)
    if (bias !== undefined) bias[layer] = tensors.get(biasTensorName(layer))?.data[0] as number
  }
  const second = tensors.get(STATISTICS_SECOND)?.data
  const mean = tensors.get(STATISTICS_MEAN)?.data
  const statistics = second === undefined || mean === undefined ? undefined : { second, mean }
  return { ffn, routerRows, bias, statistics }
}
