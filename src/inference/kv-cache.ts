/**
 * Key-value cache of the active sequences, in the layout that attention reads, with the sums of their gates. Slots in
 * use are always the first ones, so one run serves any number of them. Capacity grows by doubling, so memory follows
 * the actual use and not the longest context. It grows layer by layer, so two copies exist of only one layer, and the
 * event loop gets a turn after each. Does not know tokens or engines.
 */
import { setImmediate } from 'node:timers/promises'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'

/** Initial capacity of a slot, in positions. */
const FIRST_POSITIONS = 128
/** Copying more than this many bytes gives the event loop a turn after each layer. */
const LONG_COPY_BYTES = 2 ** 24

/**
 * A copy of the first positions of one sequence: keys and values by layer, each [H, length, D] with H heads of keys and
 * values, and the gate sums [length, E].
 */
export interface KvPrefix {
  readonly length: number
  readonly keys: readonly Float32Array[]
  readonly values: readonly Float32Array[]
  readonly gateSums: Float32Array
}

/** Provides the memory of a cache. */
export interface KvMemory {
  /**
   * Allocates zeros for the keys and values of one layer, in place of an earlier allocation for that layer, which
   * will not be used any more.
   * @param positions capacity of each sequence
   */
  allocate(layer: number, floats: number, positions: number): Float32Array
}

/** Ordinary arrays. */
const OWN_MEMORY: KvMemory = { allocate: (_layer, floats) => new Float32Array(floats) }

export class KvCache {
  readonly #memory: KvMemory
  readonly #L: number
  readonly #H: number
  readonly #D: number
  readonly #E: number
  readonly #maxSlots: number
  readonly #maxPositions: number
  #slots = 1
  #positions: number
  /** By layer: [slots, H, positions, D]. */
  readonly #keys: Float32Array[]
  readonly #values: Float32Array[]
  /** [slots, positions, E]: the sums that `gateToken` reads and writes. */
  #gateSums: Float32Array
  /**
   * Views by their arguments: engines recognise an array that they have seen before, so equal views must be one
   * array.
   */
  #views = new Map<string, Float32Array>()

