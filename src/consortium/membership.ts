/**
 * Who belongs to the consortium as this node knows it: charter, rosters, invitations and requests.
 * Implements protocols/consortium-charter, section "Joining". Knows no network and no expert.
 */
import { randomBytes } from 'node:crypto'
import { seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, fromUtf8, toHex, utf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { OnNodeEvent } from '../node/events.ts'
import { type Catalogue, type Change, rosterKey } from '../store/catalogue.ts'
import { type Charter, openCharter } from './charter.ts'
import { decodeInvite, encodeInvite, type Invite } from './invite.ts'
import type { RevocationReason } from './member.ts'
import { type JoinStatus, type MembershipRequest, openMembershipRequest } from './membership-request.ts'
import {
  addMember,
  encodeRoster,
  findMember,
  isMember,
  openRoster,
  type Roster,
  revokeMember,
  rosterFromCharter,
} from './roster.ts'

export interface MembershipInit {
  readonly identity: Identity
  readonly catalogue: Catalogue
  readonly charterEnvelope: Uint8Array
  /** Unix seconds. */
  readonly now: () => number
  readonly onEvent: OnNodeEvent
}

/** A spent invitation still opens the rosters to the one who used it; it admits nobody else. */
type InviteState = 'open' | 'spent'

export class Membership {
  readonly charter: Charter
  readonly consortium: Digest
  readonly #init: MembershipInit
  readonly #rosters: { envelope: Uint8Array; roster: Roster }[] = []
  readonly #invites = new Map<string, { invite: Invite; state: InviteState }>()

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

  /** Name of a member for people; the peer id where there is none. */
  institutionOf(peerId: PeerIdString): string {
    return findMember(this.roster(), peerId)?.institution ?? peerId
  }

  /** Whether strangers may connect to join. */
  guestsOpen(): boolean {
    return [...this.#invites.values()].some(
      ({ invite, state }) => state === 'open' && invite.expiresAt > this.#init.now(),
    )
  }

  /** Invite one more institution; `addresses` are where it finds this node. */
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

  /** Requests that wait for approval. */
  async requests(): Promise<MembershipRequest[]> {
    const entries = await this.#init.catalogue.entries('requests')
    return entries.map(([, envelope]) => openMembershipRequest(envelope))
  }

  /**
   * Put everyone who waits, or one of them, on the roster.
   * @returns the institutions. @throws InputError `not-found`, `not-a-member`, `exists`.
   */
  async approve(who?: string): Promise<string[]> {
    const chosen = (await this.requests()).filter(
      ({ institution, peerId }) => who === undefined || who === institution || who === peerId,
    )
    if (chosen.length === 0) {
      throw new InputError(
        'not-found',
        who === undefined ? 'nobody waits for approval' : `${who} does not wait for approval`,
      )
    }
    const approved: string[] = []
    for (const { institution, peerId, token } of chosen) {
      const entry = this.#invites.get(token)
      if (entry?.state !== 'open') {
        await this.#init.catalogue.delete('requests', peerId) // One invitation admits one institution.
        continue
      }
      await this.#extend(addMember(this.roster(), institution, peerId, this.#init.now()), [
        { table: 'requests', key: peerId },
        this.#inviteChange(entry.invite, 'spent'),
      ])
      this.#invites.set(token, { invite: entry.invite, state: 'spent' })
      this.#init.onEvent({ event: 'member', institution })
      approved.push(institution)
    }
    return approved
  }

  /**
   * Take a member off the roster; what it published up to `validThroughSeq` still counts.
   * @throws InputError `not-found`, `not-a-member`.
   */
  async revoke(who: string, reason: RevocationReason, validThroughSeq: number): Promise<PeerIdString> {
    const member = this.roster().members.find(
      ({ institution, peerId, revoked }) => revoked === undefined && (institution === who || peerId === who),
    )
    if (member === undefined) throw new InputError('not-found', `${who} is not a member`)
    if (member.peerId === this.#init.identity.peerId) {
      throw new InputError('usage', 'a founder cannot revoke itself')
    }
    await this.#extend(revokeMember(this.roster(), member.peerId, reason, validThroughSeq, this.#init.now()))
    this.#init.onEvent({ event: 'revoked', institution: member.institution })
    return member.peerId
  }

  /** Charter first, then rosters from version 2; undefined for a token that opens nothing. */
  charterFor(token: string): Uint8Array[] | undefined {
    const invite = this.#invites.get(token)?.invite
    if (invite === undefined || invite.expiresAt < this.#init.now()) return undefined
    return [this.#init.charterEnvelope, ...this.envelopesSince(1)]
  }

  /** Rosters newer than a version, in order. */
  envelopesSince(version: number): Uint8Array[] {
    return this.#rosters.filter(({ roster }) => roster.version > version).map(({ envelope }) => envelope)
  }

  /** @throws FormatError, VerificationError for a request that is not what it says. */
  async onRequest(envelope: Uint8Array): Promise<JoinStatus> {
    const request = openMembershipRequest(envelope)
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

  /** Take over the next roster; one that is known already changes nothing. @throws VerificationError. */
  async onRoster(envelope: Uint8Array): Promise<void> {
    const known = this.#rosters.some((entry) => Buffer.compare(entry.envelope, envelope) === 0)
    if (known) return
    const before = this.roster()
    const roster = openRoster(envelope, before)
    await this.#init.catalogue.put('rosters', rosterKey(roster.version), envelope)
    this.#rosters.push({ envelope, roster })
    for (const { institution, peerId, revoked } of roster.members) {
      const was = findMember(before, peerId)
      if (was === undefined) this.#init.onEvent({ event: 'member', institution })
      else if (revoked !== undefined && was.revoked === undefined)
        this.#init.onEvent({ event: 'revoked', institution })
    }
  }

  async #extend(roster: Roster, changes: readonly Change[] = []): Promise<void> {
    if (findMember(this.roster(), this.#init.identity.peerId)?.role !== 'founder') {
      throw new InputError('not-a-member', 'only a founder changes the roster')
    }
    const envelope = seal(MEDIA_TYPES.roster, encodeRoster(roster), [this.#init.identity])
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
