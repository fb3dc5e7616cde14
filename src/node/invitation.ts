/** Makes an invitation for one more institution, with the addresses of the running node. Does not keep it. */

import type { Membership } from '../consortium/membership.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { inviteAddresses } from './invite-addresses.ts'

const EXAMPLE_ADDRESS = '/ip4/0.0.0.0/tcp/4001'

interface Inviter {
  readonly membership: Membership
  readonly isRunning: boolean
  /** Multiaddrs at which others reach this node. */
  addresses(): readonly string[]
}

/**
 * Invite one more institution.
 * @param lifetime seconds; default and maximum: `inviteLifetime`.
 * @returns the invitation, one line of text.
 * @throws InputError `not-a-member` if this node has no vote on admissions; `not-running` if it does not listen, because
 * nobody could use the invitation.
 */
export async function invite(node: Inviter, lifetime?: number): Promise<string> {
  const { membership, isRunning } = node
  const admission = { kind: 'admit', institution: '', peerId: '' } as const
  if (!membership.mayVoteOn(admission)) {
    const names = membership.votersOn(admission).join(' or ')
    throw new InputError(
      'not-a-member',
      `this node has no vote on admissions; ask ${names} to run flexmesh invite`,
    )
  }
  const addresses = inviteAddresses(node.addresses())
  if (addresses.length === 0) {
    throw new InputError(
      'not-running',
      isRunning
        ? `others cannot reach any address of this node; choose one with ${ownCommand('start', '--listen', 'ADDRESS')}, as in ${EXAMPLE_ADDRESS}`
        : `an invitation names the addresses of the running node; start it first with ${ownCommand('start')}`,
    )
  }
  return membership.invitations.invite(addresses, lifetime)
}
