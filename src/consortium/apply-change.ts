/**
 * The roster that follows when a change is applied to another one, and why a change cannot be applied. Implements
 * protocols/consortium-charter, section "Deriving the roster". Does not count support.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { ProposedChange } from './change.ts'
import type { Leave } from './leave.ts'
import type { Member } from './member.ts'
import { findMember, membersRevoking, membersWith, type Roster, rosterDigest } from './roster.ts'
import { unreachableRule } from './rules.ts'
import { activeMembers } from './support.ts'

/** What a change is about if only the first of several concurrent ones is applied. */
export function orderedSubject(change: ProposedChange): string | undefined {
  switch (change.kind) {
    case 'rules':
    case 'renew':
      return change.kind
    case 'rotate':
      return `rotate ${change.seat}`
    default:
      return undefined
  }
}

/**
 * @param at Unix seconds of the statement that makes the change.
 * @returns the next version, or for people why the change cannot be applied now.
 */
export function applyChange(roster: Roster, change: ProposedChange, at: number): Roster | string {
  try {
    return next(roster, change, at)
  } catch (error) {
    if (error instanceof FlexMeshError) return error.message
    throw error
  }
}

function next(roster: Roster, change: ProposedChange, at: number): Roster | string {
  switch (change.kind) {
    case 'admit': {
      const { institution, peerId, next: nextKey } = change
      if (roster.members.some(({ key }) => key === peerId))
        return `the key ${peerId} belongs to a member already`
      const members = membersWith(roster, { institution, peerId, joinedAt: at })
      const grown = following(roster, members, at)
      return nextKey === undefined ? grown : changeMember(grown, peerId, { next: nextKey })
    }
    case 'revoke': {
      const { seat, reason, validThroughSeq } = change
      const member = findMember(roster, seat)
      if (member?.revoked === undefined && activeMembers(roster).length === 1)
        return 'the last member cannot be revoked'
      if (member?.revoked?.validThroughSeq === validThroughSeq)
        return `${member.institution} is revoked already`
      return following(roster, membersRevoking(roster, seat, { reason, at, validThroughSeq }), at)
    }
    case 'rotate': {
      const { seat, key, next: nextKey } = change
      const member = findMember(roster, seat)
      if (member === undefined) return `${seat} is not a member`
      if (member.revoked !== undefined) return `${member.institution} was revoked`
      if (isKeyInUse(roster, key)) return `the key ${key} belongs to a member already`
      return changeMember(following(roster, roster.members, at), seat, { key, next: nextKey })
    }
    case 'rules': {
      const members = activeMembers(roster)
      const founders = members.filter(({ role }) => role === 'founder')
      const sizes = { members: members.length, founders: founders.length }
      return (
        unreachableRule(change.rules, sizes) ?? {
          ...following(roster, roster.members, at),
          rules: change.rules,
        }
      )
    }
    case 'renew':
      return following(roster, roster.members, at)
    case 'withdraw':
      return findMember(roster, change.seat) === undefined
        ? `${change.seat} is not a member`
        : following(roster, roster.members, at)
  }
}

/** @returns the next version without the member; undefined if it is the last one or is not a member any more. */
export function applyLeave(
  roster: Roster,
  { publisher, validThroughSeq, issuedAt }: Leave,
): Roster | undefined {
  const member = findMember(roster, publisher)
  if (member === undefined || member.revoked !== undefined) return undefined
  if (activeMembers(roster).length === 1) return undefined
  const members = membersRevoking(roster, publisher, { reason: 'left', at: issuedAt, validThroughSeq })
  // Nobody has confirmed the membership of the others.
  return { ...following(roster, members, issuedAt), expiresAt: roster.expiresAt }
}

function isKeyInUse(roster: Roster, key: PeerIdString): boolean {
  return roster.members.some((member) => member.peerId === key || member.key === key)
}

function changeMember(roster: Roster, seat: PeerIdString, changes: Partial<Member>): Roster {
  const members = roster.members.map((member) =>
    member.peerId === seat ? { ...member, ...changes } : member,
  )
  return { ...roster, members }
}

/** The next version, which confirms the membership for another year. */
function following(roster: Roster, members: readonly Member[], at: number): Roster {
  const { threshold: _, ...rest } = roster
  return {
    ...rest,
    version: roster.version + 1,
    prev: rosterDigest(roster),
    members,
    issuedAt: Math.max(roster.issuedAt, at),
    expiresAt: Math.max(roster.expiresAt, at + limit('rosterLifetime')),
  }
}
