/**
 * Chooses how a mixture is served, by its size, the format of its weights and the engine. Reads no weight.
 */
import { factorName, PUBLIC_EXPERT } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { countOf, isInMemory, type WeightMap } from '../model/weights.ts'
import type { WeightFormat } from './weight-format.ts'
import { isHeldFormat } from './weight-plan.ts'

/**
 * - `engine`: the engine reads prompts and decodes, with its own copy of the weights.
 * - `copy`: the engine reads prompts, and the vector kernels decode with a copy of the weights. The fastest way, for
 *   small models.
 * - `held`: the vector kernels decode, and prompts are read from the same weights, which are held once.
 */
export type ServingWay = 'engine' | 'copy' | 'held'

/** Up to this many bytes in fp32, a model is small: a second copy costs less than reading prompts from one copy. */
const SMALL_BYTES = 750e6

/**
 * @param threads number of threads of the vector kernels; 0 for an engine on a GPU, which decodes itself
 */
export function servingWay(
  config: ModelConfig,
  weights: WeightMap,
  format: WeightFormat,
  threads: number,
): ServingWay {
  if (threads === 0 || !isHeldFormat(config, format)) return 'engine'
  // Engines have no products with bf16.
  if (format === 'bf16') return 'held'
  const all = [...weights.values()]
  // Weights that are in memory already, as in tests and benchmarks, are the copy that the engine reads.
  const isSmall =
    all.every(isInMemory) || 4 * all.reduce((sum, weight) => sum + countOf(weight), 0) <= SMALL_BYTES
  return isSmall ? 'copy' : 'held'
}

/** Rank of every expert of a mixture, the public one first; 0 for full rank. */
export function ranksOf(weights: WeightMap, E: number): number[] {
  return Array.from({ length: E }, (_, e) =>
    e === PUBLIC_EXPERT ? 0 : (weights.get(factorName(0, e, 'gate_proj', 'A'))?.shape[0] ?? 0),
  )
}
