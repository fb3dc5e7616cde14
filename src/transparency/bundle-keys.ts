/**
 * The keys of the seats in an audit bundle. Collects who has signed which statement, and checks all signers once the roster
 * is known, because members may have restored a seat. Verifies no signatures. Implements protocols/consortium-charter,
 * section "Keys", for whole logs.
 */
import type { KeyChange, KeyHistory, KeyUse } from '../consortium/key-history.ts'
import type { Roster } from '../consortium/roster.ts'
import { SeatKeys, seatEntry } from '../consortium/seat-keys.ts'
import type { PeerIdString } from '../identity/keys.ts'

/** A statement whose signatures were verified: who has signed it, and the keys that it states. */
export interface SignedUse extends KeyUse {
  /** Only in a statement about keys, whose signatures by these keys were verified. */
  readonly keys?: KeyChange
}

export class BundleKeys {
  readonly #uses = new Map<PeerIdString, SignedUse[]>()

  /** Add the next statement of a log. */
  add(publisher: PeerIdString, use: SignedUse): void {
    const uses = this.#uses.get(publisher) ?? []
    uses.push(use)
    this.#uses.set(publisher, uses)
  }

  /**
   * Check that each statement was signed by a key of its seat.
   * @returns the history of a seat's keys. @throws VerificationError as `KeyHistory`.
   */
  check(roster: Roster): (seat: PeerIdString) => KeyHistory {
    const seats = new SeatKeys({ seats: () => roster.members.map(seatEntry), now: () => 0 })
    const histories = new Map<PeerIdString, KeyHistory>()
    for (const [publisher, uses] of this.#uses) {
      let history = seats.historyOf(publisher)
      for (const { keys, ...use } of uses) {
        if (keys === undefined) history.checkSigner(use)
        else {
          history.checkChange(keys)
          history = history.with(keys)
        }
      }
      histories.set(publisher, history)
    }
    return (seat) => histories.get(seat) ?? seats.historyOf(seat)
  }
}
