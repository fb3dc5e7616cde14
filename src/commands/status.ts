/**
 * The command `status`: the node on one screen, and what waits for a person. The dashboard shows the same list, so a
 * new reason to look at the node is added here only.
 */
import { commandLine, completeCommands, ownCommand } from '../lib/command-line.ts'
import { fileSystemSize } from '../lib/free-space.ts'
import { gigabytes } from '../lib/memory.ts'
import type { Activity } from '../node/activities.ts'
import { endingConsents } from '../node/consent-warnings.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { nodeKeyEnd } from '../node/node-key-warnings.ts'
import type { PackageReport } from '../node/packages.ts'
import { folderBytes, quotaWords } from '../store/disk-quota.ts'
import { nodeCommand } from './command.ts'
import { activityLine } from './jobs.ts'
import { changeWords, proposalName } from './proposal-lines.ts'
import { day, duration, table } from './terminal.ts'

const DAY_SECONDS = 86_400
/** Days before the end of the roster from which on the operator is told. */
const ROSTER_WARNING_DAYS = 30
/** Free disk space below which the operator is told, bytes: a whole expert of the smallest published models. */
const LOW_DISK = 2e9
/** Share of the quota of the home folder from which on the operator is told. */
const QUOTA_WARNING_SHARE = 0.9

/** Something that a person should look at. */
export interface Attention {
  /** `bad` if the node cannot do its work until somebody acts. */
  readonly level: 'bad' | 'warn'
  readonly text: string
  /** Page of the dashboard on which to act. */
  readonly page: 'consortium' | 'experts' | 'network'
  /** What to run on the command line; absent if there is no command for it. */
  readonly command?: string
}

export interface NodeStatus {
  readonly institution: string
  /** The seat of this node. */
  readonly peerId: string
  /** The key of this node, if it is another one than the id of its seat. */
  readonly nodeKey?: string
  /** When the node key of the seat ends, Unix seconds. */
  readonly nodeKeyExpiresAt?: number
  readonly consortium: string
  readonly isRunning: boolean
  /** Multiaddrs at which others reach this node. */
  readonly addresses: readonly string[]
  /** Number of members of the roster, this node included. */
  readonly members: number
  /** Number of members that are connected; this node counts while it runs. */
  readonly connected: number
  /** Digest of the composition that answers. */
  readonly composition: string
  /** Number of its experts, without the public model. */
  readonly experts: number
  /** Number of packages by state. */
  readonly packages: Readonly<Record<string, number>>
  readonly running: readonly Activity[]
  /** Free bytes of the file system of the home folder. */
  readonly freeBytes: number
  /** Bytes that the home folder takes. */
  readonly homeBytes: number
  /** Bytes that it may take; absent without `--max-disk`. */
  readonly maxDiskBytes?: number
  readonly attention: readonly Attention[]
}

export const STATUS = nodeCommand({
  name: 'status',
  usage: 'status [--watch]',
  parameters: {},
  clientOptions: [
    {
      name: 'watch',
      type: 'boolean',
      help: 'show it again every two seconds, until Ctrl-C; needs a running node',
    },
  ],
  isWatchable: true,
  async *run(node) {
    return nodeStatus(node)
  },
  words: (status) => [
    `${status.institution} in ${status.consortium}${status.isRunning ? '' : '; the node is not running, this is what its home folder holds'}`,
    ...table([
      ['peer id', status.peerId],
      ...(status.nodeKey === undefined
        ? []
        : [
            [
              'node key',
              `${status.nodeKey}${status.nodeKeyExpiresAt === undefined ? '' : ` until ${day(status.nodeKeyExpiresAt)}`}`,
            ],
          ]),
      ['members', `${status.connected} of ${status.members} connected`],
      ['composition', `public model and ${status.experts} expert${status.experts === 1 ? '' : 's'}`],
      ['packages', countWords(status.packages)],
      ['computes', status.running.length === 0 ? 'nothing' : status.running.map(activityLine).join('; ')],
      ['disk', diskWords(status)],
    ]),
    ...(status.attention.length === 0
      ? ['everything is well']
      : status.attention.map(
          ({ level, text, command }) =>
            `${level === 'bad' ? 'PROBLEM' : 'to do'}: ${text}${command === undefined ? '' : `; run: ${command}`}`,
        )),
  ],
})

/** Reads the state of the node; changes and waits for nothing. */
export async function nodeStatus(node: FlexMeshNode): Promise<NodeStatus> {
  const packages = await node.packages()
  const counts: Record<string, number> = {}
  for (const { state } of packages) counts[state] = (counts[state] ?? 0) + 1
  const { digest, experts } = node.composer.served.composition
  const { members } = node.membership.roster()
  const active = members.filter(({ revoked }) => revoked === undefined)
  const disk = await fileSystemSize(node.paths.root)
  const homeBytes = await folderBytes(node.paths.root)
  const maxDiskBytes = node.quota?.maxBytes
  const { seat } = node.membership
  const nodeKey = node.identity.peerId
  const end = nodeKeyEnd(node.membership, node.now())
  return {
    institution: node.settings.institution,
    peerId: seat,
    ...(nodeKey === seat ? {} : { nodeKey }),
    ...(end === undefined ? {} : { nodeKeyExpiresAt: end.expiresAt }),
    consortium: node.charter.name,
    isRunning: node.isRunning,
    addresses: node.addresses(),
    members: active.length,
    connected: node.connectedMembers().length + (node.isRunning ? 1 : 0),
    composition: digest,
    experts: experts.length,
    packages: counts,
    running: node.activities.list(),
    freeBytes: disk.freeBytes,
    homeBytes,
    ...(maxDiskBytes === undefined ? {} : { maxDiskBytes }),
    attention: attentionOf(node, packages, { freeBytes: disk.freeBytes, homeBytes, maxDiskBytes }),
  }
}

