/** Places that are limited in total and for each key, e.g. requests for each peer. Waiting is first come, first served. */
import '../lib/node20.ts'

export class Slots {
  readonly #perKey: number
  readonly #total: number
  readonly #taken = new Map<string, number>()
  #takenInAll = 0
  /** In order of arrival. */
  readonly #waiting = new Set<{ readonly key: string; readonly start: () => void }>()

  constructor(perKey: number, total: number) {
    this.#perKey = perKey
    this.#total = total
  }

  /**
   * Wait for a place.
   * @returns frees the place; call it exactly once. @throws the reason of `signal` when it aborts first.
   */
  async take(key: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#hasPlace(key)) this.#occupy(key)
    else await this.#wait(key, signal)
    return () => this.#free(key)
  }

  #hasPlace(key: string): boolean {
    return this.#takenInAll < this.#total && (this.#taken.get(key) ?? 0) < this.#perKey
  }

  async #wait(key: string, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const entry = { key, start: resolve }
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

  #occupy(key: string): void {
    this.#takenInAll++
    this.#taken.set(key, (this.#taken.get(key) ?? 0) + 1)
  }

  #free(key: string): void {
    this.#takenInAll--
    const left = (this.#taken.get(key) ?? 1) - 1
    if (left > 0) this.#taken.set(key, left)
    else this.#taken.delete(key)
    for (const entry of this.#waiting) {
      if (this.#takenInAll >= this.#total) return
      if (!this.#hasPlace(entry.key)) continue
      this.#waiting.delete(entry)
      this.#occupy(entry.key)
      entry.start()
    }
  }
}
