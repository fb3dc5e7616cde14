/**
 * The key histories of all seats, and the seat of a peer. Owned by the membership, which knows the roster; the log of
 * statements adds what the seats state. Verifies no signatures.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { limit } from '../lib/limits.ts'
import { type KeyChange, KeyHistory, type KeyState, type Restoration } from './key-history.ts'
import type { Member } from './member.ts'

/** What the roster says about the keys of a seat. */
export interface SeatEntry {
  /** Id of the seat, and its first institution key. */
  readonly peerId: PeerIdString
  readonly next?: KeyState['next']
  readonly restored?: Restoration
}

/** What an entry of the roster says: its key is one that the members decided. */
export function seatEntry({ peerId, key, next }: Member): SeatEntry {
  const committed = next === undefined ? {} : { next }
  return key === undefined ? { peerId, ...committed } : { peerId, restored: { key, ...committed } }
}

export interface SeatKeysInit {
  /** The seats of the latest roster, revoked ones included. */
  readonly seats: () => readonly SeatEntry[]
  /** Unix seconds. */
  readonly now: () => number
}

export class SeatKeys {
  readonly #init: SeatKeysInit
  readonly #envelopes: Uint8Array[] = []
  readonly #changes = new Map<PeerIdString, readonly KeyChange[]>()

  constructor(init: SeatKeysInit) {
    this.#init = init
  }

  historyOf(seat: PeerIdString): KeyHistory {
    return this.#history(this.#init.seats().find(({ peerId }) => peerId === seat) ?? { peerId: seat })
  }

  #history({ peerId, next, restored }: SeatEntry): KeyHistory {
    return new KeyHistory(
      { key: peerId, ...(next === undefined ? {} : { next }) },
      this.#changes.get(peerId),
      restored,
    )
  }

  /** A statement about keys was logged. Call this in the order of the seat's log. */
  record(seat: PeerIdString, change: KeyChange, envelope: Uint8Array): void {
    this.#envelopes.push(envelope)
    this.#changes.set(seat, [...(this.#changes.get(seat) ?? []), change])
  }

  /** The statements about keys, each seat's in the order of its log. */
  envelopes(): readonly Uint8Array[] {
    return this.#envelopes
  }

  /** The seat that a key rules now, as its institution key or as its node key that has not ended. */
  seatOf(key: PeerIdString): PeerIdString | undefined {
    const seats = this.#init.seats()
    // Most seats have stated nothing, and their only key is their id.
    if (this.#changes.size === 0 && seats.every(({ restored }) => restored === undefined)) {
      return seats.some(({ peerId }) => peerId === key) ? key : undefined
    }
    return seats.find((entry) => this.#rules(this.#history(entry).current(), key))?.peerId
  }

  /** The seat that a key rules or has ruled at any time. */
  seatEverOf(key: PeerIdString): PeerIdString | undefined {
    const served = (seat: PeerIdString): boolean =>
      key === seat ||
      (this.#changes.get(seat) ?? []).some((change) => key === change.key || key === change.node?.key)
    return this.#init.seats().find(({ peerId }) => served(peerId))?.peerId ?? this.seatOf(key)
  }

  #rules({ key, node }: KeyState, candidate: PeerIdString): boolean {
    if (candidate === key) return true
    return candidate === node?.key && node.expiresAt + limit('clockSkew') >= this.#init.now()
  }
}
