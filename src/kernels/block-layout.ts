/** Reserves aligned addresses in one block of memory before it is allocated. Does not know what is stored there. */
const ALIGNMENT_BYTES = 64

export class BlockLayout {
  /** Size that the memory must have, after all reservations. */
  bytes = 0

  /** Reserves space for `count` floats or 32-bit integers. @returns its byte offset in the memory. */
  reserve(count: number): number {
    return this.reserveBytes(4 * count)
  }

  /** Reserves space for `bytes` bytes. @returns its byte offset in the memory. */
  reserveBytes(bytes: number): number {
    const at = this.bytes
    this.bytes = Math.ceil((at + bytes) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return at
  }
}
