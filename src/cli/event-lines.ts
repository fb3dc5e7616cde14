/** Events of a node as lines for its operator, on the terminal or in the log. */

import { changeWords, proposalName } from '../commands/proposal-lines.ts'
import { endingConsentLine } from '../commands/release-lines.ts'
import { nodeKeyEndLine } from '../commands/status.ts'
import { duration } from '../commands/terminal.ts'
import { withdrawalSummary } from '../commands/withdrawals.ts'
import { shortDigest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import type { TrainingEvent } from '../node/activities.ts'
import type { NodeEvent } from '../node/events.ts'

/** What happened, without the losses and the text of a training. */
export function eventLine(event: NodeEvent): string {
  switch (event.event) {
    case 'member':
      return `new member: ${event.institution}`
    case 'revoked':
      return event.isOwn
        ? 'this institution was taken off the roster: others take no new packages of it; the members can admit it again under a new key'
        : `no longer a member: ${event.institution}`
    case 'request':
      return `${event.institution} applies for membership; run: ${ownCommand('approve', event.institution)}`
    case 'proposal':
      return `${event.institution} proposes to ${changeWords(event.change)}; answer with: ${ownCommand('endorse', proposalName(event.id))}, or: ${ownCommand('reject', proposalName(event.id))}`
    case 'equivocation':
      return `CONTRADICTION: two proposals about one thing have both reached their quorum: ${event.proposals.map(proposalName).join(' and ')}. All nodes apply the same one. Supported both: ${event.institutions.join(', ') || 'nobody'}`
    case 'published':
      return `published ${event.expert} as ${shortDigest(event.id)}`
    case 'consent-ending':
      return endingConsentLine({ ...event, institution: '', isOwn: true })
    case 'node-key-ending':
      return nodeKeyEndLine(event.daysLeft)
    case 'withdrawal-open':
      return `withdrawal of ${event.experts.join(', ')}: ${withdrawalSummary(event.members, event.at)}`
    case 'training':
      return trainingLine(event)
    case 'fetching':
      return `fetching ${event.expert} of ${event.institution}, ${(event.bytes / 1e6).toFixed(1)} MB`
    case 'verdict':
      return event.verdict.outcome === 'accepted'
        ? `accepted ${event.verdict.expert} of ${event.institution}`
        : `refused a package of ${event.institution}: ${event.verdict.code} (${event.verdict.reason})`
    case 'withdrawn':
      return `${event.institution} withdrew ${shortDigest(event.id)}`
    case 'set-back':
      return 'this home was set back to an earlier state, as by a snapshot of its disk: members hold later statements of this node. It signs nothing and uses no expert of others until it has caught up with them'
    case 'forked':
      return event.isOwn
        ? 'FORKED: the key of this node has signed two different histories, for example because its home was copied or restored from a backup. No node uses its experts any more. Ask a founder to revoke this key, then join again with a new home.'
        : `FORKED: ${event.institution} (${event.peerId}) has signed two different histories. None of its experts is used any more; ask it what happened`
    case 'final':
      return `co-signed: ${event.size === 1 ? `statement 1 of ${event.institution} is` : `statements 1 to ${event.size} of ${event.institution} are`} final`
    case 'contradiction':
      return `CONTRADICTION: ${event.institution} (${event.peerId}) has signed checkpoints of two different logs; ${ownCommand('log')} shows them`
    case 'keys':
      return keysLine(event)
    case 'composed':
      return [
        `composition ${shortDigest(event.digest)}: public model${event.experts.map((name) => ` + ${name}`).join('')}`,
        ...(event.routerNote === undefined ? [] : [event.routerNote]),
      ].join('; ')
  }
}

function keysLine({ institution, isOwn, isRotation, node }: Extract<NodeEvent, { event: 'keys' }>): string {
  const what = isRotation ? 'rotated its institution key' : 'confirmed its institution key'
  const whose = isOwn ? 'this institution' : institution
  return node === undefined
    ? `${whose} ${what} and ended its node key; its nodes sign nothing until it names another one`
    : `${whose} ${what}; its node key is ${node} now`
}

function trainingLine({ name, state, step, reason }: TrainingEvent): string {
  const count = step === undefined ? '' : `step ${step.step} of ${step.totalSteps}`
  switch (state) {
    case 'started':
      return `training ${name}: started`
    case 'running':
      return `training ${name}: ${count}, ${duration(step?.secondsLeft ?? 0)} left`
    case 'finished':
      return `training ${name}: finished; next: ${ownCommand('publish', name)}`
    case 'stopped':
      return `training ${name}: stopped${count === '' ? '' : ` at ${count}`}; run the same command to continue it`
    case 'failed':
      return `training ${name}: failed: ${reason}`
  }
}
