/**
 * Remembers faults of peers and refuses peers with many faults for a limited time. Faults are forgotten slowly, so that
 * a rare fault has no consequence; reconnecting does not help. Does not know what a fault is.
 */
import { limit } from '../lib/limits.ts'
import { Rate } from './rate.ts'

export interface ConductInit {
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** A peer is refused from now on. */
  onRefused(peer: string): void
}

/** Weights of faults, relative to `faultsBeforeRefusal`. */
export const FAULTS = {
  /** A request beyond the quota. */
  quota: 1,
  /** An announcement that an honest peer cannot have sent. */
  announcement: 3,
  /** A frame or a request that breaks the specification. */
  frame: 4,
  /** Data or streams beyond every limit: no honest peer does this even once. */
  flood: limit('faultsBeforeRefusal') + 2,
} as const

const MAX_REFUSED = 1024

export class Conduct {
  readonly #init: ConductInit
  readonly #faults: Rate
  /** Time until which a peer is refused, ms. */
  readonly #refusedUntil = new Map<string, number>()

  constructor(init: ConductInit) {
    this.#init = init
    this.#faults = new Rate(init.clock, {
      burst: limit('faultsBeforeRefusal'),
      everyMs: limit('faultForgottenAfter'),
    })
  }

  fault(peer: string, kind: keyof typeof FAULTS): void {
    if (this.isRefused(peer) || this.#faults.take(peer, FAULTS[kind])) return
    const now = this.#init.clock()
    this.#refusedUntil.set(peer, now + limit('refusalTime'))
    if (this.#refusedUntil.size > MAX_REFUSED) this.#prune(now)
    this.#init.onRefused(peer)
  }

  isRefused(peer: string): boolean {
    const until = this.#refusedUntil.get(peer)
    if (until === undefined) return false
    if (until > this.#init.clock()) return true
    this.#refusedUntil.delete(peer)
    return false
  }

  /** Strangers can use any number of keys, so the longest refused ones are forgotten above MAX_REFUSED. */
  #prune(now: number): void {
    for (const [peer, until] of this.#refusedUntil) {
      if (until > now && this.#refusedUntil.size <= MAX_REFUSED) return
      this.#refusedUntil.delete(peer)
    }
  }
}
