/**
 * Weights that are computed once and read again soon: they lie in one temporary file instead of memory. Knows no format
 * and no model.
 */
import { type FileHandle, open, rm } from 'node:fs/promises'
import { mapDiskErrors, PRIVATE_FILE_MODE } from '../lib/files.ts'
import type { Param, Weight } from '../model/weights.ts'
import { DiskFile, FileWeight } from './file-weight.ts'

export class ScratchWeights {
  readonly #path: string
  readonly #handle: FileHandle
  #size = 0

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  /** Create the file. @throws InputError `disk-full`, `permissions`, `io`. */
  static async create(path: string): Promise<ScratchWeights> {
    return mapDiskErrors(
      path,
      async () => new ScratchWeights(path, await open(path, 'wx', PRIVATE_FILE_MODE)),
    )
  }

  /**
   * Move values to the file, as float32. Call it again only after it has resolved.
   * @returns the weight, which can be read until `remove`. @throws InputError `disk-full`, `io`.
   */
  async add({ shape, data }: Param): Promise<Weight> {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    await mapDiskErrors(this.#path, () => this.#handle.writeFile(bytes))
    const offset = this.#size
    this.#size += bytes.length
    return new FileWeight(new DiskFile(this.#path), {
      name: '',
      dtype: 'F32',
      shape,
      offset,
      length: bytes.length,
    })
  }

  /** Remove the file; its weights cannot be read any more. */
  async remove(): Promise<void> {
    await this.#handle.close()
    await rm(this.#path, { force: true })
  }
}
