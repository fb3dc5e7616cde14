/**
 * Byte-pair encoding of one piece of text: joins the pair of neighbouring tokens with the lowest rank until no pair has
 * one. A heap of pairs makes the time n log n in the length of the piece. Source: Sennrich et al. 2016, section 3.2, with
 * the order of Hugging Face's library. Knows nothing about pre-tokenizers and added tokens.
 */

/** A pair of tokens that is joined, in the order of the ranks. */
export interface Merge {
  readonly left: number
  readonly right: number
  /** Id of the token of both. */
  readonly id: number
}

/** Multiplier of ranks and ids in keys: ids are below 2^24, and positions below 2^29. */
const POSITIONS = 2 ** 29
const IDS = 2 ** 24
/** Maximum number of pieces whose tokens are remembered, and their maximum number of bytes. */
const CACHED_PIECES = 20_000
const CACHED_BYTES = 64

export class BytePairEncoding {
  /** Token id of each byte. */
  readonly #byteIds: Int32Array
  readonly #mergedIds: Int32Array
  /** Ranks by pair. */
  readonly #ranks: PairTable
  /** Tokens of recent pieces. */
  readonly #cache = new Map<string, Int32Array>()
  /** Ids of whole pieces that are not split further. */
  readonly #whole: ReadonlyMap<string, number>

  /**
   * @param byteIds (256)
   * @param merges by rank; a later merge of the same pair replaces an earlier one
   * @param whole pieces that are one token whatever the merges
   */
  constructor(byteIds: Int32Array, merges: readonly Merge[], whole: ReadonlyMap<string, number>) {
    this.#byteIds = byteIds
    this.#mergedIds = Int32Array.from(merges, ({ id }) => id)
    this.#ranks = new PairTable(merges)
    this.#whole = whole
  }

  /** Appends the tokens of a piece to `ids`. */
  encode(piece: string, ids: number[]): void {
    const whole = this.#whole.get(piece)
    if (whole !== undefined) {
      ids.push(whole)
      return
    }
    let found = this.#cache.get(piece)
    if (found === undefined) {
      const bytes = Buffer.from(piece)
      found = this.#merge(bytes)
      if (bytes.length <= CACHED_BYTES) {
        if (this.#cache.size >= CACHED_PIECES) this.#cache.clear()
        this.#cache.set(piece, found)
      }
    }
    for (const id of found) ids.push(id)
  }

  #merge(bytes: Uint8Array): Int32Array {
    const n = bytes.length
    const ids = Int32Array.from(bytes, (byte) => this.#byteIds[byte] as number)
    // Positions of the neighbours of each token; n marks the end, and a joined right token gets the id -1.
    const next = Int32Array.from(ids, (_, i) => i + 1)
    const previous = Int32Array.from(ids, (_, i) => i - 1)
    const heap = new Heap()
    const offer = (position: number): void => {
      if (position < 0) return
      const right = next[position] as number
      if (right >= n) return
      const rank = this.#ranks.get(ids[position] as number, ids[right] as number)
      if (rank >= 0) heap.push(rank * POSITIONS + position)
    }
    for (let i = 0; i + 1 < n; i++) offer(i)
    let count = n
    for (let key = heap.pop(); key !== undefined; key = heap.pop()) {
      const position = key % POSITIONS
      const id = this.#mergedIds[(key - position) / POSITIONS] as number
      const left = ids[position] as number
      const right = next[position] as number
      if (left < 0 || right >= n) continue
      // The pair may have changed since it was added. Like the library, compare the results and not the ranks.
      const rank = this.#ranks.get(left, ids[right] as number)
      if (rank < 0 || this.#mergedIds[rank] !== id) continue
      ids[position] = id
      ids[right] = -1
      const after = next[right] as number
      next[position] = after
      if (after < n) previous[after] = position
      count--
      offer(previous[position] as number)
      offer(position)
    }
    const result = new Int32Array(count)
    for (let i = 0, position = 0; position < n; position = next[position] as number)
      result[i++] = ids[position] as number
    return result
  }
}

/** Ranks by pair of ids, in an open-addressed hash table: a Map would take several times the memory. */
class PairTable {
  readonly #keys: Float64Array
  readonly #ranks: Int32Array
  readonly #mask: number

  constructor(merges: readonly Merge[]) {
    let size = 16
    while (size < merges.length * 2) size *= 2
    this.#mask = size - 1
    this.#keys = new Float64Array(size).fill(-1)
    this.#ranks = new Int32Array(size)
    merges.forEach(({ left, right }, rank) => {
      const slot = this.#slot(left, right)
      this.#keys[slot] = left * IDS + right
      this.#ranks[slot] = rank
    })
  }

  /** Rank of a pair; -1 if it is never joined. */
  get(left: number, right: number): number {
    const slot = this.#slot(left, right)
    return (this.#keys[slot] as number) < 0 ? -1 : (this.#ranks[slot] as number)
  }

  /** Slot of the pair, or the free one where it belongs. */
  #slot(left: number, right: number): number {
    const key = left * IDS + right
    let slot = (Math.imul(left, 0x9e37_79b1) ^ Math.imul(right, 0x85eb_ca6b)) >>> 7
    for (slot &= this.#mask; ; slot = (slot + 1) & this.#mask) {
      const found = this.#keys[slot] as number
      if (found === key || found < 0) return slot
    }
  }
}

/** A binary heap of numbers, the smallest first. */
class Heap {
  #values = new Float64Array(64)
  #size = 0

  push(value: number): void {
    if (this.#size === this.#values.length) {
      const grown = new Float64Array(2 * this.#size)
      grown.set(this.#values)
      this.#values = grown
    }
    const values = this.#values
    let at = this.#size++
    while (at > 0) {
      const parent = (at - 1) >> 1
      if ((values[parent] as number) <= value) break
      values[at] = values[parent] as number
      at = parent
    }
    values[at] = value
  }

  pop(): number | undefined {
    if (this.#size === 0) return undefined
    const values = this.#values
    const least = values[0] as number
    const value = values[--this.#size] as number
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= this.#size) break
      if (child + 1 < this.#size && (values[child + 1] as number) < (values[child] as number)) child++
      if ((values[child] as number) >= value) break
      values[at] = values[child] as number
      at = child
    }
    values[at] = value
    return least
  }
}
