/**
 * Invitations and membership requests of one node: which invitation may admit whom, and who waits for a founder's
 * decision. Implements protocols/consortium-charter, section "Joining". Does not know the roster, nor networks.
 */

import { randomBytes } from 'node:crypto'
import type { PeerIdString } from '../identity/keys.ts'
import { type Digest, fromUtf8, toHex, utf8 } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { Catalogue, Change } from '../store/catalogue.ts'
import { decodeInvite, encodeInvite, type Invite, inviteId } from './invite.ts'
import { type JoinStatus, type MembershipRequest, openMembershipRequest } from './membership-request.ts'

export interface InvitationsInit {
  readonly catalogue: Catalogue
  readonly consortium: Digest
  /** Name of the consortium. */
  readonly name: string
  /** Unix seconds. */
  readonly now: () => number
  /** A new request has arrived. */
  readonly onRequest: (request: MembershipRequest) => void
}

/** A spent invitation admits nobody else. */
type InviteState = 'open' | 'spent'

/** An invitation that can still admit an institution. */
export interface OpenInvitation {
  /** As `inviteId` computes it. */
  readonly id: string
  /** Unix seconds. */
  readonly expiresAt: number
}

/** Keys of the settings table; the value is the token of the request that was rejected. */
const REJECTED = 'rejected.'

export class Invitations {
  readonly #init: InvitationsInit
  readonly #invites = new Map<string, { readonly invite: Invite; readonly state: InviteState }>()
  /** Requests that wait, by peer id. */
  readonly #waiting = new Map<PeerIdString, MembershipRequest>()
  /** Token of the latest rejected request, by peer id. */
  readonly #rejected = new Map<PeerIdString, string>()

  private constructor(init: InvitationsInit) {
    this.#init = init
  }

  /** Skips invitations and requests on disk that cannot be read, because a node must open without them. */
  static async load(init: InvitationsInit): Promise<Invitations> {
    const invitations = new Invitations(init)
    const { catalogue } = init
    for (const [token, value] of await catalogue.entries('invites')) {
      const [state = '', line = ''] = fromUtf8(value).split(' ')
      const invite = orUndefined(() => decodeInvite(line))
      if (invite === undefined) continue
      invitations.#invites.set(token, { invite, state: state === 'open' ? 'open' : 'spent' })
    }
    for (const [peerId, envelope] of await catalogue.entries('requests')) {
      const request = orUndefined(() => openMembershipRequest(envelope))
      if (request !== undefined) invitations.#waiting.set(peerId, request)
    }
    for (const [key, token] of await catalogue.entries('settings')) {
      if (key.startsWith(REJECTED)) invitations.#rejected.set(key.slice(REJECTED.length), fromUtf8(token))
    }
    return invitations
  }

  /** Whether the invitation with this token can still admit an institution. */
  isOpen(token: string): boolean {
    const entry = this.#invites.get(token)
    if (entry?.state !== 'open') return false
    // The decision about a request may take longer than the invitation runs.
    return entry.invite.expiresAt >= this.#init.now() || this.#waitingWith(token) !== undefined
  }

