/** Proposals in words: what is proposed, and how far it is. */
import type { ProposedChange } from '../consortium/change.ts'
import type { ProposalState } from '../consortium/governance.ts'
import { CHANGE_KINDS, writeRule } from '../consortium/rules.ts'
import type { Digest } from '../lib/bytes.ts'
import { day } from './terminal.ts'

const NAME_DIGITS = 8

/** The first digits of a proposal's id, which commands take as its name. */
export function proposalName(id: Digest): string {
  return id.slice('sha256:'.length, 'sha256:'.length + NAME_DIGITS)
}

/**
 * What a change does, after "proposes to".
 * @param nameOf name of a member for people; default: its peer id
 */
export function changeWords(change: ProposedChange, nameOf = (seat: string): string => seat): string {
  switch (change.kind) {
    case 'admit':
      return `admit ${change.institution} (${change.peerId})`
    case 'revoke':
      return `revoke ${nameOf(change.seat)} after statement ${change.validThroughSeq} (${change.reason})`
    case 'rotate':
      return `replace the key of ${nameOf(change.seat)} by ${change.key}`
    case 'rules':
      return `change the rules: ${CHANGE_KINDS.map((kind) => `${kind} ${writeRule(change.rules[kind])}`).join(', ')}`
    case 'renew':
      return 'renew the membership of everyone'
    case 'withdraw':
      return `withdraw ${change.manifests.length} packages of ${nameOf(change.seat)}`
  }
}

/** A proposal as commands print it as JSON. */
export interface ProposalReport {
  readonly id: Digest
  /** First digits of the id, which commands take. */
  readonly name: string
  readonly change: ProposedChange
  /** The change in words. */
  readonly text: string
  readonly by: string
  readonly state: ProposalState['state']
  /** Why it cannot be applied. */
  readonly reason?: string
  /** Version of the roster that it has made. */
  readonly rosterVersion?: number
  /** Names of institutions. */
  readonly supporters: readonly string[]
  readonly rejecters: readonly string[]
  readonly undecided: readonly string[]
  /** See `ProposalState`. */
  readonly needed?: number
  /** Unix seconds. */
  readonly expiresAt: number
}

export function proposalReport(found: ProposalState, nameOf: (seat: string) => string): ProposalReport {
  const { id, proposal, state, reason, appliedAs } = found
  return {
    id,
    name: proposalName(id),
    change: proposal.change,
    text: changeWords(proposal.change, nameOf),
    by: nameOf(proposal.publisher),
    state,
    ...(reason === undefined ? {} : { reason }),
    ...(appliedAs === undefined ? {} : { rosterVersion: appliedAs }),
    supporters: found.supporters.map(nameOf),
    rejecters: found.rejecters.map(nameOf),
    undecided: found.undecided.map(nameOf),
    ...(found.needed === undefined ? {} : { needed: found.needed }),
    expiresAt: proposal.expiresAt,
  }
}

/** How far a proposal is, and what to do next. */
export function proposalLines(report: ProposalReport): string[] {
  const { name, text, state, reason, rosterVersion, supporters, rejecters, undecided, needed } = report
  const head = `${name}  ${report.by} proposes to ${text}`
  switch (state) {
    case 'applied':
      return [head, `  in effect since roster version ${rosterVersion}`]
    case 'expired':
      return [
        head,
        `  ended on ${day(report.expiresAt)} with ${needed === undefined ? `the support of ${supporters.join(', ') || 'nobody'}` : `${supporters.length} of ${needed}`}`,
      ]
    case 'impossible':
      return [head, `  not possible now: ${reason}`]
    case 'open':
      return [
        head,
        `  ${supporters.length} of ${needed} until ${day(report.expiresAt)}: ${supporters.join(', ') || 'nobody'}${rejecters.length === 0 ? '' : `; against: ${rejecters.join(', ')}`}`,
        `  still to answer: ${undecided.join(', ') || 'nobody'}; each endorses with: flexmesh endorse ${name}`,
      ]
  }
}
