/** Signed rosters, as consortia with a charter of version 1 had them before proposals. */
import type { Member } from '../../src/consortium/member.ts'
import { membersRevoking, membersWith, type Roster, rosterDigest } from '../../src/consortium/roster.ts'
import type { PeerIdString } from '../../src/identity/keys.ts'
import { limit } from '../../src/lib/limits.ts'

export type SignedRoster = Roster & { readonly threshold: number }

/** @param roster of a charter of version 1. */
export function signable(roster: Roster): SignedRoster {
  const { threshold } = roster
  if (threshold === undefined) throw new Error('a charter of version 2 has no signed rosters')
  return { ...roster, threshold }
}

export function addMember(
  roster: Roster,
  institution: string,
  peerId: PeerIdString,
  now: number,
): SignedRoster {
  return next(roster, membersWith(roster, { institution, peerId, joinedAt: now }), now)
}

export function revokeMember(
  roster: Roster,
  peerId: PeerIdString,
  reason: NonNullable<Member['revoked']>['reason'],
  validThroughSeq: number,
  now: number,
): SignedRoster {
  return next(roster, membersRevoking(roster, peerId, { reason, at: now, validThroughSeq }), now)
}

/** The next version, with the same members, for another year. */
export function renewRoster(roster: Roster, now: number): SignedRoster {
  return next(roster, roster.members, now)
}

function next(roster: Roster, members: readonly Member[], now: number): SignedRoster {
  return {
    ...signable(roster),
    version: roster.version + 1,
    prev: rosterDigest(roster),
    members,
    issuedAt: now,
    expiresAt: now + limit('rosterLifetime'),
  }
}
