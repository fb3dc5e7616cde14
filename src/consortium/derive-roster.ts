/**
 * Derives the roster from the charter's (or the last signed) roster and the set of all statements about the consortium:
 * the same for the same set, in whatever order the statements arrived. Implements protocols/consortium-charter, section
 * "Deriving the roster". Has no clock and no state.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { applyChange, applyLeave, orderedSubject } from './apply-change.ts'
import { isSameChange, subjectOf } from './change.ts'
import type { Leave } from './leave.ts'
import type { Roster } from './roster.ts'
import { type Answered, electorateOf, type Support, supportOf, type Tier, targetOf } from './support.ts'

/** A leave and the highest version that its publisher's log names up to it. */
export interface KnownLeave {
  readonly id: Digest
  readonly value: Leave
  readonly knownVersion: number
  /** See `GivenAnswer`. */
  readonly endsAt: number
}

export interface GovernanceInput {
  readonly proposals: readonly Answered[]
  readonly leaves: readonly KnownLeave[]
}

/** Two different changes of one subject that both had a quorum at the version that they name. */
export interface Equivocation {
  readonly proposals: readonly [Digest, Digest]
  /** Members that supported both. */
  readonly seats: readonly PeerIdString[]
}

export interface DerivedRoster {
  readonly roster: Roster
  /** Every version from the one with which deriving began to `roster`. */
  readonly versions: readonly Roster[]
  /** Version that each applied proposal has made. */
  readonly applied: ReadonlyMap<Digest, number>
  readonly equivocations: readonly Equivocation[]
}

/** Something that can be applied at a version. */
interface Candidate {
  readonly id: Digest
  readonly author: PeerIdString
  readonly seq: number
  /** Place in the log of each member that supports it. */
  readonly supporters: ReadonlyMap<PeerIdString, number>
  readonly isRemoval: boolean
  readonly next: Roster
  readonly answered?: Answered
}

export function deriveRoster(base: Roster, { proposals, leaves }: GovernanceInput): DerivedRoster {
  const applied = new Map<Digest, number>()
  const lastChanges = new Map<string, number>()
  /** Support of each proposal when it first had a quorum. */
  const quorums = new Map<Digest, { readonly answered: Answered; readonly support: Support }>()
  const versions = [base]
  let roster = base
  for (;;) {
    const open = openProposals(proposals, roster, applied)
    let candidates: Candidate[] = []
    for (const tier of ['strict', 'lenient'] as const) {
      candidates = candidatesAt({ roster, open, leaves, applied, lastChanges, tier, quorums })
      if (candidates.length > 0) break
    }
    const chosen = choose(candidates, roster)
    if (chosen === undefined) break
    roster = chosen.next
    versions.push(roster)
    applied.set(chosen.id, roster.version)
    const subject = chosen.answered === undefined ? undefined : orderedSubject(chosen.answered.value.change)
    if (subject !== undefined) lastChanges.set(subject, roster.version)
  }
  return { roster, versions, applied, equivocations: equivocationsOf([...quorums.values()]) }
}

/**
 * Proposals that are not applied, not too old, and answered by as many members as a quorum needs. The last condition bounds
 * the work: members below a quorum cannot add to it. A limit on the proposals of one member would be no bound but a fault,
 * because proposals that were applied would give way to others that the member signs later.
 */
function openProposals(
  proposals: readonly Answered[],
  roster: Roster,
  applied: ReadonlyMap<Digest, number>,
): Answered[] {
  const needed = new Map<string, number>()
  return proposals.filter(({ id, value, answers, endsAt }) => {
    const { change, rosterVersion, expiresAt } = value
    if (applied.has(id) || rosterVersion > roster.version || expiresAt < roster.issuedAt) return false
    if (endsAt <= roster.version) return false
    const key = `${change.kind} ${targetOf(change)}`
    const least = needed.get(key) ?? electorateOf(roster, change).needed
    needed.set(key, least)
    return answers.size >= least
  })
}

interface CandidatesInit {
  readonly roster: Roster
  readonly open: readonly Answered[]
  readonly leaves: readonly KnownLeave[]
  readonly applied: ReadonlyMap<Digest, number>
  readonly lastChanges: ReadonlyMap<string, number>
  readonly tier: Tier
  readonly quorums: Map<Digest, { readonly answered: Answered; readonly support: Support }>
}

