/** Matrices of a model in codes, each made once for all that read it. Knows no kernel and no graph. */

import { type Bits, type QuantizedMatrix, quantize } from '../kernels/quantized.ts'
import { type Params, requireParam } from '../model/params.ts'

export class QuantizedParams {
  readonly bits: Bits
  readonly #params: Params
  readonly #made = new Map<string, QuantizedMatrix>()

  constructor(params: Params, bits: Bits) {
    this.#params = params
    this.bits = bits
  }

  of(name: string): QuantizedMatrix {
    let made = this.#made.get(name)
    if (made === undefined) {
      const { data, shape } = requireParam(this.#params, name)
      made = quantize(data, shape[0] as number, shape[1] as number, this.bits)
      this.#made.set(name, made)
    }
    return made
  }
}
