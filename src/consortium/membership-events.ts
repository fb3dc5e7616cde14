/** What happens to the members of a consortium, for people, and the events that follow from a change. Signs and writes nothing. */
import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import type { ProposedChange } from './change.ts'
import type { DerivedRoster } from './derive-roster.ts'
import { findMember, type Roster } from './roster.ts'

export type MembershipEvent =
  | { readonly event: 'member'; readonly institution: string }
  | {
      readonly event: 'revoked'
      readonly institution: string
      /** Whether it is the institution of this node. */
      readonly isOwn: boolean
    }
  | { readonly event: 'request'; readonly institution: string; readonly peerId: string }
  | {
      /** A proposal of another member has arrived, and this node's answer counts. */
      readonly event: 'proposal'
      readonly id: Digest
      readonly institution: string
      readonly change: ProposedChange
    }
  | {
      /** Two contradicting proposals have reached their quorums at one version. */
      readonly event: 'equivocation'
      readonly proposals: readonly Digest[]
      /** Names of the members that supported both. */
      readonly institutions: readonly string[]
    }

export class MembershipEvents {
  readonly #onEvent: (event: MembershipEvent) => void
  /** Equivocations that were reported. */
  readonly #reported = new Set<string>()

  constructor(onEvent: (event: MembershipEvent) => void) {
    this.#onEvent = onEvent
  }

  /** @param own the seat of this node */
  changed(before: Roster, { roster, equivocations }: DerivedRoster, own: PeerIdString): void {
    for (const { institution, peerId, revoked } of roster.members) {
      const was = findMember(before, peerId)
      if (was === undefined) this.#onEvent({ event: 'member', institution })
      if (revoked !== undefined && was?.revoked === undefined) {
        this.#onEvent({ event: 'revoked', institution, isOwn: peerId === own })
      }
    }
    for (const { proposals, seats } of equivocations) {
      const key = proposals.join()
      if (this.#reported.has(key)) continue
      this.#reported.add(key)
      const institutions = seats.map((seat) => findMember(roster, seat)?.institution ?? seat)
      this.#onEvent({ event: 'equivocation', proposals, institutions })
    }
  }
}
