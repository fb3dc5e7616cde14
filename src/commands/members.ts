/** Commands about membership: who belongs to the consortium, and how founders change that. */
import type { RevocationReason } from '../consortium/member.ts'
import { nodeCommand } from './command.ts'
import { INSTITUTION } from './common-parameters.ts'
import { oneOf, option, optionalPositional, positional, whole } from './parameters.ts'
import { day, daysLeft, table } from './terminal.ts'

const DAY_SECONDS = 86_400
/** Days before the end of the roster from which on `members` warns. */
const WARNING_DAYS = 30

/** Lets the command line find out whether a node runs. */
export const PING = nodeCommand({
  name: 'ping',
  usage: 'ping',
  parameters: {},
  async *run(node) {
    return { peerId: node.identity.peerId, institution: node.settings.institution }
  },
  words: ({ institution, peerId }) => [`${institution} is running as ${peerId}`],
})

export const INVITE = nodeCommand({
  name: 'invite',
  usage: 'invite',
  parameters: {},
  async *run(node) {
    return { invite: await node.invite() }
  },
  words: ({ invite }) => [invite],
})

export const MEMBERS = nodeCommand({
  name: 'members',
  usage: 'members',
  parameters: {},
  async *run(node) {
    const { members, version, expiresAt } = node.membership.roster()
    const connected = node.connectedMembers()
    return {
      consortium: node.charter.name,
      rosterVersion: version,
      /** Unix seconds. */
      rosterExpiresAt: expiresAt,
      /** Negative once the roster has ended. */
      rosterDaysLeft: Math.floor((expiresAt - node.now()) / DAY_SECONDS),
      members: members.map(({ institution, peerId, role, revoked }) => ({
        institution,
        peerId,
        role,
        revoked: revoked !== undefined,
        connected: connected.includes(peerId) || peerId === node.identity.peerId,
      })),
      requests: (await node.membership.requests()).map(({ institution, peerId }) => ({
        institution,
        peerId,
      })),
    }
  },
  words: ({ consortium, rosterVersion, rosterExpiresAt, rosterDaysLeft, members, requests }) => [
    `${consortium}, roster version ${rosterVersion}, valid until ${day(rosterExpiresAt)}`,
    ...table(
      members.map(({ institution, peerId, role, revoked, connected }) => [
        institution,
        peerId,
        role,
        revoked ? 'revoked' : connected ? 'connected' : 'away',
      ]),
    ),
    ...requests.map(({ institution, peerId }) => `waits for approval: ${institution} ${peerId}`),
    ...rosterWarning(rosterDaysLeft),
  ],
})

function rosterWarning(left: number): string[] {
  if (left >= WARNING_DAYS) return []
  const when = left < 0 ? 'has ended' : `ends ${daysLeft(left)}`
  return [`warning: the roster ${when}; a founder confirms it for another year with "flexmesh renew"`]
}

export const APPROVE = nodeCommand({
  name: 'approve',
  usage: 'approve [INSTITUTION]',
  parameters: { who: optionalPositional(INSTITUTION) },
  async *run(node, { who }) {
    return { approved: await node.approve(who) }
  },
  words: ({ approved }) => [`approved: ${approved.join(', ')}`],
})

export const REVOKE = nodeCommand({
  name: 'revoke',
  usage: 'revoke INSTITUTION [--reason left|compromised|other] [--valid-through N]',
  parameters: {
    who: positional(INSTITUTION, 'name the institution, as in "flexmesh revoke INSTITUTION"'),
    reason: option(
      'reason',
      'left, compromised or other (default)',
      oneOf<RevocationReason>('left', 'compromised', 'other'),
    ),
    validThrough: option(
      'valid-through',
      'number of its last statement that still counts; 0 ends all its experts everywhere (default: the last one here)',
      whole(0, Number.MAX_SAFE_INTEGER),
    ),
  },
  async *run(node, { who, reason = 'other', validThrough }) {
    return { revoked: who, ...(await node.revoke(who, reason, validThrough)) }
  },
  words: ({ revoked, validThroughSeq, experts }) => [
    `no longer a member: ${revoked}`,
    ...(experts.length === 0
      ? []
      : [
          `its experts up to statement ${validThroughSeq} stay in use: ${experts.join(', ')}`,
          `to end them everywhere: flexmesh revoke "${revoked}" --valid-through 0`,
        ]),
  ],
})

export const RENEW = nodeCommand({
  name: 'renew',
  usage: 'renew',
  parameters: {},
  async *run(node) {
    return { rosterExpiresAt: await node.renew() }
  },
  words: ({ rosterExpiresAt }) => [
    `the membership of everyone on the roster is confirmed until ${day(rosterExpiresAt)}`,
  ],
})
