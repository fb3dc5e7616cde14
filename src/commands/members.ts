/** Commands about members: who belongs to the consortium, and how the members end or renew that. */

import type { RevocationReason } from '../consortium/member.ts'
import { CHANGE_KINDS, writeRule } from '../consortium/rules.ts'
import { ownCommand } from '../lib/command-line.ts'
import { limit } from '../lib/limits.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { nodeCommand } from './command.ts'
import { INSTITUTION } from './common-parameters.ts'
import { oneOf, option, positional, text, whole } from './parameters.ts'
import { proposalLines, proposalReport } from './proposal-lines.ts'
import { day, daysLeft, table } from './terminal.ts'

const DAY_SECONDS = 86_400
const MAX_ADDRESS = 256

/** Lets the command line find out whether a node runs. */
export const PING = nodeCommand({
  name: 'ping',
  usage: 'ping',
  parameters: {},
  async *run(node) {
    return { peerId: node.membership.seat, institution: node.settings.institution }
  },
  words: ({ institution, peerId }) => [`${institution} is running as ${peerId}`],
})

export const MEMBERS = nodeCommand({
  name: 'members',
  usage: 'members',
  parameters: {},
  async *run(node) {
    const { members, version, expiresAt, rules } = node.membership.roster()
    const { invitations } = node.membership
    const { isRunning } = node
    const { seat } = node.membership
    const connected = node.connectedMembers()
    const links = await node.memberLinks()
    return {
      consortium: node.charter.name,
      rosterVersion: version,
      /** Unix seconds. */
      rosterExpiresAt: expiresAt,
      /** Negative once the roster has ended. */
      rosterDaysLeft: Math.floor((expiresAt - node.now()) / DAY_SECONDS),
      /** Whether the node of this home is running. Nobody is connected to one that is not. */
      isRunning,
      /** Multiaddrs at which others reach this node. */
      addresses: node.addresses(),
      members: members.map(({ institution, peerId, role, revoked }) => ({
        institution,
        peerId,
        role,
        revoked: revoked !== undefined,
        /** Whether it has signed two different histories, so that none of its packages is used. */
        forked: node.isForked(peerId),
        isSelf: peerId === seat,
        connected: connected.includes(peerId) || (isRunning && peerId === seat),
        ...links.get(peerId),
        ...nodeKeyOf(node, peerId),
      })),
      /** Who decides what, in words. */
      rules: CHANGE_KINDS.map((kind) => ({ kind, rule: writeRule(rules[kind]) })),
      requests: invitations.requests().map((request) => {
        const { institution, peerId } = request
        const obstacle = node.membership.obstacleTo(request)
        return { institution, peerId, ...(obstacle === undefined ? {} : { obstacle }) }
      }),
      invitations: invitations.open(),
    }
  },
  words: (result) => [
    `${result.consortium}, roster version ${result.rosterVersion}, valid until ${day(result.rosterExpiresAt)}`,
    ...(result.isRunning ? [] : ['the node is not running; this is what its home folder holds']),
    ...table(
      result.members.map((member) => [
        member.institution,
        member.peerId,
        member.role,
        stateOf(member, result.isRunning),
      ]),
    ),
    ...result.addresses.map((address) => `others reach this node at ${address}`),
    ...result.requests.map(
      ({ institution, peerId, obstacle }) =>
        `waits for approval: ${institution} ${peerId}${obstacle === undefined ? '' : `, which is not possible: ${obstacle}`}`,
    ),
    ...result.invitations.map(({ id, expiresAt }) => `open invitation ${id}, valid until ${day(expiresAt)}`),
    ...rosterWarning(result.rosterDaysLeft),
  ],
})

/** The end of the node key of a member, Unix seconds; nothing if its institution key signs. */
function nodeKeyOf(node: FlexMeshNode, seat: string): { readonly nodeKeyExpiresAt?: number } {
  const { node: delegated } = node.membership.keys.historyOf(seat).current()
  return delegated === undefined ? {} : { nodeKeyExpiresAt: delegated.expiresAt }
}

/** Empty for another member if no node runs, because nobody knows. */
function stateOf(
  {
    revoked,
    forked,
    isSelf,
    connected,
  }: { revoked: boolean; forked: boolean; isSelf: boolean; connected: boolean },
  isRunning: boolean,
): string {
  if (revoked) return 'revoked'
  if (forked)
    return isSelf ? 'this node, frozen: its key signed two histories' : 'frozen: signed two histories'
  if (isSelf) return 'this node'
  if (!isRunning) return ''
  return connected ? 'connected' : 'away'
}

export const CONNECT = nodeCommand({
  name: 'connect',
  usage: 'connect ADDRESS',
  parameters: {
    address: positional(
      text(MAX_ADDRESS),
      'give the address that "flexmesh members" prints at the other node',
    ),
  },
  async *run(node, { address }, signal) {
    return node.connect(address, signal)
  },
  words: ({ institution, outcome, reason }) => {
    if (outcome === 'connected') return [`connected to ${institution}; the address is kept`]
    if (outcome === 'not-running')
      return [`the address of ${institution} is kept; the node uses it when it starts`]
    return [
      `not connected to ${institution}: ${reason}`,
      'the address is kept, and the node tries it when it starts',
    ]
  },
  isIncomplete: ({ outcome }) => outcome === 'unreachable',
})

function rosterWarning(left: number): string[] {
  if (left * DAY_SECONDS >= limit('rosterWarning')) return []
  const when = left < 0 ? 'has ended' : `ends ${daysLeft(left)}`
  return [`warning: the roster ${when}; the members confirm it for another year with ${ownCommand('renew')}`]
}

export const REVOKE = nodeCommand({
  name: 'revoke',
  usage: 'revoke INSTITUTION [--reason left|compromised|other] [--valid-through N]',
  parameters: {
    who: positional(INSTITUTION, `name the institution, as in ${ownCommand('revoke', 'INSTITUTION')}`),
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
    const { proposal, ...rest } = await node.revoke(who, reason, validThrough)
    const report = proposalReport(proposal, (seat) => node.membership.institutionOf(seat))
    return { revoked: who, proposal: report, ...rest }
  },
  words: ({ revoked, proposal, validThroughSeq, experts }) => [
    ...(proposal.state === 'applied' ? [`no longer a member: ${revoked}`] : proposalLines(proposal)),
    ...(experts.length === 0
      ? []
      : [
          `its experts up to statement ${validThroughSeq} stay in use${proposal.state === 'applied' ? '' : ' then'}: ${experts.join(', ')}`,
          `to end them everywhere: ${ownCommand('revoke', revoked, '--valid-through', '0')}`,
        ]),
  ],
})

export const RENEW = nodeCommand({
  name: 'renew',
  usage: 'renew',
  parameters: {},
  async *run(node) {
    const found = await node.propose({ kind: 'renew' })
    const proposal = proposalReport(found, (seat) => node.membership.institutionOf(seat))
    return { proposal, rosterExpiresAt: node.membership.roster().expiresAt }
  },
  words: ({ proposal, rosterExpiresAt }) =>
    proposal.state === 'applied'
      ? [`the membership of everyone on the roster is confirmed until ${day(rosterExpiresAt)}`]
      : proposalLines(proposal),
})
