/** Trained pairs side by side as one mixture, in the ways that the table compares. Knows no routing but rows. */
import type { ModelConfig } from '../../../src/model/config.ts'
import {
  biasName,
  expertName,
  FFN_PROJECTIONS,
  mixtureParams,
  PAIR_EXPERT,
  type Param,
  type Params,
  routerName,
} from '../../../src/model/params.ts'
import { type Trainables, trainableShapes } from '../../../src/training/pair.ts'

export interface RowsInit {
  /** Factor of every row and bias; 0 leaves routing to a gate. */
  readonly scale: number
  /** What becomes of a learned bias. */
  readonly bias: 'carried' | 'dropped'
  /** Added to every guest's logit. */
  readonly shift: number
  readonly publicRows: readonly Float32Array[]
}

/** Public expert first, pairs in the order given. */
export function composePairs(
  config: ModelConfig,
  publicModel: Params,
  pairs: readonly Trainables[],
  { scale, bias, shift, publicRows }: RowsInit,
): Params {
  const shapes = trainableShapes(config)
  const experts = pairs.map((pair) => {
    const ffn = new Map<string, Param>()
    const routerRows: Float32Array[] = []
    const biases = new Float32Array(config.numHiddenLayers)
    for (let layer = 0; layer < config.numHiddenLayers; layer++) {
      for (const projection of FFN_PROJECTIONS) {
        const name = expertName(layer, PAIR_EXPERT, projection)
        const shape = shapes.get(name) as readonly number[]
        ffn.set(`${layer}.${projection}`, { shape, data: pair.get(name) as Float32Array })
      }
      routerRows.push((pair.get(routerName(layer)) as Float32Array).map((x) => scale * x))
      const learned = bias === 'carried' ? Math.min(0, pair.get(biasName(layer))?.[0] as number) : 0
      biases[layer] = scale * learned + shift
    }
    return { ffn, routerRows, bias: biases }
  })
  const scaledPublic = publicRows.map((row) => row.map((x) => scale * x))
  return mixtureParams(config, publicModel, scaledPublic, experts)
}
