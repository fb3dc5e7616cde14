/**
 * Large buffers to use again: allocating one for every chunk makes the garbage collector walk the whole
 * heap every few chunks. Knows no content.
 */
export class BufferPool {
  readonly #free: Uint8Array[] = []
  readonly #bytes: number
  readonly #kept: number

  /** @param bytes of each buffer. @param kept buffers at most that wait to be used again. */
  constructor(bytes: number, kept: number) {
    this.#bytes = bytes
    this.#kept = kept
  }

  /** A buffer whose content is left over from its last use. */
  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(this.#bytes)
  }

  /** Nobody reads or writes the buffer any more. */
  give(buffer: Uint8Array): void {
    if (this.#free.length < this.#kept) this.#free.push(buffer)
  }
}
