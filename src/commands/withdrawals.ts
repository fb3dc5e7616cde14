/** The command `withdrawals`: which members have answered each withdrawal, and what they did. */
import { shortDigest } from '../lib/bytes.ts'
import type { MemberAnswer, WithdrawalReport } from '../node/withdrawals.ts'
import { nodeCommand } from './command.ts'
import { ago, day } from './terminal.ts'

export const WITHDRAWALS = nodeCommand({
  name: 'withdrawals',
  usage: 'withdrawals',
  parameters: {},
  async *run(node) {
    return { now: node.now(), withdrawals: await node.withdrawals() }
  },
  words: ({ now, withdrawals }) =>
    withdrawals.length === 0
      ? ['no expert was withdrawn; packages that were replaced by a later one are not listed']
      : withdrawals.flatMap((report) => withdrawalLines(report, now)),
})

function withdrawalLines(report: WithdrawalReport, now: number): string[] {
  const { packages, institution, reason, issuedAt, members } = report
  const by = reason === 'quorum' ? ' by a quorum' : ''
  const names = [...new Set(packages.map(({ expert }) => expert))].join(', ')
  return [
    `${names} of ${institution}, withdrawn${by} on ${day(issuedAt)}: ${withdrawalSummary(members, now)}`,
    ...members.filter(({ state }) => state !== 'waiting').map((member) => `  ${answerLine(member)}`),
  ]
}

/** "8 of 9 dropped it; Institute of Logic last seen 3 h ago". @param now Unix seconds */
export function withdrawalSummary(
  members: readonly Pick<MemberAnswer, 'institution' | 'isSelf' | 'state' | 'isConnected' | 'lastSeenAt'>[],
  now: number,
): string {
  const count = (...states: MemberAnswer['state'][]): number =>
    members.filter(({ state }) => states.includes(state)).length
  const never = count('never')
  const keeps = count('keeps')
  return [
    `${count('dropped')} of ${members.length} dropped it`,
    ...(never === 0 ? [] : [`${never} never had it`]),
    ...(keeps === 0 ? [] : [`${keeps} still ${keeps === 1 ? 'has' : 'have'} its file`]),
    ...members
      .filter(({ state }) => state === 'waiting')
      .map((member) => `${member.institution} ${waitingWords(member, now)}`),
  ].join('; ')
}

function waitingWords(
  { isSelf, isConnected, lastSeenAt }: Pick<MemberAnswer, 'isSelf' | 'isConnected' | 'lastSeenAt'>,
  now: number,
): string {
  if (isSelf) return '(this node) has not answered yet'
  if (isConnected) return 'has not answered yet'
  return lastSeenAt === undefined ? 'has not been seen by this node' : `last seen ${ago(now - lastSeenAt)}`
}

function answerLine({ institution, answeredAt = 0, answer }: MemberAnswer): string {
  const { packages = [], compositions = [], exports = [] } = answer ?? {}
  const dropped = packages.flatMap((one) => one.dropped)
  const kept = packages.flatMap((one) => (one.held === 'never' ? [] : one.kept))
  const unmarked = exports.filter(({ marked }) => !marked).length
  const facts = [
    packages.every(({ held }) => held === 'never') ? 'never had it' : `deleted ${files(dropped.length)}`,
    ...kept.map(({ sha256, reason }) => `still has ${shortDigest(sha256)} (${KEPT_WORDS[reason]})`),
    ...compositions.map(({ before, after }) =>
      after === undefined
        ? `stopped composition ${shortDigest(before)}`
        : `composition ${shortDigest(before)} became ${shortDigest(after)}`,
    ),
    ...(exports.length === 0 ? [] : [`marked ${exports.length - unmarked} of ${exports.length} exports`]),
  ]
  return `${institution}, ${new Date(answeredAt * 1000).toISOString()}: ${facts.join('; ')}`
}

const KEPT_WORDS = {
  'other-package': 'another package has the same file',
  'public-model': 'it belongs to the public model',
  'not-deleted': 'the disk refused to delete it',
} as const

function files(count: number): string {
  return `${count} file${count === 1 ? '' : 's'}`
}