  /**
   * @param E number of experts
   * @param maxSlots maximum number of sequences
   * @param maxPositions maximum number of positions of a sequence
   */
  constructor(
    config: ModelConfig,
    E: number,
    maxSlots: number,
    maxPositions: number,
    memory: KvMemory = OWN_MEMORY,
  ) {
    this.#memory = memory
    this.#L = config.numHiddenLayers
    this.#H = config.numKeyValueHeads
    this.#D = headSize(config)
    this.#E = E
    this.#maxSlots = maxSlots
    this.#maxPositions = maxPositions
    this.#positions = Math.min(FIRST_POSITIONS, maxPositions)
    const first = { slots: this.#slots, positions: this.#positions }
    const layers = Array.from({ length: this.#L }, (_, layer) => this.#allocate(layer, first))
    this.#keys = layers.map(({ keys }) => keys)
    this.#values = layers.map(({ values }) => values)
    this.#gateSums = new Float32Array(this.#slots * this.#positions * E)
  }

  /** Capacity of every slot, in positions. */
  get positions(): number {
    return this.#positions
  }

  /** Keys of `count` slots, starting at `slot`, as a view (count, H, positions, D). */
  keys(layer: number, slot: number, count: number): Float32Array {
    return this.#view(this.#keys, 'k', layer, slot, count)
  }

  /** Values of the same shape. */
  values(layer: number, slot: number, count: number): Float32Array {
    return this.#view(this.#values, 'v', layer, slot, count)
  }

  /** Gate sums of one slot, as a writable view (positions, E). */
  gateSums(slot: number): Float32Array {
    const width = this.#positions * this.#E
    return this.#gateSums.subarray(slot * width, (slot + 1) * width)
  }

  /**
   * Appends the keys and values of T new tokens, (B, H, T, D) each, to the B slots that start at `slot`.
   * @param lengths number of positions that each of these slots holds already, length B
   */
  write(
    layer: number,
    slot: number,
    lengths: readonly number[],
    T: number,
    keys: Float32Array,
    values: Float32Array,
  ): void {
    this.#append(this.#keys[layer] as Float32Array, slot, lengths, T, keys)
    this.#append(this.#values[layer] as Float32Array, slot, lengths, T, values)
  }

  #append(
    cache: Float32Array,
    slot: number,
    lengths: readonly number[],
    T: number,
    fresh: Float32Array,
  ): void {
    const width = T * this.#D
    let from = 0
    lengths.forEach((length, b) => {
      for (let h = 0; h < this.#H; h++) {
        const to = (((slot + b) * this.#H + h) * this.#positions + length) * this.#D
        // For one position, creating a view would cost more than the loop.
        if (T === 1) for (let d = 0; d < width; d++) cache[to + d] = fresh[from + d] as number
        else cache.set(fresh.subarray(from, from + width), to)
        from += width
      }
    })
  }

  /** Bytes of the keys and values of one position. */
  get positionBytes(): number {
    return 4 * 2 * this.#L * this.#H * this.#D
  }

  /**
   * Grows the cache, if necessary, to the given numbers of slots and positions. Keeps its content. Nothing else may use
   * the cache meanwhile.
   * @param maxBytes the cache is not doubled beyond this size, but grows only as far as necessary
   * @throws RangeError beyond the limits of the constructor, or if the memory cannot be allocated; the cache must not
   * be used after the latter.
   */
  async ensure(slots: number, positions: number, maxBytes = Number.POSITIVE_INFINITY): Promise<void> {
    if (slots > this.#maxSlots || positions > this.#maxPositions) {
      throw new RangeError(
        `cache: expected at most ${this.#maxSlots} slots of ${this.#maxPositions} positions, got ${slots} of ${positions}`,
      )
    }
    if (slots <= this.#slots && positions <= this.#positions) return
    const before = { slots: this.#slots, positions: this.#positions }
    const room = {
      slots: grown(before.slots, slots, this.#maxSlots),
      positions: grown(before.positions, positions, this.#maxPositions),
    }
    if (room.slots * room.positions * this.positionBytes > maxBytes) {
      room.slots = Math.max(before.slots, slots)
      room.positions = Math.max(before.positions, positions)
    }
    const isLong = before.slots * before.positions * this.positionBytes > LONG_COPY_BYTES
    const width = before.positions * this.#D
    for (let layer = 0; layer < this.#L; layer++) {
      const fresh = this.#allocate(layer, room)
      for (const name of ['keys', 'values'] as const) {
        const old = (name === 'keys' ? this.#keys : this.#values)[layer] as Float32Array
        for (let row = 0; row < before.slots * this.#H; row++) {
          fresh[name].set(old.subarray(row * width, (row + 1) * width), row * room.positions * this.#D)
        }
      }
      this.#keys[layer] = fresh.keys
      this.#values[layer] = fresh.values
      if (isLong) await setImmediate()
    }
    this.#slots = room.slots
    this.#positions = room.positions
    const sums = this.#gateSums
    const sumsWidth = before.positions * this.#E
    this.#gateSums = new Float32Array(this.#slots * this.#positions * this.#E)
    for (let slot = 0; slot < before.slots; slot++)
      this.gateSums(slot).set(sums.subarray(slot * sumsWidth, (slot + 1) * sumsWidth))
    this.#views.clear()
  }

  /** Bytes of a prefix of this length, as `copyOut` returns it. */
  prefixBytes(length: number): number {
    return 4 * length * (2 * this.#L * this.#H * this.#D + this.#E)
  }

  /** Copies the first `length` positions of a slot. */
  copyOut(slot: number, length: number): KvPrefix {
    const copy = (arrays: readonly Float32Array[]): Float32Array[] =>
      arrays.map((array) => {
        const out = new Float32Array(this.#H * length * this.#D)
        for (let h = 0; h < this.#H; h++) out.set(this.#head(array, slot, h, length), h * length * this.#D)
        return out
      })
    const gateSums = this.gateSums(slot).slice(0, length * this.#E)
    return { length, keys: copy(this.#keys), values: copy(this.#values), gateSums }
  }

  /** Writes the first `length` positions of a prefix into a slot. */
  copyIn(slot: number, prefix: KvPrefix, length: number): void {
    const width = prefix.length * this.#D
    const copy = (arrays: readonly Float32Array[], from: readonly Float32Array[]): void => {
      arrays.forEach((array, layer) => {
        for (let h = 0; h < this.#H; h++) {
          const row = (from[layer] as Float32Array).subarray(h * width, h * width + length * this.#D)
          this.#head(array, slot, h, length).set(row)
        }
      })
    }
    copy(this.#keys, prefix.keys)
    copy(this.#values, prefix.values)
    this.gateSums(slot).set(prefix.gateSums.subarray(0, length * this.#E))
  }

  /**
   * Overwrites slot `to` with the first `length` positions of slot `from` of `source`: this cache or one of the same
   * model. Nothing else may use the two meanwhile.
   */
  async copy(source: KvCache, from: number, to: number, length: number): Promise<void> {
    if (source === this && from === to) return
    const isLong = length * this.positionBytes > LONG_COPY_BYTES
    for (let layer = 0; layer < this.#L; layer++) {
      for (const [theirs, ours] of [
        [source.#keys[layer], this.#keys[layer]],
        [source.#values[layer], this.#values[layer]],
      ] as [Float32Array, Float32Array][]) {
        for (let h = 0; h < this.#H; h++)
          this.#head(ours, to, h, length).set(source.#head(theirs, from, h, length))
      }
      if (isLong) await setImmediate()
    }
    this.gateSums(to).set(source.gateSums(from).subarray(0, length * this.#E))
  }

  #allocate(
    layer: number,
    { slots, positions }: { slots: number; positions: number },
  ): { keys: Float32Array; values: Float32Array } {
    const size = slots * this.#H * positions * this.#D
    const both = this.#memory.allocate(layer, 2 * size, positions)
    return { keys: both.subarray(0, size), values: both.subarray(size) }
  }

  /** The first `length` positions of head h of a slot, as a view [length, D]. */
  #head(array: Float32Array, slot: number, h: number, length: number): Float32Array {
    const at = (slot * this.#H + h) * this.#positions * this.#D
    return array.subarray(at, at + length * this.#D)
  }

  #view(
    arrays: readonly Float32Array[],
    kind: string,
    layer: number,
    slot: number,
    count: number,
  ): Float32Array {
    const key = `${kind}${layer},${slot},${count}`
    let view = this.#views.get(key)
    if (view === undefined) {
      const size = this.#H * this.#positions * this.#D
      view = (arrays[layer] as Float32Array).subarray(slot * size, (slot + count) * size)
      this.#views.set(key, view)
    }
    return view
  }
}

/** Bytes of the keys and values of `positions` positions, in all layers. */
export function keysValuesBytes(config: ModelConfig, positions: number): number {
  return 4 * 2 * config.numHiddenLayers * keyValueWidth(config) * positions
}

/** Doubles `now` until it reaches `wanted`; at most `max`. */
function grown(now: number, wanted: number, max: number): number {
  let size = now
  while (size < wanted) size *= 2
  return Math.min(size, max)
}
