/** Commands with which members admit institutions: invite and approve. */

import { decodeInvite, inviteId } from '../consortium/invite.ts'
import { ownCommand } from '../lib/command-line.ts'
import { nodeCommand } from './command.ts'
import { INSTITUTION } from './common-parameters.ts'
import { option, optionalPositional, text, whole } from './parameters.ts'
import { type ProposalReport, proposalLines, proposalReport } from './proposal-lines.ts'
import { day } from './terminal.ts'

const DAY_SECONDS = 86_400
/** The lifetime of an invitation in the specification, in days. */
const MAX_DAYS = 7

export interface InviteResult {
  /** The invitation, one line of text. Undefined with `--cancel`. */
  readonly invite?: string
  readonly id: string
  /** Unix seconds. */
  readonly expiresAt?: number
  readonly addresses?: readonly string[]
  /** Whether only programs of this machine can use it. */
  readonly isLocal?: boolean
}

export const INVITE = nodeCommand({
  name: 'invite',
  usage: 'invite [--days N] [--cancel ID]',
  parameters: {
    days: option('days', `days for which the invitation is valid (default ${MAX_DAYS})`, whole(1, MAX_DAYS)),
    cancel: option('cancel', 'end an open invitation; "flexmesh members" lists their ids', text(16)),
  },
  async *run(node, { days = MAX_DAYS, cancel }): AsyncGenerator<never, InviteResult, void> {
    if (cancel !== undefined) {
      await node.membership.invitations.cancel(cancel)
      return { id: cancel }
    }
    const { isLoopback } = await import('../node/invite-addresses.ts')
    const invite = await node.invite(days * DAY_SECONDS)
    const { token, expiresAt, addresses } = decodeInvite(invite)
    return { invite, id: inviteId(token), expiresAt, addresses, isLocal: addresses.every(isLoopback) }
  },
  words: ({ invite, id, expiresAt = 0, addresses = [], isLocal }) =>
    invite === undefined
      ? [`invitation ${id} admits nobody any more`]
      : [
          invite,
          `invitation ${id} admits one institution and is valid until ${day(expiresAt)}; send the line above over a channel that both of you trust`,
          ...addresses.map((address) => `it leads to ${address}`),
          ...(isLocal === true
            ? [
                `warning: only programs of this machine can use it; ${ownCommand('start', '--listen', 'ADDRESS')} changes the address`,
              ]
            : []),
        ],
})

export interface ApproveResult {
  /** Names of the new members. */
  readonly approved: readonly string[]
  /** Admissions that need more support. */
  readonly proposed: readonly ProposalReport[]
  readonly notApproved: readonly { institution: string; peerId: string; reason: string }[]
}

export const APPROVE = nodeCommand({
  name: 'approve',
  usage: 'approve [INSTITUTION]',
  parameters: { who: optionalPositional(INSTITUTION) },
  async *run(node, { who }): AsyncGenerator<never, ApproveResult, void> {
    const { approved, proposed, notApproved } = await node.approve(who)
    const nameOf = (seat: string): string => node.membership.institutionOf(seat)
    return {
      approved,
      proposed: proposed.map(({ proposal }) => proposalReport(proposal, nameOf)),
      notApproved,
    }
  },
  words: ({ approved, proposed, notApproved }) => [
    ...(approved.length === 0 ? [] : [`approved: ${approved.join(', ')}`]),
    ...proposed.flatMap(proposalLines),
    ...notApproved.map(
      ({ institution, peerId, reason }) => `not approved: ${institution} (${peerId}): ${reason}`,
    ),
    ...(notApproved.length === 0 ? [] : [`to dismiss a request: ${ownCommand('reject', 'INSTITUTION')}`]),
  ],
  isIncomplete: ({ notApproved }) => notApproved.length > 0,
})
