/**
 * Reads safetensors files: the header, and tensors as weights that are read part by part. A file is open only while a
 * part is read, so weights hold no file descriptors; opening costs 0.1 ms. Does not know model architectures.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { FormatError } from '../lib/errors.ts'
import { mapDiskErrors, openFile, PIECE_BYTES } from '../lib/files.ts'
import { expandBf16, expandF16, FLOAT_BYTES, type FloatDtype } from '../lib/float-formats.ts'
import type { WeightSource } from '../model/weights.ts'
import {
  LENGTH_BYTES,
  readSafetensorsHeader,
  type SafetensorsLayout,
  safetensorsPrefixLength,
  type TensorLocation,
} from './safetensors.ts'
import type { Dtype } from './safetensors-header.ts'

/** A file that is read part by part. */
export interface PartFile {
  /** For messages. */
  readonly path: string
  /** Bytes in the file. @throws as `read`. */
  size(): Promise<number>
  /**
   * Fill `into` from byte `position` on.
   * @throws FormatError `truncated`; InputError `not-found`, `io`, `permissions`; the signal's reason.
   */
  read(into: Uint8Array, position: number, signal?: AbortSignal): Promise<void>
}

/** A file on disk. Its kind is checked when its size is asked for; its content is not verified. */
export class DiskFile implements PartFile {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  size(): Promise<number> {
    return this.#with(openFile, async (file) => (await file.stat()).size)
  }

  async read(into: Uint8Array, position: number, signal?: AbortSignal): Promise<void> {
    await this.#with(open, async (file) => {
      for (let at = 0; at < into.length; ) {
        signal?.throwIfAborted()
        const length = Math.min(PIECE_BYTES, into.length - at)
        const { bytesRead } = await file.read(into, at, length, position + at)
        if (bytesRead === 0) throw new FormatError('truncated', `${this.path}: ended while it was read`)
        at += bytesRead
      }
    })
  }

  async #with<T>(
    open: (path: string) => Promise<FileHandle>,
    action: (file: FileHandle) => Promise<T>,
  ): Promise<T> {
    return mapDiskErrors(this.path, async () => {
      const file = await open(this.path)
      try {
        return await action(file)
      } finally {
        await file.close()
      }
    })
  }
}

/** One tensor of a file. */
export class FileWeight implements WeightSource {
  readonly shape: readonly number[]
  readonly dtype: FloatDtype
  readonly #file: PartFile
  /** Position of the first value in the file, and size of all, in bytes. */
  readonly #offset: number
  readonly #length: number

  constructor(
    file: PartFile,
    { shape, dtype, offset, length }: TensorLocation & { readonly dtype: FloatDtype },
  ) {
    this.shape = shape
    this.dtype = dtype
    this.#file = file
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
    await this.#file.read(into, this.#offset + from, signal)
  }
}

/** Whether the values of a tensor are floats of a format that weights may have. */
export function isFloat(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'BF16' || dtype === 'F16'
}

/** The header of a safetensors file. @throws FormatError naming the file; InputError as `PartFile.read`. */
export async function readLayout(file: PartFile): Promise<SafetensorsLayout> {
  const { path } = file
  try {
    const size = await file.size()
    const start = new Uint8Array(Math.min(LENGTH_BYTES, size))
    await file.read(start, 0)
    const prefix = new Uint8Array(safetensorsPrefixLength(start, size))
    await file.read(prefix, 0)
    return readSafetensorsHeader(prefix, size)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    throw new FormatError(error.code, `${path}: ${error.message}`, error.fields, error)
  }
}

/** A safetensors file of floats. */
export interface TensorFile {
  readonly tensors: ReadonlyMap<string, FileWeight>
  readonly metadata: ReadonlyMap<string, string>
}

/**
 * The tensors of a file as weights. Only the header is read.
 * @throws FormatError naming the file, `bad-safetensors` for tensors of other types than floats; InputError as `openFile`.
 */
export async function openTensorFile(path: string): Promise<TensorFile> {
  const file = new DiskFile(path)
  const { tensors, metadata } = await readLayout(file)
  const weights = new Map<string, FileWeight>()
  for (const [name, location] of tensors) {
    const { dtype } = location
    if (!isFloat(dtype)) {
      throw new FormatError(
        'bad-safetensors',
        `${path}: tensor ${name.slice(0, 120)} is ${dtype}; expected F32, BF16 or F16`,
      )
    }
    weights.set(name, new FileWeight(file, { ...location, dtype }))
  }
  return { tensors: weights, metadata }
}
