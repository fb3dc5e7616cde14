/**
 * Rate limit for the requests of each peer, separately for each protocol. Implements the generic cell rate
 * algorithm (ITU-T I.371), which keeps one number for each peer and protocol.
 */
import type { ProtocolRow } from './protocol.ts'

export class Quota {
  /** For each protocol and peer, the time at which the whole burst is available again, ms. */
  readonly #fullAt = new Map<string, number>()
  readonly #clock: () => number

  /** @param clock milliseconds, monotonic. */
  constructor(clock: () => number) {
    this.#clock = clock
  }

  /** Count one request. Returns false, and counts nothing, when the peer has to wait. */
  take(peer: string, { id, quota }: ProtocolRow): boolean {
    const { burst, everyMs } = quota
    const now = this.#clock()
    const key = `${id} ${peer}`
    const fullAt = Math.max(now, this.#fullAt.get(key) ?? now)
    if (fullAt - now > burst * everyMs) return false
    this.#fullAt.set(key, fullAt + everyMs)
    return true
  }

  /** Free the memory of a peer that has disconnected. */
  forget(peer: string): void {
    for (const key of this.#fullAt.keys()) if (key.endsWith(` ${peer}`)) this.#fullAt.delete(key)
  }
}
