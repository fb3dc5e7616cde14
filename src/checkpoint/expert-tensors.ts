/** Converts between an expert as the model uses it and tensors under package names. Copies no FFN values. */

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
import { type Expert, expertFfn, expertRank, factorShape, projectionShape } from '../model/params.ts'
import { requireWeight, type Weight, type WeightMap, wholeValues } from '../model/weights.ts'

/** An expert's tensors under package names. */
export function tensorsOfExpert(config: ModelConfig, expert: Expert): Map<string, Weight> {
  const { hiddenSize: C, numHiddenLayers: L } = config
  const rank = expertRank(expert)
  const tensors = new Map<string, Weight>()
  for (let layer = 0; layer < L; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const key = `${layer}.${projection}`
      if (rank === 0) {
        const name = expertName(layer, PAIR_EXPERT, projection)
        tensors.set(name, shaped(expertFfn(expert, key), projectionShape(config, projection)))
        continue
      }
      for (const factor of FACTORS) {
        const name = factorName(layer, PAIR_EXPERT, projection, factor)
        const shape = factorShape(config, projection, factor, rank)
        tensors.set(name, shaped(expertFfn(expert, `${key}.${factor}`), shape))
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

/** The weight with the shape that the config demands. @throws RangeError for another shape: a bug of the caller. */
function shaped(weight: Weight, shape: readonly number[]): Weight {
  if (weight.shape.join() !== shape.join()) throw new RangeError(`expected [${shape}], got [${weight.shape}]`)
  return weight
}

/**
 * The inverse of `tensorsOfExpert`, for tensors whose names and shapes were checked. Reads router rows, biases and
 * statistics, which are small; the FFN stays where it is.
 * @throws as `WeightSource.read`.
 */
export async function expertOfTensors(
  config: ModelConfig,
  tensors: WeightMap,
  signal?: AbortSignal,
): Promise<Expert> {
  const L = config.numHiddenLayers
  const isLowRank = tensors.has(factorName(0, PAIR_EXPERT, 'gate_proj', 'A'))
  const ffn = new Map<string, Weight>()
  const routerRows: Float32Array[] = []
  const bias = tensors.has(biasName(0)) ? new Float32Array(L) : undefined
  for (let layer = 0; layer < L; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const key = `${layer}.${projection}`
      if (!isLowRank) ffn.set(key, requireWeight(tensors, expertName(layer, PAIR_EXPERT, projection)))
      else
        for (const factor of FACTORS) {
          const name = factorName(layer, PAIR_EXPERT, projection, factor)
          ffn.set(`${key}.${factor}`, requireWeight(tensors, name))
        }
    }
    routerRows.push(await wholeValues(requireWeight(tensors, routerName(layer)), signal))
    if (bias !== undefined) {
      const [value] = await wholeValues(requireWeight(tensors, biasName(layer)), signal)
      bias[layer] = value as number
    }
  }
  const tokens = tensors.get(STATISTICS_TOKENS)
  return {
    ffn,
    routerRows,
    bias,
    statistics: tokens && { tokens: await wholeValues(tokens, signal) },
  }
}
