/**
 * A weight as a file in another format holds it: its values are rounded when they are read, by the same code that
 * writes such a file. Does not know what the weight belongs to.
 */
import { PIECE_BYTES } from '../lib/files.ts'
import { FLOAT_BYTES, type FloatDtype } from '../lib/float-formats.ts'
import { dtypeOf, readValues, type Weight, type WeightSource } from '../model/weights.ts'
import { fromFloat32, toFloat32 } from './safetensors.ts'

/** The weight in format `dtype`; the weight itself if it has this format. */
export function roundedWeight(weight: Weight, dtype: FloatDtype): Weight {
  return dtypeOf(weight) === dtype ? weight : new RoundedWeight(weight, dtype)
}

class RoundedWeight implements WeightSource {
  readonly shape: readonly number[]
  readonly dtype: FloatDtype
  readonly #weight: Weight

  constructor(weight: Weight, dtype: FloatDtype) {
    this.shape = weight.shape
    this.dtype = dtype
    this.#weight = weight
  }

  async read(into: Float32Array, from: number, signal?: AbortSignal): Promise<void> {
    await readValues(this.#weight, into, from, signal)
    const pieceValues = PIECE_BYTES / FLOAT_BYTES.F32
    for (let at = 0; at < into.length; at += pieceValues) {
      const piece = into.subarray(at, at + pieceValues)
      piece.set(toFloat32({ dtype: this.dtype, data: fromFloat32(piece, this.dtype) }))
    }
  }

  async readBytes(into: Uint8Array, from: number, signal?: AbortSignal): Promise<void> {
    const size = FLOAT_BYTES[this.dtype]
    const values = new Float32Array(into.length / size)
    await readValues(this.#weight, values, from / size, signal)
    into.set(fromFloat32(values, this.dtype))
  }
}
