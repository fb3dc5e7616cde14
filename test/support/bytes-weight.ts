/** A weight whose bytes are in memory, in any format and of any length. */
import { toFloat32 } from '../../src/checkpoint/safetensors.ts'
import { FLOAT_BYTES, type FloatDtype } from '../../src/lib/float-formats.ts'
import type { WeightSource } from '../../src/model/weights.ts'

export class BytesWeight implements WeightSource {
  readonly dtype: FloatDtype
  readonly shape: readonly number[]
  readonly #bytes: Uint8Array

  constructor(dtype: FloatDtype, shape: readonly number[], bytes: Uint8Array) {
    this.dtype = dtype
    this.shape = shape
    this.#bytes = bytes
  }

  async read(into: Float32Array, from: number): Promise<void> {
    const data = new Uint8Array(into.length * FLOAT_BYTES[this.dtype])
    await this.readBytes(data, from * FLOAT_BYTES[this.dtype])
    into.set(toFloat32({ dtype: this.dtype, data }))
  }

  async readBytes(into: Uint8Array, from: number): Promise<void> {
    into.set(this.#bytes.subarray(from, from + into.length))
  }
}
