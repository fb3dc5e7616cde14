/**
 * The members of the consortium as this node knows them: charter, rosters, invitations and requests. Implements
 * protocols/consortium-charter, section "Joining". Knows nothing about networks and experts.
 */
import { randomBytes } from 'node:crypto'
import { seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, fromUtf8, toHex, utf8 } from '../lib/bytes.ts'
import { InputError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import { type Catalogue, type Change, rosterKey } from '../store/catalogue.ts'
import { type Charter, openCharter } from './charter.ts'
import { decodeInvite, encodeInvite, type Invite } from './invite.ts'
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

/** A spent invitation admits nobody, but still opens the charter and the rosters, for the institution that used it. */
type InviteState = 'open' | 'spent'

export class Membership {
  readonly charter: Charter
  readonly consortium: Digest
  readonly #init: MembershipInit
  readonly #rosters: { envelope: Uint8Array; roster: Roster }[] = []
  readonly #invites = new Map<string, { invite: Invite; state: InviteState }>()
  /** Changes of rosters and requests: each is checked and written before the next one is checked. */
  readonly #changes = new Serial()

  private constructor(init: MembershipInit) {
    const { charter, consortium } = openCharter(init.charterEnvelope)
    this.charter = charter
    this.consortium = consortium
    this.#init = init
  }

  static async open(init: MembershipInit): Promise<Membership> {
    const membership = new Membership(init)
    for (const [key, envelope] of await init.catalogue.entries('rosters')) {
      if (key === rosterKey(0)) continue
      membership.#rosters.push({ envelope, roster: openRoster(envelope, membership.roster()) })
    }
    for (const [token, value] of await init.catalogue.entries('invites')) {
      const [state, text] = fromUtf8(value).split(' ') as [InviteState, string]
      membership.#invites.set(token, { invite: decodeInvite(text), state })
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
    return named.find(({ revoked }) => revoked === undefined) ?? named.at(-1)
  }

  /** Name of a member for people; its peer id if the roster does not list it. */
  institutionOf(peerId: PeerIdString): string {
    return findMember(this.roster(), peerId)?.institution ?? peerId
  }

  /** Whether peers that are not members may connect, because an invitation is open. */
  guestsOpen(): boolean {
    return [...this.#invites.values()].some(
      ({ invite, state }) => state === 'open' && invite.expiresAt > this.#init.now(),
    )
  }

  /**
   * Invite one more institution.
   * @param addresses multiaddrs of this node. @returns the invitation, one line of text.
   */
  async invite(addresses: readonly string[]): Promise<string> {
    const invite: Invite = {
      consortium: this.consortium,
      name: this.charter.name,
      addresses,
      token: toHex(randomBytes(16)),
      expiresAt: this.#init.now() + limit('inviteLifetime'),
    }
    await this.#init.catalogue.write([this.#inviteChange(invite, 'open')])
    this.#invites.set(invite.token, { invite, state: 'open' })
    return encodeInvite(invite)
  }

  /** Requests that wait for a founder's approval. */
  async requests(): Promise<MembershipRequest[]> {
    const entries = await this.#init.catalogue.entries('requests')
    return entries.map(([, envelope]) => openMembershipRequest(envelope))
  }

  /**
   * Put institutions that wait for approval on the roster.
   * @param who name or peer id of one institution; default: all of them.
   * @returns the names of the new members. @throws InputError `not-found`, `not-a-member`, `exists`.
   */
  approve(who?: string): Promise<string[]> {
    return this.#changes.run(() => this.#approve(who))
  }

  async #approve(who: string | undefined): Promise<string[]> {
    const chosen = (await this.requests()).filter(
      ({ institution, peerId }) => who === undefined || who === institution || who === peerId,
    )
    if (chosen.length === 0) {
      throw new InputError(
        'not-found',
        who === undefined ? 'no institution waits for approval' : `${who} does not wait for approval`,
      )
    }
    const approved: string[] = []
    let failure: unknown
    for (const { institution, peerId, token } of chosen) {
      const entry = this.#invites.get(token)
      if (entry?.state !== 'open') {
        await this.#init.catalogue.delete('requests', peerId) // One invitation admits one institution.
        continue
      }
      let roster: Roster
      try {
        roster = addMember(this.roster(), institution, peerId, this.#init.now())
      } catch (error) {
        // A request that can never be approved must not stop the others.
        await this.#init.catalogue.delete('requests', peerId)
        failure ??= error
        continue
      }
      await this.#extend(roster, [
        { table: 'requests', key: peerId },
        this.#inviteChange(entry.invite, 'spent'),
      ])
      this.#invites.set(token, { invite: entry.invite, state: 'spent' })
      this.#init.onEvent({ event: 'member', institution })
      approved.push(institution)
    }
    if (failure !== undefined && approved.length === 0) throw failure
    return approved
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
   * @returns undefined for a token without a valid invitation.
   */
  charterFor(token: string): Uint8Array[] | undefined {
    const invite = this.#invites.get(token)?.invite
    if (invite === undefined || invite.expiresAt < this.#init.now()) return undefined
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
    const invitation = this.#invites.get(request.token)
    if (request.consortium !== this.consortium || invitation?.state !== 'open') return 'refused'
    if (invitation.invite.expiresAt < this.#init.now()) return 'refused'
    const waiting = await this.#init.catalogue.entries('requests')
    if (!waiting.some(([peerId]) => peerId === request.peerId)) {
      if (waiting.length >= limit('members')) return 'refused'
      await this.#init.catalogue.put('requests', request.peerId, envelope)
      this.#init.onEvent({ event: 'request', institution: request.institution, peerId: request.peerId })
    }
    return 'pending'
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
    if (findMember(this.roster(), this.#init.identity.peerId)?.role !== 'founder') {
      throw new InputError('not-a-member', 'only a founder changes the roster')
    }
    const envelope = seal(MEDIA_TYPES.roster, encodeRoster(roster), [this.#init.identity])
    openRoster(envelope, this.roster()) // A roster that nobody can open must not reach the disk.
    await this.#init.catalogue.write([
      { table: 'rosters', key: rosterKey(roster.version), value: envelope },
      ...changes,
    ])
    this.#rosters.push({ envelope, roster })
  }

  #inviteChange(invite: Invite, state: InviteState): Change {
    return { table: 'invites', key: invite.token, value: utf8(`${state} ${encodeInvite(invite)}`) }
  }
}
