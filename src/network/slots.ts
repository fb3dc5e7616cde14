/** Places that are limited in total and for each key, e.g. requests for each peer. Waiting is first come, first served. */
import '../lib/node20.ts'

export interface SlotsInit {
  /** Maximum number of places of one key. */
  readonly perKey: number
  /** Maximum number of places of all keys together, except guaranteed ones. */
  readonly total: number
  /** Number of places that each key can take even if all others are taken. Default: 0. */
  readonly guaranteed?: number
}

interface Waiting {
  readonly key: string
  readonly count: number
  readonly start: () => void
}

export class Slots {
  readonly #perKey: number
  readonly #total: number
  readonly #guaranteed: number
  readonly #taken = new Map<string, number>()
  /** Number of places that are taken and not guaranteed. */
  #shared = 0
  /** In order of arrival. */
  readonly #waiting = new Set<Waiting>()

  constructor({ perKey, total, guaranteed = 0 }: SlotsInit) {
    this.#perKey = perKey
    this.#total = total
    this.#guaranteed = guaranteed
  }

  /**
   * Wait for places.
   * @param count number of places that are taken together, at most `perKey`
   * @returns frees the places; call it exactly once. @throws the reason of `signal` when it aborts first.
   */
  async take(key: string, signal: AbortSignal, count = 1): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#hasPlaces(key, count)) this.#change(key, count)
    else await this.#wait(key, signal, count)
    return () => this.#free(key, count)
  }

  #hasPlaces(key: string, count: number): boolean {
    const taken = this.#taken.get(key) ?? 0
    return taken + count <= this.#perKey && this.#shared + this.#sharedBy(taken, count) <= this.#total
  }

  /** Change of the number of shared places when a key with `taken` places takes `count` more. */
  #sharedBy(taken: number, count: number): number {
    return Math.max(0, taken + count - this.#guaranteed) - Math.max(0, taken - this.#guaranteed)
  }

  async #wait(key: string, signal: AbortSignal, count: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const entry = { key, count, start: resolve }
    const giveUp = (): void => {
      this.#waiting.delete(entry)
      reject(signal.reason)
    }
    signal.addEventListener('abort', giveUp, { once: true })
    this.#waiting.add(entry)
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', giveUp)
    }
  }

  #change(key: string, count: number): void {
    const taken = this.#taken.get(key) ?? 0
    this.#shared += this.#sharedBy(taken, count)
    if (taken + count > 0) this.#taken.set(key, taken + count)
    else this.#taken.delete(key)
  }

  #free(key: string, count: number): void {
    this.#change(key, -count)
    for (const entry of this.#waiting) {
      if (!this.#hasPlaces(entry.key, entry.count)) continue
      this.#waiting.delete(entry)
      this.#change(entry.key, entry.count)
      entry.start()
    }
  }
}
