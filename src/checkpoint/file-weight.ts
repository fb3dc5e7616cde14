/**
 * Weights that are tensors of safetensors files, read part by part. A file is open only while a part is read, so weights
 * hold no file descriptors. Knows no architecture.
 */
import { open } from 'node:fs/promises'
import { FormatError } from '../lib/errors.ts'
import { mapDiskErrors, PIECE_BYTES } from '../lib/files.ts'
import { expandBf16, expandF16, FLOAT_BYTES, type FloatDtype } from '../lib/float-formats.ts'
import type { WeightSource } from '../model/weights.ts'
import type { TensorLocation } from './safetensors.ts'

/** One tensor of a file. */
export class FileWeight implements WeightSource {
  readonly shape: readonly number[]
  readonly dtype: FloatDtype
  readonly #path: string
  /** Position of the first value in the file, and size of all, in bytes. */
  readonly #offset: number
  readonly #length: number

  constructor(
    path: string,
    { shape, dtype, offset, length }: TensorLocation & { readonly dtype: FloatDtype },
  ) {
    this.shape = shape
    this.dtype = dtype
    this.#path = path
    this.#offset = offset
    this.#length = length
  }

  async read(into: Float32Array, from: number, signal?: AbortSignal): Promise<void> {
    const { dtype } = this
    if (dtype === 'F32') {
      const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength)
      return this.readBytes(bytes, from * FLOAT_BYTES.F32, signal)
    }
    const halves = new Uint16Array(Math.min(into.length, PIECE_BYTES / FLOAT_BYTES[dtype]))
    for (let at = 0; at < into.length; at += halves.length) {
      const part = halves.subarray(0, into.length - at)
      const bytes = new Uint8Array(part.buffer, 0, part.byteLength)
      await this.readBytes(bytes, (from + at) * FLOAT_BYTES[dtype], signal)
      if (dtype === 'BF16') expandBf16(part, into.subarray(at, at + part.length))
      else expandF16(part, into.subarray(at, at + part.length))
    }
  }

  async readBytes(into: Uint8Array, from: number, signal?: AbortSignal): Promise<void> {
    if (!(from >= 0 && from + into.length <= this.#length)) {
      throw new RangeError(`expected bytes within ${this.#length}, got ${from} to ${from + into.length}`)
    }
    await mapDiskErrors(this.#path, async () => {
      const file = await open(this.#path, 'r')
      try {
        for (let at = 0; at < into.length; ) {
          signal?.throwIfAborted()
          const count = Math.min(PIECE_BYTES, into.length - at)
          const { bytesRead } = await file.read(into, at, count, this.#offset + from + at)
          if (bytesRead === 0) {
            throw new FormatError('truncated', `${this.#path}: ended while it was read`)
          }
          at += bytesRead
        }
      } finally {
        await file.close()
      }
    })
  }
}
