/**
 * Quantizes the matrices of a model, each once for all its users. Does not know kernels or graphs.
 */

import { type Bits, type QuantizedMatrix, quantize } from '../kernels/quantized.ts'
import { requireParam } from '../model/params.ts'
import type { Params } from '../model/weights.ts'

/** Quantized copies of parameters. */
export class QuantizedParams {
  readonly bits: Bits
  readonly #params: Params
  readonly #matrices = new Map<string, QuantizedMatrix>()

  constructor(params: Params, bits: Bits) {
    this.#params = params
    this.bits = bits
  }

  /**
   * The parameter `name` [O, I], quantized at its first use.
   * @throws RangeError if it is missing: a bug of the caller.
   */
  of(name: string): QuantizedMatrix {
    let matrix = this.#matrices.get(name)
    if (matrix === undefined) {
      const { data, shape } = requireParam(this.#params, name)
      matrix = quantize(data, shape[0] as number, shape[1] as number, this.bits)
      this.#matrices.set(name, matrix)
    }
    return matrix
  }
}
