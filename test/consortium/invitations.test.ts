/** Which invitation admits whom, and what becomes of requests that cannot be approved. */
import { afterAll, describe, expect, it } from 'vitest'
import { decodeInvite, encodeInvite, inviteId } from '../../src/consortium/invite.ts'
import type { Membership } from '../../src/consortium/membership.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { utf8 } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { consortium, identityOf, type TestConsortium } from '../support/consortium.ts'
import { cleanUp } from '../support/folders.ts'
import { closeLedgers, type Ledger, ledgerOf } from '../support/ledger.ts'
import { codeOfAsync } from '../support/packages.ts'

const [founder, guest, other, third] = [1, 2, 3, 4].map(identityOf) as [
  Identity,
  Identity,
  Identity,
  Identity,
]
const ADDRESSES = ['/ip4/192.0.2.1/tcp/4001']

afterAll(async () => {
  await closeLedgers()
  await cleanUp()
})

async function founded(): Promise<{ c: TestConsortium; ledger: Ledger }> {
  const c = consortium([founder])
  return { c, ledger: await ledgerOf(c) }
}

async function tokenOf({ invitations }: Membership): Promise<string> {
  return decodeInvite(await invitations.invite(ADDRESSES)).token
}

/** Let an institution apply with an invitation of its own. @returns the token and the status. */
async function apply(c: TestConsortium, membership: Membership, institution: string, identity: Identity) {
  const token = await tokenOf(membership)
  const request = c.request(identity, { institution, token })
  return { token, request, status: await membership.onRequest(request) }
}

const waiting = ({ invitations }: Membership): string[] => invitations.requests().map(({ peerId }) => peerId)

describe('a request that cannot be approved', () => {
  it('does not stop the others, stays with its reason, and can be approved once the reason is gone', async () => {
    const { c, ledger } = await founded()
    const { membership } = ledger
    await apply(c, membership, 'Guest', guest)
    await ledger.approve()
    await apply(c, membership, 'Guest', other) // Has lost its key.
    await apply(c, membership, 'Third', third)
    const first = await ledger.approve()
    expect(first.approved).toEqual(['Third'])
    expect(first.notApproved).toMatchObject([
      { peerId: other.peerId, reason: expect.stringContaining('`flexmesh revoke Guest`') },
    ])
    expect(waiting(membership)).toEqual([other.peerId])
    await ledger.revoke('Guest', 'other', 0)
    expect(await ledger.approve()).toEqual({ approved: ['Guest'], proposed: [], notApproved: [] })
    expect(membership.isMember(other.peerId)).toBe(true)
    expect(membership.isMember(guest.peerId)).toBe(false)
  })

  it('of two that have one name is neither, until one is named by its peer id', async () => {
    const { c, ledger } = await founded()
    const { membership } = ledger
    await apply(c, membership, 'Guest', guest)
    await apply(c, membership, 'Guest', other)
    for (const who of [undefined, 'Guest']) {
      const { approved, notApproved } = await ledger.approve(who)
      expect([approved, notApproved.length]).toEqual([[], 2])
      expect(notApproved[0]?.reason).toContain('2 requests have this name')
    }
    expect(await ledger.approve(other.peerId)).toEqual({ approved: ['Guest'], proposed: [], notApproved: [] })
    expect((await ledger.approve()).notApproved[0]?.reason).toContain('a member has the name Guest already')
  })
})

describe('a rejected request', () => {
  it('does not return with the same invitation, also after a restart', async () => {
    const { c, ledger } = await founded()
    const { request } = await apply(c, ledger.membership, 'Guest', guest)
    await ledger.membership.invitations.reject('Guest')
    expect(waiting(ledger.membership)).toEqual([])
    expect(await ledger.membership.onRequest(request)).toBe('refused')
    const { membership } = await ledger.reopen()
    expect(await membership.onRequest(request)).toBe('refused')
    expect(waiting(membership)).toEqual([])
  })

  it('leaves its invitation to another peer, and its peer to another invitation', async () => {
    const { c, ledger } = await founded()
    const { membership } = ledger
    const { token } = await apply(c, membership, 'Guest', guest)
    await membership.invitations.reject(guest.peerId)
    expect(await membership.onRequest(c.request(other, { institution: 'Guest', token }))).toBe('pending')
    expect((await apply(c, membership, 'Guest 2', guest)).status).toBe('pending')
    const { approved } = await ledger.approve()
    expect([...approved].sort()).toEqual(['Guest', 'Guest 2'])
  })

  it('is named by its peer id if several have its name', async () => {
    const { c, ledger } = await founded()
    const { membership } = ledger
    await apply(c, membership, 'Guest', guest)
    await apply(c, membership, 'Guest', other)
    expect(await codeOfAsync(() => membership.invitations.reject('Guest'))).toBe('usage')
    expect(await codeOfAsync(() => membership.invitations.reject('Nobody'))).toBe('not-found')
    await membership.invitations.reject(guest.peerId)
    expect(waiting(membership)).toEqual([other.peerId])
  })
})

