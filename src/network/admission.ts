/**
 * Decides which inbound connections may begin a handshake. A connection is pending until its peer has proved its
 * identity and chosen a multiplexer. Pending connections are limited for each source (source.ts), and a new one
 * replaces an old one, so that connections that never finish their handshake do not keep honest peers out, even those
 * at the same address. Sources of members have an allowance of their own. Does not know who a peer is.
 */
import type { MultiaddrConnection } from '@libp2p/interface'
import { ExchangeError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Crowd } from './crowd.ts'
import { Rate } from './rate.ts'
import { type Source, sourceOf } from './source.ts'

export interface AdmissionInit {
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** Whether a member has an address at this source or has proved its identity from there. */
  isKnown(source: Source): boolean
}

export class Admission {
  readonly #init: AdmissionInit
  readonly #fromKnown = new Crowd<MultiaddrConnection>(
    limit('pendingPerKnownSource'),
    limit('pendingFromKnownSources'),
  )
  readonly #fromOthers = new Crowd<MultiaddrConnection>(
    limit('pendingPerSource'),
    limit('pendingFromOtherSources'),
  )
  readonly #ratePerKnown: Rate
  readonly #ratePerOther: Rate
  /** All sources without a known member together. */
  readonly #rateOfOthers: Rate

  constructor(init: AdmissionInit) {
    const perSecond = (count: number) => new Rate(init.clock, { burst: count, everyMs: 1000 / count })
    this.#init = init
    this.#ratePerKnown = perSecond(limit('handshakesPerKnownSource'))
    this.#ratePerOther = perSecond(limit('handshakesPerSource'))
    this.#rateOfOthers = perSecond(limit('handshakesFromOtherSources'))
  }

  /** Number of pending connections. */
  get pending(): number {
    return this.#fromKnown.size + this.#fromOthers.size
  }

  /** A socket was accepted. Returns false when it must be closed; may close an older pending connection. */
  enter(connection: MultiaddrConnection): boolean {
    const source = sourceOf(connection.remoteAddr)
    const isKnown = this.#init.isKnown(source)
    const isInTime = isKnown
      ? this.#ratePerKnown.take(source)
      : this.#ratePerOther.take(source) && this.#rateOfOthers.take('')
    if (!isInTime) return false
    const replaced = (isKnown ? this.#fromKnown : this.#fromOthers).add(connection, source)
    replaced?.abort(new ExchangeError('refused', 'a newer connection took the place of an unfinished one'))
    connection.addEventListener('close', () => this.leave(connection), { once: true })
    return true
  }

  /** A connection is complete or closed. */
  leave(connection: MultiaddrConnection): void {
    this.#fromKnown.delete(connection)
    this.#fromOthers.delete(connection)
  }
}
