/**
 * Chooses the format in which serving holds weights: the most precise one that fits the memory budget, or the one that
 * the user named. Computes sizes from shapes; reads no weight.
 */
import { InputError } from '../lib/errors.ts'
import { gigabytes } from '../lib/memory.ts'
import type { ModelConfig } from '../model/config.ts'
import { countOf, dtypeOf, type WeightMap } from '../model/weights.ts'
import { keysValuesBytes } from './kv-cache.ts'
import { ranksOf, type ServingWay, servingWay } from './serving-way.ts'
import { bitsOf, WEIGHT_FORMATS, type WeightChoice, type WeightFormat } from './weight-format.ts'
import { heldWeightBytes, isHeldFormat } from './weight-plan.ts'

export interface ServedMixture {
  readonly config: ModelConfig
  readonly weights: WeightMap
  /** Number of experts, the public one included. */
  readonly E: number
  /** Number of threads of the vector kernels; 0 if the engine decodes. */
  readonly threads: number
}

export interface ServingFormat {
  readonly format: WeightFormat
  readonly way: ServingWay
  /** Bytes of the weights in memory. */
  readonly bytes: number
  /** Bytes that remain of the budget for keys and values; enough for one sequence. */
  readonly keysValuesBytes: number
  /** Which format and why, for people. */
  readonly reason: string
}

/** Memory of a process that serves a model that is not small, without its weights, keys and values. */
const BASE_BYTES = 400e6
/** Up to this many bytes of weights, the memory of the process itself is not counted. */
const SMALL_BYTES = 1e9
/** Positions for which there must be space for keys and values. */
const MIN_POSITIONS = 4096

/**
 * @param budget bytes that serving may take
 * @throws InputError `out-of-memory` if the named format does not fit the budget, or none does; `usage` for a format
 * that the model or the engine does not support.
 */
export function chooseFormat(mixture: ServedMixture, choice: WeightChoice, budget: number): ServingFormat {
  const candidates = WEIGHT_FORMATS.filter((format) => isSupported(mixture, format)).map((format) => {
    const way = servingWay(mixture.config, mixture.weights, format, mixture.threads)
    const bytes = weightBytes(mixture, format, way)
    const keysValues = leastKeysValues(mixture.config)
    const needed = bytes + keysValues + (bytes > SMALL_BYTES ? BASE_BYTES : 0)
    return { format, way, bytes, needed, keysValuesBytes: keysValues + Math.max(0, budget - needed) }
  })
  const sizes = candidates.map(({ format, needed }) => `${format} ${gigabytes(needed)}`).join(', ')
  const limits = `the memory budget is ${gigabytes(budget)}`
  if (choice !== 'auto') {
    const named = candidates.find(({ format }) => format === choice)
    if (named === undefined) {
      throw new InputError(
        'usage',
        `--weights ${choice}: this model or engine supports only ${candidates.map(({ format }) => format).join(', ')}`,
      )
    }
    if (named.needed > budget) {
      throw new InputError(
        'out-of-memory',
        `--weights ${choice}: this composition takes ${gigabytes(named.needed)}, and ${limits} (${sizes}); choose a smaller format, --weights auto or a larger --memory`,
        { budget, needed: named.needed },
      )
    }
    return { ...named, reason: `weights in ${choice}, ${gigabytes(named.bytes)}, as asked` }
  }
  const [first, ...others] = candidates as [Candidate, ...Candidate[]]
  // An engine on a GPU keeps weights in the memory of the GPU, which the budget does not describe.
  if (first.way === 'copy' || mixture.threads === 0) {
    return { ...first, reason: `weights in ${first.format}, ${gigabytes(first.bytes)}` }
  }
  // In fp32, published bf16 weights would take twice the memory and hold the same numbers.
  const precise = isPublishedInBf16(mixture.weights) && first.format === 'fp32' ? others : candidates
  const index = precise.findIndex(({ needed }) => needed <= budget)
  const chosen = precise[index]
  if (chosen === undefined) {
    throw new InputError(
      'out-of-memory',
      `this composition fits no format: ${limits} (${sizes}); give a larger --memory, or leave out experts`,
      { budget },
    )
  }
  const larger = precise[index - 1]
  const why =
    larger === undefined
      ? `its ${gigabytes(chosen.needed)} fit, and ${limits}`
      : `${larger.format} would take ${gigabytes(larger.needed)}, and ${limits}`
  return { ...chosen, reason: `weights in ${chosen.format}, ${gigabytes(chosen.bytes)}: ${why}` }
}

interface Candidate extends Omit<ServingFormat, 'reason'> {
  readonly needed: number
}

function isSupported({ config, threads }: ServedMixture, format: WeightFormat): boolean {
  return (threads > 0 && isHeldFormat(config, format)) || format !== 'bf16'
}

function weightBytes(mixture: ServedMixture, format: WeightFormat, way: ServingWay): number {
  const { config, weights, E } = mixture
  const floats = 4 * [...weights.values()].reduce((sum, weight) => sum + countOf(weight), 0)
  const held = heldWeightBytes({ config, ranks: ranksOf(weights, E) }, format)
  if (way === 'held') return held
  if (way === 'copy') return floats + (format === 'fp32' ? floats : 2 * held)
  // The engine codes from floats, and keeps its own copy of the codes.
  const bits = bitsOf(format)
  return bits === undefined ? floats : floats * (1 + (2 * bits) / 32)
}

/** Bytes of the keys and values for which there must be space. */
function leastKeysValues(config: ModelConfig): number {
  return keysValuesBytes(config, Math.min(MIN_POSITIONS, config.maxPositionEmbeddings))
}

function isPublishedInBf16(weights: WeightMap): boolean {
  let [published, all] = [0, 0]
  for (const weight of weights.values()) {
    const count = countOf(weight)
    all += count
    if (dtypeOf(weight) === 'BF16') published += count
  }
  return published > 0.95 * all
}