  /** Whether peers that are not members may connect, because an invitation is open. */
  guestsOpen(): boolean {
    return [...this.#invites.keys()].some((token) => this.isOpen(token))
  }

  open(): OpenInvitation[] {
    return [...this.#invites]
      .filter(([token]) => this.isOpen(token))
      .map(([token, { invite }]) => ({ id: inviteId(token), expiresAt: invite.expiresAt }))
  }

  /**
   * Invite one more institution.
   * @param addresses multiaddrs of this node.
   * @param lifetime seconds, at most `inviteLifetime`.
   * @returns the invitation, one line of text.
   */
  async invite(addresses: readonly string[], lifetime = limit('inviteLifetime')): Promise<string> {
    const { catalogue, consortium, name, now } = this.#init
    const token = toHex(randomBytes(16))
    const invite: Invite = { consortium, name, addresses, token, expiresAt: now() + lifetime }
    const line = encodeInvite(invite)
    await catalogue.write([inviteChange(invite, 'open')])
    this.#invites.set(token, { invite, state: 'open' })
    return line
  }

  /** End an open invitation. @param id as in `OpenInvitation`. @throws InputError `not-found`. */
  async cancel(id: string): Promise<void> {
    const token = [...this.#invites.keys()].find((one) => inviteId(one) === id && this.isOpen(one))
    if (token === undefined) {
      throw new InputError(
        'not-found',
        `no open invitation ${id}; ${ownCommand('members')} lists those that are open`,
      )
    }
    await this.#init.catalogue.delete('invites', token)
    this.#invites.delete(token)
  }

  /** Whether the token belongs to an invitation that has not expired, spent ones included. */
  opensCharter(token: string): boolean {
    const entry = this.#invites.get(token)
    return entry !== undefined && (entry.invite.expiresAt >= this.#init.now() || this.isOpen(token))
  }

  /** Requests that wait for a founder's decision. */
  requests(): MembershipRequest[] {
    return [...this.#waiting.values()]
  }

  /** @param request its signature and its consortium were checked, and its peer is not a member. */
  async onRequest(request: MembershipRequest, envelope: Uint8Array): Promise<JoinStatus> {
    const { peerId, token } = request
    if (this.#rejected.get(peerId) === token || !this.isOpen(token)) return 'refused'
    if (this.#waiting.get(peerId)?.token === token) return 'pending'
    // One invitation is for one institution, so its holders cannot fill the list.
    if (this.#waitingWith(token) !== undefined || this.#waiting.size >= limit('members')) return 'refused'
    await this.#init.catalogue.put('requests', peerId, envelope)
    this.#waiting.set(peerId, request)
    this.#init.onRequest(request)
    return 'pending'
  }

  /**
   * Why a waiting request cannot be approved, for people; undefined if nothing here speaks against it.
   * @param isNamedById whether it was chosen by its peer id, so that another one of its name does not matter.
   */
  obstacle({ institution, token }: MembershipRequest, isNamedById: boolean): string | undefined {
    const rivals = this.requests().filter((other) => other.institution === institution)
    if (rivals.length > 1 && !isNamedById) {
      return `${rivals.length} requests have this name; approve or reject them by their peer ids`
    }
    return this.#invites.get(token)?.state === 'open'
      ? undefined
      : 'its invitation was used already or cancelled; it needs a new one'
  }

  /** Changes that end a request because its institution becomes a member. Call `admitted` once they are written. */
  changesOf({ peerId, token }: MembershipRequest): Change[] {
    const entry = this.#invites.get(token)
    const spent = entry === undefined ? [] : [inviteChange(entry.invite, 'spent')]
    return [{ table: 'requests', key: peerId }, ...spent]
  }

  admitted({ peerId, token }: MembershipRequest): void {
    const entry = this.#invites.get(token)
    if (entry !== undefined) this.#invites.set(token, { ...entry, state: 'spent' })
    this.#waiting.delete(peerId)
  }

  /**
   * Dismiss a request for good. The peer may apply again with another invitation, and another peer with this one.
   * @param who name or peer id. @returns the request. @throws InputError `not-found`.
   */
  async reject(who: string): Promise<MembershipRequest> {
    const [request, ...others] = this.named(who)
    if (request === undefined) throw new InputError('not-found', `${who} does not wait for approval`)
    if (others.length > 0) {
      const ids = [request, ...others].map(({ peerId }) => peerId)
      throw new InputError(
        'usage',
        `several requests have the name ${who}; name one by its peer id: ${ids.join(', ')}`,
      )
    }
    const { peerId, token } = request
    await this.#init.catalogue.write([
      { table: 'requests', key: peerId },
      { table: 'settings', key: `${REJECTED}${peerId}`, value: utf8(token) },
    ])
    this.#waiting.delete(peerId)
    this.#rejected.set(peerId, token)
    return request
  }

  /** Waiting requests with a name or peer id. */
  named(who: string): MembershipRequest[] {
    return this.requests().filter(({ institution, peerId }) => who === institution || who === peerId)
  }

  #waitingWith(token: string): MembershipRequest | undefined {
    return this.requests().find((request) => request.token === token)
  }
}

function inviteChange(invite: Invite, state: InviteState): Change {
  return { table: 'invites', key: invite.token, value: utf8(`${state} ${encodeInvite(invite)}`) }
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}
