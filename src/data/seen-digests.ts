/** A set of digests in little memory: 8 bytes of each, in a hash table with open addressing. Knows nothing about documents. */

const FIRST_SLOTS = 1024

/**
 * The table is at most half full, so a digest takes 16 to 32 bytes. Two of ten million different digests have the same
 * 8 bytes with a probability of 3e-6.
 */
export class SeenDigests {
  /** Two words for each slot; both are 0 in an empty slot. */
  #slots = new Uint32Array(2 * FIRST_SLOTS)
  #size = 0

  /** Add a digest of at least 8 uniformly distributed bytes. @returns false if the set has it already. */
  add(digest: Buffer): boolean {
    // A digest whose first 8 bytes are 0 counts as the one that ends in 1.
    const low = digest.readUInt32BE(0)
    const high = digest.readUInt32BE(4) || (low === 0 ? 1 : 0)
    const slot = this.#find(low, high)
    if (this.#slots[slot] !== 0 || this.#slots[slot + 1] !== 0) return false
    this.#slots[slot] = low
    this.#slots[slot + 1] = high
    this.#size++
    if (4 * this.#size > this.#slots.length) this.#grow()
    return true
  }

  /** Index of the slot with the digest, or of the empty slot where it belongs. */
  #find(low: number, high: number): number {
    const slots = this.#slots
    const mask = slots.length / 2 - 1
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const [first, second] = [slots[2 * slot], slots[2 * slot + 1]]
      if ((first === low && second === high) || (first === 0 && second === 0)) return 2 * slot
    }
  }

  #grow(): void {
    const old = this.#slots
    this.#slots = new Uint32Array(2 * old.length)
    for (let i = 0; i < old.length; i += 2) {
      const [low, high] = [old[i] as number, old[i + 1] as number]
      if (low === 0 && high === 0) continue
      const slot = this.#find(low, high)
      this.#slots[slot] = low
      this.#slots[slot + 1] = high
    }
  }
}
