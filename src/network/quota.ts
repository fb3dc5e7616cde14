/**
 * Rate limit for the requests of each peer, separately for each protocol. A peer that reconnects does not get a new
 * allowance.
 */
import type { ProtocolRow } from './protocol.ts'
import { Rate } from './rate.ts'

export class Quota {
  readonly #clock: () => number
  /** By protocol id. */
  readonly #rates = new Map<string, Rate>()

  /** @param clock milliseconds, monotonic. */
  constructor(clock: () => number) {
    this.#clock = clock
  }

  /** Count one request. Returns false, and counts nothing, when the peer has to wait. */
  take(peer: string, { id, quota }: ProtocolRow): boolean {
    let rate = this.#rates.get(id)
    if (rate === undefined) {
      rate = new Rate(this.#clock, quota)
      this.#rates.set(id, rate)
    }
    return rate.take(peer)
  }
}
