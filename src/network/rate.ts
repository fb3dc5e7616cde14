/**
 * Rate limit for any number of keys, e.g. peers. Implements the generic cell rate algorithm (ITU-T I.371), which keeps
 * one number for each key. Does not know what is counted.
 */

export interface RateInit {
  /** Number of units that a key may use at once. */
  readonly burst: number
  /** Time after which one more unit may be used, ms. */
  readonly everyMs: number
}

/** Number of keys above which keys are dropped whose whole burst is available again. */
const KEYS_BEFORE_PRUNING = 1024

export class Rate {
  readonly #init: RateInit
  /** Milliseconds, monotonic. */
  readonly #clock: () => number
  /** For each key, the time at which the whole burst is available again, ms. */
  readonly #fullAt = new Map<string, number>()
  #pruneAbove = KEYS_BEFORE_PRUNING

  constructor(clock: () => number, init: RateInit) {
    this.#clock = clock
    this.#init = init
  }

  /** Use `units`. Returns false, and uses nothing, when the key has to wait. */
  take(key: string, units = 1): boolean {
    const { burst, everyMs } = this.#init
    const now = this.#clock()
    const fullAt = Math.max(now, this.#fullAt.get(key) ?? now)
    if (fullAt - now + (units - 1) * everyMs > burst * everyMs) return false
    this.#fullAt.set(key, fullAt + units * everyMs)
    if (this.#fullAt.size > this.#pruneAbove) this.#prune(now)
    return true
  }

  /** Number of keys that are remembered. */
  get size(): number {
    return this.#fullAt.size
  }

  /** A dropped key is treated as a new one, which has the same allowance. */
  #prune(now: number): void {
    for (const [key, fullAt] of this.#fullAt) if (fullAt <= now) this.#fullAt.delete(key)
    this.#pruneAbove = Math.max(KEYS_BEFORE_PRUNING, 2 * this.#fullAt.size)
  }
}
