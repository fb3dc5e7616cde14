/**
 * Training of a dense public model from scratch: every parameter is trainable.
 * Does not know data or files.
 */

import { type Tensor, zeros } from '@tensorflow/tfjs'
import { denseName } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { publicShapes } from '../model/params.ts'
import { type Compiled, type Engine, sizeOf } from '../tensor/engine.ts'
import { batchInputs, batchTensors, lossAndGradients, lossTerms } from './loss.ts'
import type { Trainables } from './pair.ts'

const INITIAL_STD = 0.02
const CUT_SIGMAS = 3

/**
 * Initial weights: truncated normal with mean 0 and standard deviation 0.02, cut at 3 sigma; norms are 1 (as in
 * OLMo-core).
 * @param random returns numbers in [0, 1).
 */
export function initialPublicModel(config: ModelConfig, random: () => number): Trainables {
  const normal = (): number => {
    for (;;) {
      const value = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
      if (Math.abs(value) <= CUT_SIGMAS) return value * INITIAL_STD
    }
  }
  const params: Trainables = new Map()
  for (const [name, shape] of publicShapes(config)) {
    const values = new Float32Array(sizeOf(shape))
    if (name.includes('norm')) values.fill(1)
    else for (let i = 0; i < values.length; i++) values[i] = normal()
    params.set(name, values)
  }
  return params
}

/** Compile loss and gradients of the dense model for batches [B, T]; inputs and results as in `compilePairStep`. */
export async function compileDenseStep(
  engine: Engine,
  config: ModelConfig,
  B: number,
  T: number,
): Promise<Compiled> {
  const shapes = publicShapes(config)
  const inputs = batchInputs(B, T)
  for (const [name, shape] of shapes) inputs[name] = { shape }
  const init = { B, T, E: 1, topK: 1, bias: false, trainHead: true }
  return engine.compile(
    (tensors) => {
      const trainables = Object.fromEntries([...shapes.keys()].map((name) => [name, tensors[name] as Tensor]))
      return lossAndGradients(trainables, (current) => {
        const weights = (name: string): Tensor =>
          current[denseName(name)] ?? (zeros([1, config.hiddenSize]) as Tensor)
        return lossTerms(config, weights, batchTensors(tensors), init)
      })
    },
    { inputs },
    { lean: true },
  )
}