function candidatesAt(init: CandidatesInit): Candidate[] {
  const { roster, open, leaves, applied, lastChanges, tier, quorums } = init
  const candidates: Candidate[] = []
  for (const answered of open) {
    const { id, value } = answered
    const support = supportOf(answered, roster, tier)
    if (!support.hasQuorum) continue
    if (!quorums.has(id)) quorums.set(id, { answered, support })
    const subject = orderedSubject(value.change)
    if (subject !== undefined && (lastChanges.get(subject) ?? 0) > value.rosterVersion) continue
    const next = applyChange(roster, value.change, value.issuedAt)
    if (typeof next === 'string') continue
    const { publisher: author, seq } = value
    const isRemoval = value.change.kind === 'revoke'
    candidates.push({ id, author, seq, supporters: support.supporters, isRemoval, next, answered })
  }
  for (const { id, value, knownVersion, endsAt } of leaves) {
    const version = tier === 'strict' ? knownVersion : value.rosterVersion
    if (applied.has(id) || version > roster.version || endsAt <= roster.version) continue
    const next = applyLeave(roster, value)
    const { publisher: author, seq } = value
    const supporters = new Map([[author, seq]])
    if (next !== undefined) candidates.push({ id, author, seq, supporters, isRemoval: true, next })
  }
  return removeVoided(candidates, roster, tier)
}

/**
 * Removals win: a candidate whose quorum needs statements of a member from after the point at which another candidate
 * revokes it waits until that one is applied.
 */
function removeVoided(candidates: readonly Candidate[], roster: Roster, tier: Tier): Candidate[] {
  const revocations = candidates.flatMap((candidate) => {
    const change = candidate.answered?.value.change
    return change?.kind === 'revoke' ? [{ candidate, seat: change.seat, seq: change.validThroughSeq }] : []
  })
  const isVoided = (one: Candidate): boolean =>
    revocations.some(({ candidate, seat, seq }) => {
      if (candidate === one) return false
      if (one.answered === undefined) return one.author === seat
      return !supportOf(one.answered, roster, tier, { seat, seq }).hasQuorum
    })
  const left = candidates.filter((one) => !isVoided(one))
  return left.length > 0 ? left : [...candidates]
}

/**
 * The candidate that is applied next. A member that supports two candidates has put them in an order, which its log
 * proves: so nobody can sign today what would have come first years ago. Between candidates that no log orders, removals
 * come first, then the proposals of those who have been members for longer.
 */
function choose(candidates: readonly Candidate[], roster: Roster): Candidate | undefined {
  const first = candidates.filter((one) => !candidates.some((other) => comesBefore(other, one)))
  const free = first.length > 0 ? first : candidates
  return [...free].sort((a, b) => compare(a, b, roster))[0]
}

/** Whether members that support both have supported `a` earlier, and none of them `b`. */
function comesBefore(a: Candidate, b: Candidate): boolean {
  let isEarlier = false
  for (const [peerId, seq] of a.supporters) {
    const other = b.supporters.get(peerId)
    if (other === undefined || other === seq) continue
    if (other < seq) return false
    isEarlier = true
  }
  return isEarlier
}

function compare(a: Candidate, b: Candidate, roster: Roster): number {
  if (a.isRemoval !== b.isRemoval) return a.isRemoval ? -1 : 1
  const place = ({ author }: Candidate): number => roster.members.findIndex(({ peerId }) => peerId === author)
  if (a.author !== b.author) return place(a) - place(b)
  if (a.seq !== b.seq) return a.seq - b.seq
  return a.id < b.id ? -1 : 1
}

function equivocationsOf(
  quorums: readonly { readonly answered: Answered; readonly support: Support }[],
): Equivocation[] {
  const found: Equivocation[] = []
  for (const [i, a] of quorums.entries()) {
    for (const b of quorums.slice(i + 1)) {
      const [first, second] = [a.answered.value, b.answered.value]
      const subject = subjectOf(first.change)
      if (subject === undefined || subject !== subjectOf(second.change)) continue
      if (first.rosterVersion !== second.rosterVersion || isSameChange(first.change, second.change)) continue
      const seats = [...a.support.supporters.keys()].filter((peerId) => b.support.supporters.has(peerId))
      const [low, high] = [a.answered.id, b.answered.id].sort() as [Digest, Digest]
      found.push({ proposals: [low, high], seats: seats.sort() })
    }
  }
  return found
}