describe('a decision that takes longer than the invitation runs', () => {
  it('still admits the institution, which gets the rosters as a member', async () => {
    const { c, ledger } = await founded()
    const { membership, clock } = ledger
    const { token, request } = await apply(c, membership, 'Guest', guest)
    clock.now += limit('inviteLifetime') + 1
    expect(await membership.onRequest(request)).toBe('pending')
    expect(membership.guestsOpen()).toBe(true)
    expect(membership.charterFor(token, guest.peerId)).toHaveLength(1)
    expect(await ledger.approve()).toMatchObject({ approved: ['Guest'] })
    expect(await membership.onRequest(request)).toBe('member')
    expect(membership.charterFor(token, guest.peerId)).toHaveLength(2)
    expect(membership.charterFor(token, other.peerId)).toBeUndefined()
    expect(membership.guestsOpen()).toBe(false)
  })
})

describe('an invitation', () => {
  it('can be cancelled by its id, which is listed while it is open', async () => {
    const { c, ledger } = await founded()
    const { membership } = ledger
    const token = await tokenOf(membership)
    expect(membership.invitations.open()).toMatchObject([{ id: inviteId(token) }])
    await membership.invitations.cancel(inviteId(token))
    expect(membership.invitations.open()).toEqual([])
    expect(await membership.onRequest(c.request(guest, { institution: 'Guest', token }))).toBe('refused')
    expect(membership.charterFor(token, guest.peerId)).toBeUndefined()
    const again = await ledger.reopen()
    expect(again.membership.guestsOpen()).toBe(false)
    expect(await codeOfAsync(() => again.membership.invitations.cancel(inviteId(token)))).toBe('not-found')
  })

  it('that is cancelled while somebody waits on it cannot be approved, but rejected', async () => {
    const { c, ledger } = await founded()
    const { membership } = ledger
    const { token } = await apply(c, membership, 'Guest', guest)
    await membership.invitations.cancel(inviteId(token))
    const { notApproved } = await ledger.approve()
    expect(notApproved[0]?.reason).toContain('it needs a new one')
    await membership.invitations.reject('Guest')
    expect(waiting(membership)).toEqual([])
  })

  it.each([0, 9])('with %d addresses is not made, and does not lock the home', async (count) => {
    const { ledger } = await founded()
    const addresses = Array.from({ length: count }, (_, i) => `/ip4/192.0.2.${i}/tcp/4001`)
    expect(await codeOfAsync(() => ledger.membership.invitations.invite(addresses))).toBe('bad-field')
    const { membership } = await ledger.reopen()
    expect(membership.guestsOpen()).toBe(false)
  })

  it('on disk that cannot be read is skipped, as is such a request', async () => {
    const { ledger } = await founded()
    await ledger.catalogue.write([
      { table: 'invites', key: 'ab'.repeat(16), value: utf8('open flexmesh-invite-1:broken') },
      { table: 'requests', key: guest.peerId, value: utf8('broken') },
    ])
    const { membership } = await ledger.reopen()
    expect(membership.guestsOpen()).toBe(false)
    expect(waiting(membership)).toEqual([])
  })

  it('is found in the text that was copied with it', async () => {
    const c = consortium([founder])
    const line = c.invitation()
    const copied = `> ${line}\ninvitation 1234 admits one institution and is valid until 2027-01-01`
    expect(encodeInvite(decodeInvite(copied))).toBe(line)
  })
})

describe('a member without a vote', () => {
  it('is told who can admit institutions', async () => {
    const c = consortium([founder])
    const roster = c.admit('Guest', guest)
    const ledger = await ledgerOf(c, guest)
    await ledger.membership.onRoster(roster)
    const admission = { kind: 'admit', institution: 'Other', peerId: other.peerId } as const
    expect(ledger.membership.votersOn(admission)).toEqual(['A'])
    await expect(ledger.propose(admission)).rejects.toThrow('this node has no vote on this change; ask A')
  })
})
