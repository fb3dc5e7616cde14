/**
 * What the members have decided, as far as this node knows: signed rosters of a charter of version 1, proposals,
 * endorsements and leaves, kept in the catalogue, and the roster that follows from all of them. Does not know which
 * member this node is, and does not check who a statement is from.
 */

import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { governanceKey, rosterKey } from '../store/catalogue-keys.ts'
import type { ProposedChange } from './change.ts'
import type { openCharter } from './charter.ts'
import type { DerivedRoster, Equivocation } from './derive-roster.ts'
import { Governance, type ProposalState, readGovernanceStatement } from './governance.ts'
import type { KeyChange } from './key-history.ts'
import { openRoster, type Roster, rosterFromCharter } from './roster.ts'
import type { GovernanceStatement } from './support.ts'

interface RosterBookInit {
  readonly catalogue: Catalogue
  readonly opened: ReturnType<typeof openCharter>
  /** Unix seconds. */
  readonly now: () => number
}

/** Packages that a quorum has withdrawn. */
interface QuorumWithdrawal {
  /** Id of the proposal. */
  readonly id: Digest
  readonly publisher: PeerIdString
  readonly manifests: readonly Digest[]
  readonly reason: 'quorum'
  /** When it was proposed, Unix seconds. */
  readonly issuedAt: number
}

export class RosterBook {
  readonly #init: RosterBookInit
  /** Signed rosters of a charter of version 1, from version 2 on. */
  readonly #signed: { envelope: Uint8Array; roster: Roster }[] = []
  readonly #governance = new Governance()
  #derived: DerivedRoster | undefined

  private constructor(init: RosterBookInit) {
    this.#init = init
  }

  /** Skips statements on disk that cannot be read, because a node must open without them. */
  static async load(init: RosterBookInit): Promise<RosterBook> {
    const book = new RosterBook(init)
    for (const [key, envelope] of await init.catalogue.entries('rosters')) {
      if (key === rosterKey(0)) continue
      book.#signed.push({ envelope, roster: openRoster(envelope, book.#base()) })
    }
    for (const [, envelope] of await init.catalogue.entries('governance')) {
      try {
        book.#governance.add(readGovernanceStatement(envelope), envelope)
      } catch (error) {
        if (!(error instanceof FlexMeshError)) throw error
      }
    }
    return book
  }

  /** The charter's roster or the last signed one, with which deriving begins. */
  #base(): Roster {
    const { charter, consortium } = this.#init.opened
    return this.#signed.at(-1)?.roster ?? rosterFromCharter(charter, consortium)
  }

  /** The latest roster, and how it follows from the statements. */
  derived(): DerivedRoster {
    this.#derived ??= this.#governance.derive(this.#base())
    return this.#derived
  }

  roster(): Roster {
    return this.derived().roster
  }

  /** Ids of the proposals and leaves that have changed the roster, in order. */
  applied(): Digest[] {
    return [...this.derived().applied.keys()]
  }

  /** Contradicting proposals that both had their quorum. */
  equivocations(): readonly Equivocation[] {
    return this.derived().equivocations
  }

  /** Every proposal with its support, oldest first. */
  proposals(): ProposalState[] {
    return this.#governance.proposals(this.derived(), this.#init.now())
  }

  /** The open proposal of exactly this change. */
  openProposalOf(change: ProposedChange): ProposalState | undefined {
    return this.#governance.openProposalOf(change, this.derived(), this.#init.now())
  }

  /** @param prefix the first characters of its id, with or without `sha256:`. @throws InputError `not-found`, `usage`. */
  proposal(prefix: string): ProposalState {
    const wanted = prefix.replace(/^sha256:/, '')
    const [found, ...others] = this.proposals().filter(({ id }) =>
      id.slice('sha256:'.length).startsWith(wanted),
    )
    if (found === undefined || wanted === '') {
      throw new InputError(
        'not-found',
        `no proposal begins with ${prefix}; ${ownCommand('proposals')} lists them`,
      )
    }
    if (others.length > 0)
      throw new InputError('usage', `several proposals begin with ${prefix}; give more characters`)
    return found
  }

  withdrawnByQuorum(): QuorumWithdrawal[] {
    return this.proposals().flatMap(({ id, state, proposal: { change, issuedAt } }) =>
      state === 'applied' && change.kind === 'withdraw'
        ? [{ id, publisher: change.seat, manifests: change.manifests, reason: 'quorum', issuedAt }]
        : [],
    )
  }

  /** Envelopes of the signed rosters after a version, in order. */
  envelopesSince(version: number): Uint8Array[] {
    return this.#signed.filter(({ roster }) => roster.version > version).map(({ envelope }) => envelope)
  }

  /** Version of the last signed roster, or of the charter's. */
  signedVersion(): number {
    return this.#base().version
  }

  /** All statements about the consortium, those of members that were admitted earlier first. */
  governanceEnvelopes(publishers?: ReadonlySet<PeerIdString>): Uint8Array[] {
    const inOrder = this.roster().members.map(({ peerId }) => peerId)
    return this.#governance.envelopes(inOrder.filter((peerId) => publishers?.has(peerId) ?? true))
  }

  /** Digest of the ids of all statements about the consortium. */
  governanceDigest(): Digest {
    return this.#governance.digest()
  }

  hasStatement(id: Digest): boolean {
    return this.#governance.has(id)
  }

  /** Whether a member has made as many statements as a log may hold. */
  isFull(publisher: PeerIdString): boolean {
    return this.#governance.isFull(publisher)
  }

  hasRoster(envelope: Uint8Array): boolean {
    return this.#signed.some((entry) => Buffer.compare(entry.envelope, envelope) === 0)
  }

  /** Store the next signed roster. @throws FormatError, VerificationError; InputError `disk-full`, `io`. */
  async addRoster(envelope: Uint8Array): Promise<void> {
    const roster = openRoster(envelope, this.#base())
    await this.#init.catalogue.put('rosters', rosterKey(roster.version), envelope)
    this.#signed.push({ envelope, roster })
    this.#derived = undefined
  }

  /** Store a statement about the consortium. @throws InputError `disk-full`, `io`. */
  async addStatement(statement: GovernanceStatement, envelope: Uint8Array): Promise<void> {
    await this.#init.catalogue.put('governance', governanceKey(statement.id), envelope)
    this.#governance.add(statement, envelope)
    this.#derived = undefined
  }

  /** A seat has stated its keys, which may end statements about the consortium. The log of statements stores them. */
  addKeys(seat: PeerIdString, change: KeyChange): void {
    this.#governance.addKeys(seat, change)
    this.#derived = undefined
  }
}
