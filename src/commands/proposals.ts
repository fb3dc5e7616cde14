/** Commands about decisions of the consortium: propose, list, endorse, reject, leave. */

import type { ProposedChange } from '../consortium/change.ts'
import type { RevocationReason } from '../consortium/member.ts'
import type { Digest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { nodeCommand } from './command.ts'
import { INSTITUTION } from './common-parameters.ts'
import { oneOf, option, type Parameter, positional, text, usage, whole } from './parameters.ts'
import { type ProposalReport, proposalLines, proposalName, proposalReport } from './proposal-lines.ts'

const DAY_SECONDS = 86_400
/** The lifetime of a proposal in the specification, in days. */
const MAX_DAYS = 30
const MAX_RULES = 300
const MAX_PEER_ID = 64
const MAX_DIGEST = 71
const PROPOSAL = text(MAX_DIGEST)
const KINDS = ['admit', 'revoke', 'rotate', 'rules', 'renew', 'withdraw'] as const
const USAGE =
  'propose admit|revoke|rotate INSTITUTION, propose withdraw PACKAGE, propose rules "KIND=RULE, ...", or propose renew'

/** The second positional argument. */
const SUBJECT: Parameter<string | undefined> = {
  positionals: 1,
  read: ({ positionals: [, second] }) =>
    second === undefined ? undefined : text(MAX_RULES).parse(second, 'propose'),
  decode: (fields, key) => (fields.has(key) ? fields.text(key, MAX_RULES) : undefined),
}

export const PROPOSE = nodeCommand({
  name: 'propose',
  usage: `${USAGE} [--days N]`,
  parameters: {
    kind: positional(oneOf(...KINDS), `say what to propose: ${USAGE}`),
    subject: SUBJECT,
    days: option('days', `days in which to collect support (default 14)`, whole(1, MAX_DAYS)),
    peer: option(
      'peer',
      'with admit: peer id of an institution that has not applied here',
      text(MAX_PEER_ID),
    ),
    next: option('next', 'with admit or rotate: digest of the key after that', text(MAX_DIGEST)),
    key: option('key', 'with rotate: peer id of the new key', text(MAX_PEER_ID)),
    reason: option(
      'reason',
      'with revoke: left, compromised or other (default)',
      oneOf<RevocationReason>('left', 'compromised', 'other'),
    ),
    validThrough: option(
      'valid-through',
      'with revoke: number of its last statement that still counts (default: the last one here)',
      whole(0, Number.MAX_SAFE_INTEGER),
    ),
  },
  async *run(node, request): AsyncGenerator<never, ProposalReport, void> {
    const { days } = request
    const change = await changeOf(node, request)
    const found = await node.propose(change, days === undefined ? undefined : days * DAY_SECONDS)
    return proposalReport(found, (seat) => node.membership.institutionOf(seat))
  },
  words: proposalLines,
})

interface ChangeRequest {
  readonly kind: (typeof KINDS)[number]
  readonly subject: string | undefined
  readonly peer: string | undefined
  readonly next: string | undefined
  readonly key: string | undefined
  readonly reason: RevocationReason | undefined
  readonly validThrough: number | undefined
}

/** @throws InputError `usage`, `not-found`. */
async function changeOf(node: FlexMeshNode, request: ChangeRequest): Promise<ProposedChange> {
  const { kind, subject, peer, key, reason = 'other', validThrough } = request
  if (kind === 'renew') return { kind }
  if (subject === undefined) throw usage(`propose ${kind}: ${USAGE}`)
  const next = request.next === undefined ? undefined : digest(request.next)
  switch (kind) {
    case 'rules': {
      const { parseRules } = await import('../consortium/rules.ts')
      return { kind, rules: parseRules(subject, node.membership.roster().rules) }
    }
    case 'admit':
      return { kind, ...applicant(node, subject, peer), ...(next === undefined ? {} : { next }) }
    case 'revoke': {
      const { peerId: seat, revoked } = member(node, subject)
      const tip = await node.catalogue.tip(seat)
      const validThroughSeq = validThrough ?? revoked?.validThroughSeq ?? tip?.seq ?? 0
      return { kind, seat, reason, validThroughSeq }
    }
    case 'withdraw':
      return withdrawalOf(node, subject)
    case 'rotate':
      if (key === undefined || next === undefined) throw usage('propose rotate: give --key and --next')
      return { kind, seat: member(node, subject).peerId, key, next }
  }
}

function digest(given: string): Digest {
  if (/^sha256:[a-f0-9]{64}$/.test(given)) return given as Digest
  throw usage(`--next: expected sha256: and 64 hexadecimal digits, got "${given}"`)
}

/** The withdrawal of the packages that match a name, for their owner. @throws InputError `not-found`, `usage`. */
async function withdrawalOf(node: FlexMeshNode, name: string): Promise<ProposedChange> {
  const { standingPackages } = await import('../node/packages.ts')
  const [first, ...others] = await standingPackages(node.parts, name)
  if (first === undefined) throw new InputError('not-found', `no package that stands matches "${name}"`)
  if (others.some(({ manifest }) => manifest.publisher !== first.manifest.publisher)) {
    throw usage(`packages of several institutions match "${name}"; name one by the beginning of its id`)
  }
  const seat = first.manifest.publisher
  return { kind: 'withdraw', seat, manifests: [first, ...others].map(({ id }) => id) }
}

function member(node: FlexMeshNode, who: string) {
  const found = node.membership.findByName(who)
  if (found === undefined) throw new InputError('not-found', `${who} is not a member`)
  return found
}

/** The institution that has applied under a name or peer id, or the one that the request describes in full. */
function applicant(node: FlexMeshNode, who: string, peer: string | undefined) {
  if (peer !== undefined) return { institution: who, peerId: peer }
  const [request, ...others] = node.membership.invitations.named(who)
  if (request === undefined)
    throw new InputError('not-found', `${who} has not applied here; name its key with --peer`)
  if (others.length > 0) throw usage(`several requests have the name ${who}; name one by its peer id`)
  return { institution: request.institution, peerId: request.peerId }
}

export const PROPOSALS = nodeCommand({
  name: 'proposals',
  usage: 'proposals [--state open|applied|expired|impossible]',
  parameters: {
    state: option(
      'state',
      'open, applied, expired or impossible (default: all)',
      oneOf('open', 'applied', 'expired', 'impossible'),
    ),
  },
  async *run(node, { state: wanted }) {
    const nameOf = (seat: string): string => node.membership.institutionOf(seat)
    return {
      proposals: node.membership.book
        .proposals()
        .filter(({ state }) => wanted === undefined || state === wanted)
        .map((found) => proposalReport(found, nameOf)),
      /** Contradicting proposals that both had their quorum at one version of the roster. */
      equivocations: node.membership.book.equivocations().map(({ proposals, seats }) => ({
        proposals: proposals.map(proposalName),
        institutions: seats.map(nameOf),
      })),
    }
  },
  words: ({ proposals, equivocations }) => [
    ...(proposals.length === 0 ? ['no proposals'] : proposals.flatMap(proposalLines)),
    ...equivocations.map(
      ({ proposals: both, institutions }) =>
        `warning: ${both.join(' and ')} contradict each other and both reached their quorum; supported both: ${institutions.join(', ') || 'nobody'}`,
    ),
  ],
})

export const ENDORSE = nodeCommand({
  name: 'endorse',
  usage: 'endorse ID',
  parameters: { id: positional(PROPOSAL, `name the proposal as ${ownCommand('proposals')} lists it`) },
  async *run(node, { id }): AsyncGenerator<never, ProposalReport, void> {
    const found = await node.answer(id, 'endorse')
    return proposalReport(found, (seat) => node.membership.institutionOf(seat))
  },
  words: proposalLines,
})

/** What was rejected: the request of an institution, or a proposal. */
export interface RejectResult {
  readonly rejected?: string
  readonly peerId?: string
  readonly proposal?: ProposalReport
}

export const REJECT = nodeCommand({
  name: 'reject',
  usage: 'reject INSTITUTION|ID',
  parameters: {
    who: positional(
      INSTITUTION,
      `name the institution as ${ownCommand('members')} lists it, or the proposal as ${ownCommand('proposals')} does`,
    ),
  },
  async *run(node, { who }): AsyncGenerator<never, RejectResult, void> {
    const { invitations } = node.membership
    if (invitations.named(who).length > 0 || !isProposal(node, who)) {
      const { institution, peerId } = await invitations.reject(who)
      return { rejected: institution, peerId }
    }
    const found = await node.answer(who, 'reject')
    return { proposal: proposalReport(found, (seat) => node.membership.institutionOf(seat)) }
  },
  words: ({ rejected, peerId, proposal }) =>
    proposal === undefined
      ? [
          `rejected: ${rejected} (${peerId}); its invitation is open again, ${ownCommand('invite', '--cancel', 'ID')} ends it`,
        ]
      : proposalLines(proposal),
})

function isProposal(node: FlexMeshNode, prefix: string): boolean {
  try {
    node.membership.book.proposal(prefix)
    return true
  } catch (error) {
    if (error instanceof FlexMeshError && error.code === 'not-found') return false
    throw error
  }
}

export const LEAVE = nodeCommand({
  name: 'leave',
  usage: 'leave [--valid-through N]',
  parameters: {
    validThrough: option(
      'valid-through',
      'number of the last own statement that still counts; 0 ends all own experts everywhere (default: all count)',
      whole(0, Number.MAX_SAFE_INTEGER),
    ),
  },
  async *run(node, { validThrough }) {
    return { left: node.charter.name, statement: await node.leave(validThrough) }
  },
  words: ({ left }) => [
    `this institution has left "${left}"; keep the node running until ${ownCommand('members')} has shown the others as connected, so that they learn it`,
  ],
})
