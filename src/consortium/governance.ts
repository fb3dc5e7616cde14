/**
 * The set of all statements about the consortium that this node holds, and what follows from it: the roster and the state
 * of each proposal. Implements protocols/consortium-charter, section "Deriving the roster". Writes nothing and does not
 * verify signatures.
 */
import { readEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { NO_STATEMENT, openStatement, type SignerCheck } from '../identity/statement.ts'
import { type Digest, digestOf, utf8 } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { applyChange } from './apply-change.ts'
import { isSameChange, type ProposedChange } from './change.ts'
import { type DerivedRoster, deriveRoster, type GovernanceInput, type KnownLeave } from './derive-roster.ts'
import { decodeEndorsement } from './endorsement.ts'
import type { KeyChange } from './key-history.ts'
import { decodeLeave } from './leave.ts'
import { decodeProposal, type Proposal } from './proposal.ts'
import type { Roster } from './roster.ts'
import {
  type Answered,
  electorateOf,
  type GivenAnswer,
  type GovernanceStatement,
  supportOf,
} from './support.ts'

/** A proposal and how far it is. */
export interface ProposalState {
  readonly id: Digest
  readonly proposal: Proposal
  /** `impossible` as long as the change contradicts the roster; `reason` says why. */
  readonly state: 'open' | 'applied' | 'expired' | 'impossible'
  readonly reason?: string
  /** Version of the roster that the proposal has made. */
  readonly appliedAs?: number
  /** Members whose answers counted when the proposal was applied or ended; for the other states, those that count now. */
  readonly supporters: readonly PeerIdString[]
  readonly rejecters: readonly PeerIdString[]
  /**
   * Number of supporters that the rules asked for when the proposal was applied or ended; for the other states, now.
   * Absent if that cannot be told, because the roster changed before the proposal ended.
   */
  readonly needed?: number
  /** Members that may still answer. */
  readonly undecided: readonly PeerIdString[]
}

interface Held {
  readonly statement: GovernanceStatement
  readonly envelope: Uint8Array
}

/**
 * Open an envelope that has one signature, by a key that may sign for the publisher.
 * @throws FormatError, VerificationError; `wrong-type` for an envelope of another kind.
 */
export function openGovernanceStatement(envelope: Uint8Array, check?: SignerCheck): GovernanceStatement {
  const { payloadType } = readEnvelope(envelope)
  switch (payloadType) {
    case MEDIA_TYPES.proposal:
      return { kind: 'proposal', ...openStatement(envelope, payloadType, decodeProposal, check) }
    case MEDIA_TYPES.endorsement:
      return { kind: 'endorsement', ...openStatement(envelope, payloadType, decodeEndorsement, check) }
    case MEDIA_TYPES.leave:
      return { kind: 'leave', ...openStatement(envelope, payloadType, decodeLeave, check) }
    default:
      throw new VerificationError('wrong-type', `${payloadType} is no statement about a consortium`)
  }
}

/** Read a statement whose signature was verified before it was stored. @throws FormatError, VerificationError. */
export function readGovernanceStatement(envelope: Uint8Array): GovernanceStatement {
  const { payloadType, payload } = readEnvelope(envelope)
  const id = digestOf(payload)
  switch (payloadType) {
    case MEDIA_TYPES.proposal:
      return { kind: 'proposal', id, value: decodeProposal(payload) }
    case MEDIA_TYPES.endorsement:
      return { kind: 'endorsement', id, value: decodeEndorsement(payload) }
    case MEDIA_TYPES.leave:
      return { kind: 'leave', id, value: decodeLeave(payload) }
    default:
      throw new FormatError('bad-field', `${payloadType} is no statement about a consortium`)
  }
}

export class Governance {
  /** Statements by id. */
  readonly #held = new Map<Digest, Held>()
  readonly #counts = new Map<PeerIdString, number>()
  readonly #keys = new Map<PeerIdString, readonly KeyChange[]>()
  #input: GovernanceInput | undefined

  has(id: Digest): boolean {
    return this.#held.has(id)
  }

  /** Whether a member has as many statements as a log may hold. */
  isFull(publisher: PeerIdString): boolean {
    return (this.#counts.get(publisher) ?? 0) >= limit('statementsPerPublisher')
  }

  add(statement: GovernanceStatement, envelope: Uint8Array): void {
    if (this.#held.has(statement.id)) return
    this.#held.set(statement.id, { statement, envelope })
    const { publisher } = statement.value
    this.#counts.set(publisher, (this.#counts.get(publisher) ?? 0) + 1)
    this.#input = undefined
  }

  /** A seat has stated its keys, which may end statements about the consortium. */
  addKeys(publisher: PeerIdString, change: KeyChange): void {
    this.#keys.set(publisher, [...(this.#keys.get(publisher) ?? []), change])
    this.#input = undefined
  }

  /** Digest of the ids of all statements, equal at two nodes that hold the same ones; NO_STATEMENT without any. */
  digest(): Digest {
    if (this.#held.size === 0) return NO_STATEMENT
    return digestOf(utf8([...this.#held.keys()].sort().join('\n')))
  }

  /**
   * Envelopes of some members' statements, those of one member in the order of its log.
   * @param publishers in the order in which the statements are returned
   */
  envelopes(publishers: readonly PeerIdString[]): Uint8Array[] {
    const all = [...this.#held.values()]
    return publishers.flatMap((publisher) =>
      all
        .filter(({ statement }) => statement.value.publisher === publisher)
        .sort((a, b) => a.statement.value.seq - b.statement.value.seq)
        .map(({ envelope }) => envelope),
    )
  }

  derive(base: Roster): DerivedRoster {
    return deriveRoster(base, this.#statements())
  }

  /** Every proposal, oldest first. @param now Unix seconds */
  proposals({ roster, versions, applied }: DerivedRoster, now: number): ProposalState[] {
    const states = this.#statements().proposals.map((answered): ProposalState => {
      const { id, value } = answered
      const appliedAs = applied.get(id)
      if (appliedAs !== undefined) {
        const ruling = versions.find(({ version }) => version === appliedAs - 1) ?? roster
        return { ...countAt(answered, ruling), state: 'applied', appliedAs }
      }
      if (value.expiresAt < now) return { ...countAtEnd(answered, versions), state: 'expired' }
      const counted = countAt(answered, roster)
      if (answered.endsAt <= roster.version)
        return {
          ...counted,
          state: 'impossible',
          reason: 'the key that has signed it was replaced before it',
        }
      const next = applyChange(roster, value.change, now)
      return typeof next === 'string'
        ? { ...counted, state: 'impossible', reason: next }
        : { ...counted, state: 'open' }
    })
    return states.sort((a, b) => a.proposal.issuedAt - b.proposal.issuedAt || (a.id < b.id ? -1 : 1))
  }

  /** The open proposal of a change; of several the one with the smallest id, so that all nodes choose the same. */
  openProposalOf(change: ProposedChange, derived: DerivedRoster, now: number): ProposalState | undefined {
    return this.proposals(derived, now)
      .filter(({ state, proposal }) => state === 'open' && isSameChange(proposal.change, change))
      .sort((a, b) => (a.id < b.id ? -1 : 1))[0]
  }

  #statements(): GovernanceInput {
    this.#input ??= collect(
      [...this.#held.values()].map(({ statement }) => statement),
      this.#keys,
    )
    return this.#input
  }
}

type Counted = Omit<ProposalState, 'state' | 'reason' | 'appliedAs'>

/** Counts the answers by the rules of one version of the roster. */
function countAt(answered: Answered, roster: Roster): Counted & { readonly needed: number } {
  const { id, value } = answered
  const { supporters, rejecters, needed } = supportOf(answered, roster, 'lenient')
  const undecided = electorateOf(roster, value.change)
    .voters.map(({ peerId }) => peerId)
    .filter((peerId) => !supporters.has(peerId) && !rejecters.includes(peerId))
  return { id, proposal: value, supporters: [...supporters.keys()], rejecters, needed, undecided }
}

/**
 * Counts the answers to a proposal whose time has ended. When a version of the roster began is not recorded, so any version
 * that was proposed in time may have ruled at the end.
 * @param versions every version that is known, at least one
 */
function countAtEnd(answered: Answered, versions: readonly Roster[]): Counted {
  const { change, rosterVersion, expiresAt } = answered.value
  const inTime = versions.filter(({ issuedAt }) => issuedAt <= expiresAt)
  const { needed, ...counted } = countAt(answered, inTime.at(-1) ?? (versions[0] as Roster))
  const isKnown = inTime.some(({ version }) => version <= rosterVersion)
  const isSure = inTime
    .filter(({ version }) => version >= rosterVersion)
    .every((roster) => electorateOf(roster, change).needed === needed)
  return isKnown && isSure ? { ...counted, needed } : counted
}

/** Proposals with their answers, and leaves, whatever the order of the statements. */
function collect(
  statements: readonly GovernanceStatement[],
  keys: ReadonlyMap<PeerIdString, readonly KeyChange[]>,
): GovernanceInput {
  const endOf = endings(statements, keys)
  const inOrder = [...statements].sort((a, b) => a.value.seq - b.value.seq || (a.id < b.id ? -1 : 1))
  /** Highest version that each member has named so far. */
  const known = new Map<PeerIdString, number>()
  const proposals = new Map<Digest, Omit<Answered, 'answers'>>()
  const answers = new Map<Digest, Map<PeerIdString, GivenAnswer[]>>()
  const leaves: KnownLeave[] = []
  for (const { kind, id, value } of inOrder) {
    const { publisher, seq, rosterVersion, issuedAt } = value
    const knownVersion = Math.max(known.get(publisher) ?? 0, rosterVersion)
    known.set(publisher, knownVersion)
    if (kind === 'leave') {
      leaves.push({ id, value, knownVersion, endsAt: endOf(publisher, seq) })
      continue
    }
    const endsAt = endOf(publisher, seq)
    if (kind === 'proposal') proposals.set(id, { id, value, endsAt })
    const proposal = kind === 'proposal' ? id : value.proposal
    const answer = kind === 'proposal' ? 'endorse' : value.answer
    const given = answers.get(proposal) ?? new Map<PeerIdString, GivenAnswer[]>()
    answers.set(proposal, given)
    const own = given.get(publisher) ?? []
    own.push({ answer, seq, rosterVersion, knownVersion, issuedAt, endsAt })
    given.set(publisher, own)
  }
  const answered: Answered[] = [...proposals.values()].map((one) => ({
    ...one,
    answers: answers.get(one.id) ?? new Map(),
  }))
  return { proposals: answered, leaves }
}

/**
 * From which version of the roster on a statement of a seat does not count: the one that a later statement about keys
 * names, or a later one that the seat has named in what stays valid, so that no seat takes back what it knows to be applied.
 */
function endings(
  statements: readonly GovernanceStatement[],
  keys: ReadonlyMap<PeerIdString, readonly KeyChange[]>,
): (publisher: PeerIdString, seq: number) => number {
  const ended = [...keys].flatMap(([publisher, changes]) =>
    changes.flatMap(({ seq, validThroughSeq, rosterVersion }) => {
      if (validThroughSeq === undefined || rosterVersion === undefined) return []
      const named = statements.flatMap(({ value }) =>
        value.publisher === publisher && value.seq <= validThroughSeq ? [value.rosterVersion] : [],
      )
      return [{ publisher, after: validThroughSeq, before: seq, version: Math.max(rosterVersion, ...named) }]
    }),
  )
  return (publisher, seq) =>
    ended.reduce(
      (version, one) =>
        one.publisher === publisher && one.after < seq && seq < one.before
          ? Math.min(version, one.version)
          : version,
      Number.POSITIVE_INFINITY,
    )
}
