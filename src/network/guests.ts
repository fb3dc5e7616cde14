/**
 * The connected peers that are not members. A guest has to prove within a short time that it holds an invitation;
 * until then it may be replaced by a newer guest, so that strangers cannot occupy the places of those who are
 * invited. A guest with a proof keeps its place as long as it sends requests. Does not know what proves an invitation.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { limit } from '../lib/limits.ts'
import { Crowd } from './crowd.ts'
import type { Source } from './source.ts'

interface Proof {
  readonly token: string
  timer: ReturnType<typeof setTimeout>
}

/** Time for the answer to arrive before the connection is closed, ms. */
const READING_MS = 500

export class Guests {
  /** Closes all connections of a peer. */
  readonly #close: (peer: PeerIdString) => void
  readonly #unproven = new Crowd<PeerIdString>(limit('unprovenGuestsPerSource'), limit('unprovenGuests'))
  readonly #deadlines = new Map<PeerIdString, ReturnType<typeof setTimeout>>()
  readonly #proven = new Map<PeerIdString, Proof>()

  constructor(close: (peer: PeerIdString) => void) {
    this.#close = close
  }

  /** A peer that is not a member has connected. May close the connection of another one. */
  arrived(peer: PeerIdString, source: Source): void {
    if (this.#proven.has(peer) || this.#unproven.has(peer)) return
    const replaced = this.#unproven.add(peer, source)
    this.#deadlines.set(peer, this.#timer(peer, limit('guestProofTimeout')))
    if (replaced !== undefined) this.#end(replaced)
  }

  /**
   * A peer has shown the token of a valid invitation.
   * @returns false if it gets no place as a guest with a proof, because too many have one or show the same token.
   */
  proved(peer: PeerIdString, token: string): boolean {
    const known = this.#proven.get(peer)
    if (known?.token === token) return true
    const withToken = [...this.#proven.values()].filter((proof) => proof.token === token).length
    if (known !== undefined || withToken >= limit('guestsPerToken')) return false
    if (this.#proven.size >= limit('guestConnections')) return false
    this.gone(peer)
    this.#proven.set(peer, { token, timer: this.#timer(peer, limit('guestIdleTimeout')) })
    return true
  }

  isProven(peer: PeerIdString): boolean {
    return this.#proven.has(peer)
  }

  /** A guest with a proof has sent a request, or a frame of an answer was sent to it. */
  active(peer: PeerIdString): void {
    this.#proven.get(peer)?.timer.refresh()
  }

  /** A request was answered. A guest without a proof has had its chance, and gets a moment to read the answer. */
  answered(peer: PeerIdString): void {
    if (!this.#unproven.has(peer)) return
    clearTimeout(this.#deadlines.get(peer))
    this.#deadlines.set(peer, this.#timer(peer, READING_MS))
  }

  /** A peer has disconnected or has become a member. */
  gone(peer: PeerIdString): void {
    clearTimeout(this.#deadlines.get(peer))
    clearTimeout(this.#proven.get(peer)?.timer)
    this.#deadlines.delete(peer)
    this.#unproven.delete(peer)
    this.#proven.delete(peer)
  }

  stop(): void {
    for (const peer of [...this.#deadlines.keys(), ...this.#proven.keys()]) this.gone(peer)
  }

  #timer(peer: PeerIdString, ms: number): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.#end(peer), ms).unref()
  }

  #end(peer: PeerIdString): void {
    this.gone(peer)
    this.#close(peer)
  }
}