interface DiskState {
  readonly freeBytes: number
  readonly homeBytes: number
  readonly maxDiskBytes: number | undefined
}

function diskWords({ freeBytes, homeBytes, maxDiskBytes }: NodeStatus): string {
  const home = `the home folder takes ${gigabytes(homeBytes)}`
  return `${gigabytes(freeBytes)} free; ${maxDiskBytes === undefined ? home : `${home} of ${gigabytes(maxDiskBytes)}`}`
}

/** The worst first. */
function attentionOf(
  node: FlexMeshNode,
  packages: readonly PackageReport[],
  { freeBytes, homeBytes, maxDiskBytes }: DiskState,
): Attention[] {
  const list: Attention[] = []
  const { membership } = node
  const complete = (...words: string[]): string => commandLine([...words, ...node.homeOptions])
  if (node.isCopied) {
    list.push({
      level: 'bad',
      page: 'network',
      text: 'this home was copied or restored from a backup; it signs nothing until a member has told what it holds',
    })
  }
  const left = Math.floor((membership.roster().expiresAt - node.now()) / DAY_SECONDS)
  if (left < ROSTER_WARNING_DAYS) {
    list.push({
      level: left < 0 ? 'bad' : 'warn',
      page: 'consortium',
      text: `the membership of everyone ${left < 0 ? 'has ended' : `ends in ${left} day${left === 1 ? '' : 's'}`}`,
      command: complete('renew'),
    })
  }
  const open = membership.book.proposals().filter(({ state }) => state === 'open')
  for (const { id, proposal, undecided } of open) {
    if (!undecided.includes(membership.seat)) continue
    const nameOf = (seat: string): string => membership.institutionOf(seat)
    list.push({
      level: 'warn',
      page: 'consortium',
      text: `${nameOf(proposal.publisher)} proposes to ${changeWords(proposal.change, nameOf)}; this institution has not answered`,
      command: complete('endorse', proposalName(id)),
    })
  }
  // An application with a proposal waits for those who have not answered the proposal.
  const isProposed = (peerId: string): boolean =>
    open.some(({ proposal: { change } }) => change.kind === 'admit' && change.peerId === peerId)
  const end = nodeKeyEnd(node.membership, node.now())
  const isReplaced = !membership.keys.historyOf(membership.seat).isRuledBy(node.identity.peerId)
  if (isReplaced) {
    list.push({
      level: 'bad',
      page: 'consortium',
      text: 'the key of this home does not rule its seat, so members refuse what this node signs; stop the node',
      command: complete('key', 'delegate'),
    })
  } else if (end?.isNear === true) {
    list.push({
      level: end.daysLeft < 0 ? 'bad' : 'warn',
      page: 'consortium',
      text: completeCommands(nodeKeyEndLine(end.daysLeft), node.homeOptions),
    })
  }
  for (const { institution, peerId } of membership.invitations.requests()) {
    if (isProposed(peerId)) continue
    list.push({
      level: 'warn',
      page: 'consortium',
      text: `${institution} applies for membership`,
      command: complete('approve', peerId),
    })
  }
  for (const { id, state, progress, institution, expert } of packages) {
    const name = `${institution ?? 'unknown'}/${expert ?? 'unknown'}`
    if (state === 'disk-full') {
      list.push({
        level: 'bad',
        page: 'experts',
        text: `the disk has no room for ${name}`,
        command: complete('gc'),
      })
    } else if (progress?.kind === 'failed' && progress.needsOperator === true) {
      list.push({
        level: 'bad',
        page: 'experts',
        text: `${name} could not be judged: ${progress.reason}`,
        command: complete('accept', id),
      })
    }
  }
  for (const { expert, publisher, daysLeft } of endingConsents(node.accepted.manifests(), node.now())) {
    const isOwn = publisher === node.membership.seat
    list.push({
      level: 'warn',
      page: 'experts',
      text: `the consent for ${isOwn ? 'your expert' : `${membership.institutionOf(publisher)}'s expert`} ${expert} ends in ${duration(Math.max(0, daysLeft) * DAY_SECONDS)}`,
      ...(isOwn ? { command: complete('publish', expert) } : {}),
    })
  }
  if (maxDiskBytes !== undefined && homeBytes > QUOTA_WARNING_SHARE * maxDiskBytes) {
    list.push({
      level: homeBytes >= maxDiskBytes ? 'bad' : 'warn',
      page: 'experts',
      text: quotaWords(homeBytes, maxDiskBytes),
      command: complete('gc'),
    })
  }
  if (freeBytes < LOW_DISK) {
    list.push({ level: 'warn', page: 'experts', text: `only ${gigabytes(freeBytes)} of disk space are free` })
  }
  return list.sort((a, b) => Number(a.level === 'warn') - Number(b.level === 'warn'))
}

/** @param daysLeft whole days; negative after the end */
export function nodeKeyEndLine(daysLeft: number): string {
  const when =
    daysLeft < 0
      ? 'has ended, so members refuse what this node signs'
      : `ends in ${daysLeft} day${daysLeft === 1 ? '' : 's'}`
  return `the key of this node ${when}; whoever holds the institution key stops the node and runs ${ownCommand('key', 'delegate')}`
}

function countWords(counts: Readonly<Record<string, number>>): string {
  const words = Object.entries(counts).map(([state, n]) => `${n} ${state.replaceAll('-', ' ')}`)
  return words.length === 0 ? 'none' : words.join(', ')
}
