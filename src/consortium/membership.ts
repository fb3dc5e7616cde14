/**
 * The members of the consortium as this node knows them: charter, rosters, and how founders change them. Implements
 * protocols/consortium-charter. Invitations and requests are in invitations.ts. Knows nothing about networks and experts.
 */
import { seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError, InputError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import { type Catalogue, type Change, rosterKey } from '../store/catalogue.ts'
import { type Charter, openCharter } from './charter.ts'
import { Invitations } from './invitations.ts'
import type { Member, RevocationReason } from './member.ts'
import { type JoinStatus, type MembershipRequest, openMembershipRequest } from './membership-request.ts'
import {
  addMember,
  encodeRoster,
  findMember,
  isMember,
  mayPublish,
  openRoster,
  type Roster,
  renewRoster,
  revokeMember,
  rosterFromCharter,
} from './roster.ts'

export type MembershipEvent =
  | { readonly event: 'member'; readonly institution: string }
  | {
      readonly event: 'revoked'
      readonly institution: string
      /** Whether it is the institution of this node. */
      readonly isOwn: boolean
    }
  | { readonly event: 'request'; readonly institution: string; readonly peerId: string }

export interface MembershipInit {
  readonly identity: Identity
  readonly catalogue: Catalogue
  readonly charterEnvelope: Uint8Array
  /** Unix seconds. */
  readonly now: () => number
  readonly onEvent: (event: MembershipEvent) => void
}

/** A request that was not approved. */
export interface NotApproved {
  readonly institution: string
  readonly peerId: PeerIdString
  /** For people. */
  readonly reason: string
}

export interface Approval {
  /** Names of the new members. */
  readonly approved: readonly string[]
  readonly notApproved: readonly NotApproved[]
}

export class Membership {
  readonly charter: Charter
  readonly consortium: Digest
  readonly #init: MembershipInit
  readonly #rosters: { envelope: Uint8Array; roster: Roster }[] = []
  readonly invitations: Invitations
  /** Changes of rosters and requests: each is checked and written before the next one is checked. */
  readonly #changes = new Serial()

  private constructor(
    init: MembershipInit,
    opened: ReturnType<typeof openCharter>,
    invitations: Invitations,
  ) {
    this.charter = opened.charter
    this.consortium = opened.consortium
    this.invitations = invitations
    this.#init = init
  }

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
    const membership = new Membership(init, opened, invitations)
    for (const [key, envelope] of await init.catalogue.entries('rosters')) {
      if (key === rosterKey(0)) continue
      membership.#rosters.push({ envelope, roster: openRoster(envelope, membership.roster()) })
    }
    return membership
  }

  roster(): Roster {
    return this.#rosters.at(-1)?.roster ?? rosterFromCharter(this.charter, this.consortium)
  }

  isMember(peerId: PeerIdString): boolean {
    return isMember(this.roster(), peerId)
  }

  /** Whether some roster has listed a peer. Rosters keep those that were revoked. */
  isListed(peerId: PeerIdString): boolean {
    return findMember(this.roster(), peerId) !== undefined
  }

  /** Whether the roster covers statement `seq` of a publisher: earlier statements of a revoked member stay valid. */
  mayPublish(peerId: PeerIdString, seq: number): boolean {
    return mayPublish(this.roster(), peerId, seq)
  }

  /** @throws VerificationError `expired` after the end of the roster: founders confirm the membership every year. */
  checkRosterNotEnded(): void {
    const { expiresAt } = this.roster()
    if (expiresAt + limit('clockSkew') < this.#init.now()) {
      throw new VerificationError(
        'expired',
        `the roster ended at ${new Date(expiresAt * 1000).toISOString()}; a founder renews it with "flexmesh renew"`,
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

  /**
   * Put institutions that wait for approval on the roster. A request that cannot be approved stays and does not stop
   * the others.
   * @param who name or peer id of one institution; default: all of them.
   * @throws InputError `not-found`, `not-a-member`.
   */
  approve(who?: string): Promise<Approval> {
    return this.#changes.run(() => this.#approve(who))
  }

  async #approve(who: string | undefined): Promise<Approval> {
    const chosen = who === undefined ? this.invitations.requests() : this.invitations.named(who)
    if (chosen.length === 0) {
      throw new InputError(
        'not-found',
        who === undefined ? 'no institution waits for approval' : `${who} does not wait for approval`,
      )
    }
    this.checkMayExtend('flexmesh approve')
    const approved: string[] = []
    const notApproved: NotApproved[] = []
    // Collected before the first approval, which would end the rivalry of two requests with one name.
    const obstacles = chosen.map((request) => this.obstacleTo(request, request.peerId === who))
    for (const [i, request] of chosen.entries()) {
      const { institution, peerId } = request
      const reason = obstacles[i]
      if (reason !== undefined) {
        notApproved.push({ institution, peerId, reason })
        continue
      }
      const roster = addMember(this.roster(), institution, peerId, this.#init.now())
      await this.#extend(roster, this.invitations.changesOf(request))
      this.invitations.admitted(request)
      this.#init.onEvent({ event: 'member', institution })
      approved.push(institution)
    }
    return { approved, notApproved }
  }

  /**
   * Why a waiting request cannot be approved, for people; undefined if it can.
   * @param isNamedById whether the request was chosen by its peer id, so that another one of its name does not matter.
   */
  obstacleTo(request: MembershipRequest, isNamedById = false): string | undefined {
    const obstacle = this.invitations.obstacle(request, isNamedById)
    if (obstacle !== undefined) return obstacle
    try {
      addMember(this.roster(), request.institution, request.peerId, this.#init.now())
      return undefined
    } catch (error) {
      if (error instanceof FlexMeshError) return error.message
      throw error
    }
  }

  /**
   * Revoke a member, or let fewer statements of one that was revoked stay valid.
   * @param who name or peer id. A name stands for the member of that name, or for the one that was revoked last.
   * @param validThroughSeq the member's statements with sequence numbers up to this one stay valid.
   * @returns its peer id. @throws InputError `not-found`, `not-a-member`, `usage`.
   */
  revoke(who: string, reason: RevocationReason, validThroughSeq: number): Promise<PeerIdString> {
    return this.#changes.run(async () => {
      const member = this.findByName(who)
      if (member === undefined) throw new InputError('not-found', `${who} is not a member`)
      if (member.peerId === this.#init.identity.peerId) {
        throw new InputError('usage', 'a founder cannot revoke itself')
      }
      const now = this.#init.now()
      await this.#extend(revokeMember(this.roster(), member.peerId, reason, validThroughSeq, now))
      this.#init.onEvent({ event: 'revoked', institution: member.institution, isOwn: false })
      return member.peerId
    })
  }

  /**
   * Confirm every member for another year.
   * @returns the end of the new roster, Unix seconds. @throws InputError `not-a-member` unless this node is a founder.
   */
  renew(): Promise<number> {
    return this.#changes.run(async () => {
      await this.#extend(renewRoster(this.roster(), this.#init.now()))
      return this.roster().expiresAt
    })
  }

  /**
   * Envelopes of the charter and of the rosters from version 2 on.
   * @param from the peer that asks. A member may ask at any time, because the decision may come after the invitation
   * has expired.
   * @returns undefined for a token without a valid invitation.
   */
  charterFor(token: string, from: PeerIdString): Uint8Array[] | undefined {
    if (!this.isMember(from) && !this.invitations.opensCharter(token)) return undefined
    return [this.#init.charterEnvelope, ...this.envelopesSince(1)]
  }

  /** Envelopes of the rosters after a version, in order. */
  envelopesSince(version: number): Uint8Array[] {
    return this.#rosters.filter(({ roster }) => roster.version > version).map(({ envelope }) => envelope)
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
    if (this.isMember(request.peerId)) return 'member'
    if (request.consortium !== this.consortium) return 'refused'
    return this.invitations.onRequest(request, envelope)
  }

  /**
   * Receive the next roster.
   * @returns false if it is known already. @throws FormatError, VerificationError.
   */
  onRoster(envelope: Uint8Array): Promise<boolean> {
    return this.#changes.run(() => this.#onRoster(envelope))
  }

  async #onRoster(envelope: Uint8Array): Promise<boolean> {
    const known = this.#rosters.some((entry) => Buffer.compare(entry.envelope, envelope) === 0)
    if (known) return false
    const before = this.roster()
    const roster = openRoster(envelope, before)
    await this.#init.catalogue.put('rosters', rosterKey(roster.version), envelope)
    this.#rosters.push({ envelope, roster })
    for (const { institution, peerId, revoked } of roster.members) {
      const was = findMember(before, peerId)
      if (was === undefined) this.#init.onEvent({ event: 'member', institution })
      else if (revoked !== undefined && was.revoked === undefined)
        this.#init.onEvent({
          event: 'revoked',
          institution,
          isOwn: peerId === this.#init.identity.peerId,
        })
    }
    return true
  }

  async #extend(roster: Roster, changes: readonly Change[] = []): Promise<void> {
    this.checkMayExtend('this command')
    const envelope = seal(MEDIA_TYPES.roster, encodeRoster(roster), [this.#init.identity])
    openRoster(envelope, this.roster()) // A roster that nobody can open must not reach the disk.
    await this.#init.catalogue.write([
      { table: 'rosters', key: rosterKey(roster.version), value: envelope },
      ...changes,
    ])
    this.#rosters.push({ envelope, roster })
  }

  /**
   * @param command what a founder has to run instead, for the message.
   * @throws InputError `not-a-member` unless this node can sign the next roster by itself.
   */
  checkMayExtend(command: string): void {
    const { members, threshold } = this.roster()
    const founders = members.filter(({ role, revoked }) => role === 'founder' && revoked === undefined)
    if (!founders.some(({ peerId }) => peerId === this.#init.identity.peerId)) {
      const names = founders.map(({ institution }) => institution).join(' or ')
      throw new InputError(
        'not-a-member',
        `only a founder changes the roster; ask ${names} to run ${command}`,
      )
    }
    if (threshold > 1) {
      throw new InputError(
        'not-a-member',
        `a new roster needs the signatures of ${threshold} founders, which one node cannot give`,
      )
    }
  }
}
