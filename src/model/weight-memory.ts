/**
 * Memory for the weights of one step of a pass through a model: every read overwrites the weights of the step before,
 * so no more than the largest step is in memory at a time. Does not know what a step computes.
 */
import { countOf, readValues, requireWeight, type Weight, type WeightMap } from './weights.ts'

export class WeightMemory {
  readonly #weights: WeightMap
  #memory = new Float32Array(0)

  constructor(weights: WeightMap) {
    this.#weights = weights
  }

  /** A weight by name. @throws RangeError if it is missing: a bug of the caller. */
  weight(name: string): Weight {
    return requireWeight(this.#weights, name)
  }

  /**
   * Reads whole weights. The arrays are valid until the next read and must not be changed.
   * @param names names of weights by the keys of the result
   * @throws as `WeightSource.read`.
   */
  async read(
    names: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ): Promise<Record<string, Float32Array>> {
    const weights = Object.entries(names).map(([key, name]) => [key, this.weight(name)] as const)
    const sizes = weights.map(([, weight]) => ('data' in weight ? 0 : countOf(weight)))
    this.#reserve(sizes.reduce((a, b) => a + b, 0))
    const arrays: Record<string, Float32Array> = {}
    let used = 0
    for (const [i, [key, weight]] of weights.entries()) {
      if ('data' in weight) arrays[key] = weight.data
      else {
        const array = this.#memory.subarray(used, used + (sizes[i] as number))
        await readValues(weight, array, 0, signal)
        arrays[key] = array
        used += array.length
      }
    }
    return arrays
  }

  /**
   * Reads consecutive rows of a matrix, like `read`.
   * @throws as `WeightSource.read`.
   */
  async readRows(name: string, from: number, count: number, signal?: AbortSignal): Promise<Float32Array> {
    const weight = this.weight(name)
    const width = weight.shape[1] as number
    if ('data' in weight) return weight.data.subarray(from * width, (from + count) * width)
    this.#reserve(count * width)
    const rows = this.#memory.subarray(0, count * width)
    await readValues(weight, rows, from * width, signal)
    return rows
  }

  /** Makes the memory hold at least this number of floats. */
  #reserve(floats: number): void {
    if (this.#memory.length >= floats) return
    this.#memory = new Float32Array(0) // Lets the old memory be freed before more is allocated.
    this.#memory = new Float32Array(floats)
  }
}
