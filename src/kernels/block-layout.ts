/** Hands out addresses in one memory before it is made. Knows nothing of what lies there. */
const ALIGNMENT_BYTES = 64

export class BlockLayout {
  /** What the memory must have in the end. */
  bytes = 0

  /** Address of room for `count` floats or 32-bit integers. */
  reserve(count: number): number {
    const at = this.bytes
    this.bytes = Math.ceil((at + 4 * count) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return at
  }
}
