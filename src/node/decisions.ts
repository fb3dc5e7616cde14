/**
 * Carries out what this member decides about the consortium, and announces what it has signed. Does not count votes.
 */

import type { ProposalState } from '../consortium/governance.ts'
import type { RevocationReason } from '../consortium/member.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { propose } from '../pipeline/own-decisions.ts'
import { announce } from '../pipeline/own-log.ts'
import type { Parts } from '../pipeline/parts.ts'

/** Carry out a decision, and announce what it has signed even if it failed half-way. */
export async function announcing<T>(parts: Parts, decide: () => Promise<T>): Promise<T> {
  try {
    return await decide()
  } finally {
    await announce(parts)
  }
}

export interface Revocation {
  readonly proposal: ProposalState
  /** Number of the member's last statement that stays valid. */
  readonly validThroughSeq: number
  /** Names of the member's experts that are in use here. */
  readonly experts: string[]
}

/**
 * Propose to revoke a member, or to let fewer statements of one that was revoked stay valid.
 * @param who name or peer id.
 * @param validThroughSeq the number of its last statement that stays valid; default: the last one that this node holds.
 * @throws InputError `not-found`, `not-a-member`, `usage`.
 */
export async function revoke(
  parts: Parts,
  who: string,
  reason: RevocationReason,
  validThroughSeq?: number,
): Promise<Revocation> {
  const { membership, catalogue, accepted } = parts
  const member = membership.findByName(who)
  if (member === undefined) throw new InputError('not-found', `${who} is not a member`)
  const { peerId: seat } = member
  if (seat === membership.seat)
    throw new InputError(
      'usage',
      `an institution does not revoke itself; ${ownCommand('leave')} ends its membership`,
    )
  const tip = await catalogue.tip(seat)
  const through = validThroughSeq ?? member.revoked?.validThroughSeq ?? tip?.seq ?? 0
  const change = { kind: 'revoke', seat, reason, validThroughSeq: through } as const
  const proposal = await announcing(parts, () => propose(parts, change))
  if (proposal.state === 'applied') await parts.disconnect(seat)
  const stay = accepted.list().filter(({ peerId }) => peerId === seat)
  return { proposal, validThroughSeq: through, experts: stay.map(({ name }) => name) }
}
