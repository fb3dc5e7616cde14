/**
 * The decisions of this node's institution about the consortium: proposing, answering, leaving. Each signs one statement of
 * our own log. Does not know which command asked for it.
 */
import type { ProposedChange } from '../consortium/change.ts'
import type { Answer } from '../consortium/endorsement.ts'
import type { ProposalState } from '../consortium/governance.ts'
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { checkCaughtUp } from './before-signing.ts'
import { signChained } from './chained-effects.ts'
import type { Parts } from './parts.ts'

/** Time for which a proposal may collect support, unless its author says otherwise, seconds. */
const DEFAULT_LIFETIME = 14 * 86_400

/**
 * Propose a change, or endorse the open proposal of exactly this change.
 * @param lifetime seconds, at most `proposalLifetime`
 * @returns the proposal, which may have taken effect already.
 * @throws InputError `not-a-member` if this node has no vote on it, `behind`, `usage` if it cannot be applied.
 */
export function propose(
  parts: Parts,
  change: ProposedChange,
  lifetime = DEFAULT_LIFETIME,
): Promise<ProposalState> {
  return decide(parts, async () => {
    const { membership } = parts
    checkVote(parts, change)
    const open = membership.book.openProposalOf(change)
    if (open !== undefined) return answerOpen(parts, open, 'endorse')
    const expected = membership.preview(change)
    if (typeof expected === 'string') throw new InputError('usage', expected)
    const id = await signChained(parts, 'proposal', (link) => ({
      ...link,
      rosterVersion: membership.roster().version,
      change,
      expiresAt: link.issuedAt + Math.min(lifetime, limit('proposalLifetime')),
    }))
    return membership.book.proposal(id)
  })
}

/**
 * Endorse or reject an open proposal. The first answer is final.
 * @param prefix the first characters of its id.
 * @throws InputError `not-found`, `usage`, `not-a-member`, `behind`.
 */
export function answer(parts: Parts, prefix: string, given: Answer): Promise<ProposalState> {
  return decide(parts, async () => {
    const found = parts.membership.book.proposal(prefix)
    if (found.state !== 'open')
      throw new InputError('usage', `the proposal is ${found.state}${because(found)}`)
    checkVote(parts, found.proposal.change)
    return answerOpen(parts, found, given)
  })
}

function because({ reason }: ProposalState): string {
  return reason === undefined ? '' : `: ${reason}`
}

async function answerOpen(parts: Parts, found: ProposalState, given: Answer): Promise<ProposalState> {
  const { membership } = parts
  const { id, supporters, rejecters } = found
  if (supporters.includes(membership.seat) && given === 'endorse') return found
  if (supporters.includes(membership.seat) || rejecters.includes(membership.seat)) {
    throw new InputError(
      'usage',
      'this node has answered the proposal already, and its first answer is final',
    )
  }
  await signChained(parts, 'endorsement', (link) => ({
    ...link,
    rosterVersion: membership.roster().version,
    proposal: id,
    answer: given,
  }))
  return membership.book.proposal(id)
}

/**
 * Leave the consortium, which needs nobody's consent and cannot be taken back.
 * @param validThroughSeq number of our last statement that stays valid; default: all of them
 * @throws InputError `not-a-member`, `behind`, `usage` for the last member.
 */
export function leave(parts: Parts, validThroughSeq?: number): Promise<Digest> {
  return decide(parts, async () => {
    const { membership } = parts
    checkMember(parts)
    const others = membership
      .roster()
      .members.some(({ peerId, revoked }) => peerId !== membership.seat && revoked === undefined)
    if (!others) throw new InputError('usage', 'the last member cannot leave; delete the home folder instead')
    return signChained(parts, 'leave', (link) => ({
      ...link,
      rosterVersion: membership.roster().version,
      validThroughSeq: Math.min(validThroughSeq ?? link.seq, link.seq),
    }))
  })
}

async function decide<T>(parts: Parts, sign: () => Promise<T>): Promise<T> {
  checkCaughtUp(parts)
  return parts.signing.run(sign)
}

function checkMember({ membership }: Parts): void {
  if (!membership.isMember(membership.seat))
    throw new InputError('not-a-member', 'this node is not a member of its consortium any more')
}

function checkVote(parts: Parts, change: ProposedChange): void {
  checkMember(parts)
  if (parts.membership.mayVoteOn(change)) return
  const names = parts.membership.votersOn(change).join(' or ')
  throw new InputError('not-a-member', `this node has no vote on this change; ask ${names}`)
}
