/**
 * Who supports a proposal at one version of the roster, and whether that is a quorum. Implements
 * protocols/consortium-charter, section "Deriving the roster". Does not know which proposal is applied.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import type { ProposedChange } from './change.ts'
import type { Answer, Endorsement } from './endorsement.ts'
import type { Leave } from './leave.ts'
import type { Member } from './member.ts'
import type { Proposal } from './proposal.ts'
import type { Roster } from './roster.ts'
import { type Rule, supportersNeeded } from './rules.ts'

/** A statement about the consortium whose signature was verified. */
export type GovernanceStatement =
  | { readonly kind: 'proposal'; readonly id: Digest; readonly value: Proposal }
  | { readonly kind: 'endorsement'; readonly id: Digest; readonly value: Endorsement }
  | { readonly kind: 'leave'; readonly id: Digest; readonly value: Leave }

/** One answer of one member to one proposal. */
export interface GivenAnswer {
  readonly answer: Answer
  readonly seq: number
  /** Version of the roster that the statement names. */
  readonly rosterVersion: number
  /** The highest version that this statement or an earlier one of the member's log names. */
  readonly knownVersion: number
  readonly issuedAt: number
  /** Version from which on the statement does not count, because its key was replaced; infinite if none. */
  readonly endsAt: number
}

/** A proposal with every answer to it, by member, in the order of the member's log. */
export interface Answered {
  readonly id: Digest
  readonly value: Proposal
  /** See `GivenAnswer`. */
  readonly endsAt: number
  readonly answers: ReadonlyMap<PeerIdString, readonly GivenAnswer[]>
}

/**
 * Which statements count at a version: those whose whole log up to then knew no later version, or all that name no
 * later version themselves. The second is for members that once knew versions that the union of all statements does
 * not derive any more.
 */
export type Tier = 'strict' | 'lenient'

export interface Support {
  /** Place in the log of each supporter's first answer. */
  readonly supporters: ReadonlyMap<PeerIdString, number>
  readonly rejecters: readonly PeerIdString[]
  /** Number of supporters that the rule asks for, and number that count. */
  readonly needed: number
  readonly got: number
  readonly hasQuorum: boolean
}

export function activeMembers(roster: Roster): Member[] {
  return roster.members.filter(({ revoked }) => revoked === undefined)
}

const MAJORITY: Rule = { threshold: 'majority', group: 'members' }

/** The member that a change is about and that therefore has no vote. */
export function targetOf(change: ProposedChange): PeerIdString | undefined {
  return change.kind === 'revoke' || change.kind === 'rotate' || change.kind === 'withdraw'
    ? change.seat
    : undefined
}

interface Electorate {
  readonly voters: readonly Member[]
  /** Number of voters that must support the change; more than there are if nobody can decide about it. */
  readonly needed: number
}

/**
 * Who votes on a change, and how many must support it. From three members on, two must, unless the charter is of
 * version 1 with a threshold of 1. If the founders are too few for that, more than half of all members decide.
 */
export function electorateOf(roster: Roster, change: ProposedChange): Electorate {
  const active = activeMembers(roster)
  const founders = active.filter(({ role }) => role === 'founder')
  const rule = roster.rules[change.kind]
  const least = rule.threshold === 1 || active.length < 3 ? 1 : 2
  const target = targetOf(change)
  const others = (group: readonly Member[]): Member[] => group.filter(({ peerId }) => peerId !== target)
  const isFounders = rule.group === 'founders' && founders.length > 0
  const isEnough = others(founders).length >= least || rule.threshold === 1
  const group = isFounders && isEnough ? founders : active
  const applied: Rule = rule.group === 'founders' && group === active ? MAJORITY : rule
  const voters = others(group)
  const needed = Math.max(Math.min(supportersNeeded(applied, group.length), voters.length), least)
  return { voters, needed }
}

/**
 * The first answer of each member counts: a later one could take back what was applied long ago.
 * @param without a member whose statements after `seq` are left out
 */
export function supportOf(
  { value, answers }: Answered,
  roster: Roster,
  tier: Tier,
  without?: { readonly seat: PeerIdString; readonly seq: number },
): Support {
  const { change, expiresAt } = value
  const { voters, needed } = electorateOf(roster, change)
  const supporters = new Map<PeerIdString, number>()
  const rejecters: PeerIdString[] = []
  for (const { peerId } of voters) {
    const first = (answers.get(peerId) ?? []).find((given) => {
      const version = tier === 'strict' ? given.knownVersion : given.rosterVersion
      const isLeftOut = without?.seat === peerId && given.seq > without.seq
      return (
        version <= roster.version &&
        roster.version < given.endsAt &&
        given.issuedAt <= expiresAt &&
        !isLeftOut
      )
    })
    if (first?.answer === 'endorse') supporters.set(peerId, first.seq)
    else if (first !== undefined) rejecters.push(peerId)
  }
  const got = supporters.size
  return { supporters, rejecters, needed, got, hasQuorum: got >= needed }
}
