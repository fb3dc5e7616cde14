/**
 * The members of the consortium as this node knows them, and the place of this node among them: its seat, its votes, the
 * requests to become a member. Implements protocols/consortium-charter. What the members have decided is in
 * roster-book.ts, invitations are in invitations.ts. Signs nothing, and knows nothing about networks and experts.
 */

import type { Identity, PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { PolicyError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { applyChange } from './apply-change.ts'
import type { ProposedChange } from './change.ts'
import { type Charter, openCharter } from './charter.ts'
import { Invitations } from './invitations.ts'
import type { KeyChange } from './key-history.ts'
import type { Member } from './member.ts'
import { type MembershipEvent, MembershipEvents } from './membership-events.ts'
import {
  admissionOf,
  type JoinStatus,
  type MembershipRequest,
  openMembershipRequest,
} from './membership-request.ts'
import { findMember, isMember, mayPublish, type Roster, rosterDigest } from './roster.ts'
import { RosterBook } from './roster-book.ts'
import { SeatKeys, seatEntry } from './seat-keys.ts'
import { electorateOf, type GovernanceStatement } from './support.ts'

export interface MembershipInit {
  readonly identity: Identity
  readonly catalogue: Catalogue
  readonly charterEnvelope: Uint8Array
  /** Unix seconds. */
  readonly now: () => number
  readonly onEvent: (event: MembershipEvent) => void
}

export class Membership {
  readonly charter: Charter
  readonly consortium: Digest
  readonly invitations: Invitations
  /** The keys that the seats of the roster have stated. */
  readonly keys: SeatKeys
  /** What the members have decided. */
  readonly book: RosterBook
  readonly #init: MembershipInit
  readonly #events: MembershipEvents
  /** Changes of rosters and requests: each is checked and written before the next one is checked. */
  readonly #changes = new Serial()

  private constructor(
    init: MembershipInit,
    opened: ReturnType<typeof openCharter>,
    invitations: Invitations,
    book: RosterBook,
  ) {
    this.charter = opened.charter
    this.consortium = opened.consortium
    this.invitations = invitations
    this.book = book
    this.#init = init
    this.#events = new MembershipEvents(init.onEvent)
    this.keys = new SeatKeys({ seats: () => this.roster().members.map(seatEntry), now: init.now })
  }

  /** @throws FormatError, VerificationError for a charter or a signed roster on disk that cannot be read. */
  static async open(init: MembershipInit): Promise<Membership> {
    const { catalogue, now, onEvent } = init
    const opened = openCharter(init.charterEnvelope)
    const invitations = await Invitations.load({
      catalogue,
      consortium: opened.consortium,
      name: opened.charter.name,
      now,
      onRequest: ({ institution, peerId }) => onEvent({ event: 'request', institution, peerId }),
    })
    const book = await RosterBook.load({ catalogue, opened, now })
    const membership = new Membership(init, opened, invitations, book)
    await membership.#endRequests()
    return membership
  }

  roster(): Roster {
    return this.book.roster()
  }

  /** Whether a seat belongs to the consortium. */
  isMember(seat: PeerIdString): boolean {
    return isMember(this.roster(), seat)
  }

  /** The seat of this node, also after its key was replaced; the peer id of this node while no seat has named its key. */
  get seat(): PeerIdString {
    const { peerId } = this.#init.identity
    return this.keys.seatOf(peerId) ?? this.keys.seatEverOf(peerId) ?? peerId
  }

  /** The seat that a peer stands for, if the seat belongs to the consortium. */
  seatOfMember(peer: PeerIdString): PeerIdString | undefined {
    const seat = this.keys.seatOf(peer)
    return seat !== undefined && this.isMember(seat) ? seat : undefined
  }

  /** Whether the roster lists a peer, also one that was revoked. */
  isListed(peerId: PeerIdString): boolean {
    return findMember(this.roster(), peerId) !== undefined
  }

  /** Whether the roster covers statement `seq` of a publisher: earlier statements of a revoked member stay valid. */
  mayPublish(peerId: PeerIdString, seq: number): boolean {
    return mayPublish(this.roster(), peerId, seq) && this.keys.historyOf(peerId).counts(seq)
  }

  /** @throws VerificationError `expired` after the end of the roster: members confirm the membership every year. */
  checkRosterNotEnded(): void {
    const { expiresAt } = this.roster()
    if (expiresAt + limit('clockSkew') < this.#init.now()) {
      throw new VerificationError(
        'expired',
        `the roster ended at ${new Date(expiresAt * 1000).toISOString()}; members renew it with ${ownCommand('renew')}`,
      )
    }
  }

  /** The member with a name or peer id; if it has none, the member of that name that was revoked last. */
  findByName(who: string): Member | undefined {
    const named = this.roster().members.filter(
      ({ institution, peerId }) => institution === who || peerId === who,
    )
    return (
      named.find(({ peerId }) => peerId === who) ??
      named.find(({ revoked }) => revoked === undefined) ??
      named.at(-1)
    )
  }

  /** Name of a member for people; its peer id if the roster does not list it. */
  institutionOf(peerId: PeerIdString): string {
    return findMember(this.roster(), peerId)?.institution ?? peerId
  }

  /** See `Invitations.guestsOpen`. */
  guestsOpen(): boolean {
    return this.invitations.guestsOpen()
  }

  /** Whether this node has a vote on a change. */
  mayVoteOn(change: ProposedChange): boolean {
    const { voters } = electorateOf(this.roster(), change)
    return voters.some(({ peerId }) => peerId === this.seat)
  }

  /** Names of the members that have a vote on a change. */
  votersOn(change: ProposedChange): string[] {
    return electorateOf(this.roster(), change).voters.map(({ institution }) => institution)
  }

  /** The roster with a change, or for people why the change cannot be applied. */
  preview(change: ProposedChange): Roster | string {
    return applyChange(this.roster(), change, this.#init.now())
  }

  /**
   * Why a waiting request cannot be approved, for people; undefined if it can.
   * @param isNamedById whether the request was chosen by its peer id, so that another one of its name does not matter.
   */
  obstacleTo(request: MembershipRequest, isNamedById = false): string | undefined {
    const obstacle = this.invitations.obstacle(request, isNamedById)
    if (obstacle !== undefined) return obstacle
    const next = this.preview(admissionOf(request))
    return typeof next === 'string' ? next : undefined
  }

  /**
   * Envelopes of the charter, of the signed rosters and of all statements about the consortium.
   * @param from the peer that asks. A member may ask at any time, because the decision may come after the invitation
   * has expired.
   * @returns undefined for a token without a valid invitation.
   */
  charterFor(token: string, from: PeerIdString): Uint8Array[] | undefined {
    if (this.seatOfMember(from) === undefined && !this.invitations.opensCharter(token)) return undefined
    return [
      this.#init.charterEnvelope,
      ...this.book.envelopesSince(1),
      ...this.keys.envelopes(),
      ...this.book.governanceEnvelopes(),
    ]
  }

  /**
   * Receive a request to become a member, from the peer that it names or through another peer.
   * @throws FormatError, VerificationError for a request that is malformed or that its peer did not sign.
   */
  async onRequest(envelope: Uint8Array): Promise<JoinStatus> {
    const request = openMembershipRequest(envelope)
    return this.#changes.run(() => this.#onRequest(request, envelope))
  }

  async #onRequest(request: MembershipRequest, envelope: Uint8Array): Promise<JoinStatus> {
    if (this.seatOfMember(request.peerId) !== undefined) return 'member'
    if (request.consortium !== this.consortium) return 'refused'
    return this.invitations.onRequest(request, envelope)
  }

  /**
   * Receive the next signed roster, of a consortium with a charter of version 1.
   * @returns false if it is known already. @throws FormatError, VerificationError.
   */
  onRoster(envelope: Uint8Array): Promise<boolean> {
    return this.#changes.run(async () => {
      if (this.book.hasRoster(envelope)) return false
      const before = this.roster()
      await this.book.addRoster(envelope)
      await this.#onChanged(before)
      return true
    })
  }

  /**
   * Keep a statement about the consortium, whether or not it fits into its publisher's log: its signature counts either
   * way. What follows from it has taken effect when this resolves.
   * @returns whether it was new, and whether the roster has changed.
   * @throws VerificationError `wrong-consortium`, `not-a-member` if the roster does not list the publisher; PolicyError
   * `quota` if the publisher has made as many statements as a log holds.
   */
  onStatement(
    statement: GovernanceStatement,
    envelope: Uint8Array,
  ): Promise<{ readonly isNew: boolean; readonly isRosterChanged: boolean }> {
    return this.#changes.run(async () => {
      const { publisher, consortium } = statement.value
      if (this.book.hasStatement(statement.id)) return { isNew: false, isRosterChanged: false }
      if (consortium !== this.consortium)
        throw new VerificationError('wrong-consortium', `the statement is for consortium ${consortium}`)
      if (!this.isListed(publisher))
        throw new VerificationError('not-a-member', `the roster does not list ${publisher}`)
      if (this.book.isFull(publisher))
        throw new PolicyError('quota', `${publisher} has made too many statements about the consortium`)
      const before = this.roster()
      await this.book.addStatement(statement, envelope)
      await this.#onChanged(before)
      if (statement.kind === 'proposal') this.#reportProposal(statement.id)
      return { isNew: true, isRosterChanged: rosterDigest(this.roster()) !== rosterDigest(before) }
    })
  }

  /**
   * A statement about the keys of a seat was logged. Call this in the order of the seat's log. What follows for the roster
   * has taken effect when this resolves.
   */
  onKeys(seat: PeerIdString, change: KeyChange, envelope: Uint8Array): Promise<void> {
    return this.#changes.run(async () => {
      const before = this.roster()
      this.#recordKeys(seat, change, envelope)
      await this.#onChanged(before)
    })
  }

  /** Record a stored statement about keys, at start. Call this in the order of each seat's log. */
  restoreKeys(seat: PeerIdString, change: KeyChange, envelope: Uint8Array): void {
    this.#recordKeys(seat, change, envelope)
  }

  #recordKeys(seat: PeerIdString, change: KeyChange, envelope: Uint8Array): void {
    this.keys.record(seat, change, envelope)
    this.book.addKeys(seat, change)
  }

  #reportProposal(id: Digest): void {
    const { seat: peerId } = this
    const found = this.book.proposals().find((one) => one.id === id)
    if (found?.state !== 'open' || !found.undecided.includes(peerId)) return
    const { change, publisher } = found.proposal
    this.#init.onEvent({ event: 'proposal', id, change, institution: this.institutionOf(publisher) })
  }

  /** Tell people what is different, and end the requests of institutions that are members now. */
  async #onChanged(before: Roster): Promise<void> {
    this.#events.changed(before, this.book.derived(), this.seat)
    await this.#endRequests()
  }

  async #endRequests(): Promise<void> {
    const { invitations } = this
    for (const request of invitations.requests()) {
      if (!this.isMember(request.peerId)) continue
      await this.#init.catalogue.write(invitations.changesOf(request))
      invitations.admitted(request)
    }
  }
}
