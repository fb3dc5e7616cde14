/** An open file of the store, read part by part. Verifies nothing. */
import { type FileHandle, open } from 'node:fs/promises'
import { FormatError } from '../lib/errors.ts'
import { mapDiskErrors } from '../lib/files.ts'

export class BlobReader {
  /** Bytes in the file. */
  readonly size: number
  readonly #path: string
  readonly #handle: FileHandle

  private constructor(path: string, handle: FileHandle, size: number) {
    this.#path = path
    this.#handle = handle
    this.size = size
  }

  /** @throws InputError `not-found`, `permissions`. */
  static async open(path: string): Promise<BlobReader> {
    return mapDiskErrors(path, async () => {
      const handle = await open(path, 'r')
      try {
        return new BlobReader(path, handle, (await handle.stat()).size)
      } catch (error) {
        await handle.close()
        throw error
      }
    })
  }

  /** Part of the file, in a buffer of its own. @throws FormatError `truncated` past the end of the file. */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) {
      throw new FormatError(
        'truncated',
        `blob: expected bytes ${offset} to ${offset + length}, the file has ${this.size}`,
      )
    }
    return mapDiskErrors(this.#path, async () => {
      // The buffer is not zeroed: it is returned only once every byte was read into it.
      const bytes = Buffer.allocUnsafeSlow(length)
      for (let at = 0; at < length; ) {
        signal?.throwIfAborted()
        const { bytesRead } = await this.#handle.read(bytes, at, length - at, offset + at)
        if (bytesRead === 0) throw new FormatError('truncated', 'blob: ended while it was read')
        at += bytesRead
      }
      return bytes
    })
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}
