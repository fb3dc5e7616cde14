/**
 * Quantizes the matrices of a model, each once for all its users. Does not know kernels or graphs.
 */

import { type Bits, type QuantizedMatrix, quantize } from '../kernels/quantized.ts'
import { requireParam } from '../model/params.ts'
import type { Params } from '../model/weights.ts'
import { bitsOf } from './weight-format.ts'
import { vocabularyFormat } from './weight-plan.ts'

const HEAD = 'lm_head.weight'

/** Quantized copies of parameters. */
export class QuantizedParams {
  readonly bits: Bits
  /** Bits of the head: as in weight-plan.ts, so that prompts and decoding have the same logits. */
  readonly headBits: Bits
  readonly #params: Params
  readonly #matrices = new Map<string, QuantizedMatrix>()

  constructor(params: Params, bits: Bits) {
    this.#params = params
    this.bits = bits
    this.headBits = bitsOf(vocabularyFormat(bits === 8 ? 'int8' : 'int4')) as Bits
  }

  /**
   * The parameter `name` [O, I], quantized at its first use.
   * @throws RangeError if it is missing: a bug of the caller.
   */
  of(name: string): QuantizedMatrix {
    let matrix = this.#matrices.get(name)
    if (matrix === undefined) {
      const { data, shape } = requireParam(this.#params, name)
      matrix = quantize(
        data,
        shape[0] as number,
        shape[1] as number,
        name === HEAD ? this.headBits : this.bits,
      )
      this.#matrices.set(name, matrix)
    }
    return matrix
  }
}
