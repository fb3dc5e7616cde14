import { afterEach, describe, expect, it } from 'vitest'
import { decodeInvite } from '../../src/consortium/invite.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { limit } from '../../src/lib/limits.ts'
import { consortium, identityOf, NOW, type TestConsortium } from '../support/consortium.ts'
import { cleanUp } from '../support/folders.ts'
import { closeLedgers, type Ledger, ledgerOf } from '../support/ledger.ts'
import { codeOfAsync } from '../support/packages.ts'
import { addMember } from '../support/signed-rosters.ts'

const [founder, guest, other] = [1, 2, 3].map(identityOf) as [Identity, Identity, Identity]
const ADDRESSES = ['/ip4/127.0.0.1/tcp/4001']

afterEach(async () => {
  await closeLedgers()
  await cleanUp()
})

async function founded(): Promise<{ c: TestConsortium; ledger: Ledger }> {
  const c = consortium([founder])
  return { c, ledger: await ledgerOf(c) }
}

/** A signed request of an institution that was invited. */
async function requestOf(c: TestConsortium, { membership }: Ledger, institution: string, identity: Identity) {
  const { token } = decodeInvite(await membership.invitations.invite(ADDRESSES))
  return c.request(identity, { institution, token })
}

const institutions = ({ membership }: Ledger): string[] =>
  membership.roster().members.map(({ institution }) => institution)

describe('a roster', () => {
  it('that arrives twice at the same time is kept once', async () => {
    const { c, ledger } = await founded()
    const roster = c.admit('Guest', guest)
    const twice = [ledger.membership.onRoster(roster), ledger.membership.onRoster(roster)]
    expect(await Promise.all(twice)).toEqual([true, false])
    expect(ledger.membership.book.envelopesSince(1)).toEqual([roster])
    expect(ledger.events).toEqual([{ event: 'member', institution: 'Guest' }])
  })

  it('that arrives at the same time as another of its version is kept, and the other is refused', async () => {
    const { c, ledger } = await founded()
    const rival = c.seal(addMember(c.roster, 'Other', other.peerId, NOW))
    const first = c.admit('Guest', guest)
    const arriving = [first, rival].map((roster) => codeOfAsync(() => ledger.membership.onRoster(roster)))
    expect(await Promise.all(arriving)).toEqual(['accept', 'replayed'])
    const { membership } = await ledger.reopen()
    expect(membership.book.envelopesSince(1)).toEqual([first])
    expect(membership.isMember(guest.peerId)).toBe(true)
    expect(membership.isMember(other.peerId)).toBe(false)
  })

  it('is written before it counts', async () => {
    const { c, ledger } = await founded()
    await ledger.membership.onRoster(c.admit('Guest', guest))
    await ledger.membership.onRoster(c.revoke(guest, 'left', 3))
    const { membership } = await ledger.reopen()
    expect(membership.roster()).toEqual(c.roster)
    expect(membership.isMember(guest.peerId)).toBe(false)
    expect(membership.mayPublish(guest.peerId, 3)).toBe(true)
    expect(membership.mayPublish(guest.peerId, 4)).toBe(false)
  })

  it('is refused if it skips a version', async () => {
    const { c, ledger } = await founded()
    c.admit('Guest', guest)
    const third = c.revoke(guest, 'left', 0)
    expect(await codeOfAsync(() => ledger.membership.onRoster(third))).toBe('replayed')
    expect(institutions(ledger)).toEqual(['A'])
  })

  it('is renewed for another year', async () => {
    const { ledger } = await founded()
    ledger.clock.now = NOW + limit('rosterLifetime') + limit('clockSkew') + 1
    expect(() => ledger.membership.checkRosterNotEnded()).toThrow(/flexmesh renew/)
    expect(await ledger.propose({ kind: 'renew' })).toMatchObject({ state: 'applied', appliedAs: 2 })
    expect(ledger.membership.roster().expiresAt).toBe(ledger.clock.now + limit('rosterLifetime'))
    expect(() => ledger.membership.checkRosterNotEnded()).not.toThrow()
    expect(ledger.membership.roster()).toMatchObject({ version: 2, members: [{ institution: 'A' }] })
  })

  it('that founders have signed before is read from an old home, and proposals go on from it', async () => {
    const { c, ledger } = await founded()
    await ledger.membership.onRoster(c.admit('Guest', guest))
    const again = await ledger.reopen()
    expect(again.membership.roster()).toMatchObject({
      version: 2,
      rules: { admit: { threshold: 1, group: 'founders' } },
    })
    const { state } = await again.propose({ kind: 'admit', institution: 'Other', peerId: other.peerId })
    expect(state).toBe('applied')
    const { membership } = await again.reopen()
    expect(membership.roster()).toMatchObject({ version: 3 })
    expect(membership.isMember(other.peerId)).toBe(true)
  })

  it('of a charter of version 1 is changed by founders only', async () => {
    const { c, ledger } = await founded()
    const roster = c.admit('Guest', guest)
    const guests = await ledgerOf(c, guest)
    await guests.membership.onRoster(roster)
    expect(await codeOfAsync(() => guests.propose({ kind: 'renew' }))).toBe('not-a-member')
    expect(await codeOfAsync(() => guests.revoke('A', 'left', 0))).toBe('not-a-member')
    await ledger.membership.onRoster(roster)
    expect(await codeOfAsync(() => ledger.revoke('A', 'left', 0))).toBe('not-a-member')
  })
})

describe('a request for membership', () => {
  it('waits, also over a restart, until it is approved', async () => {
    const { c, ledger } = await founded()
    const request = await requestOf(c, ledger, 'Guest', guest)
    expect(await ledger.membership.onRequest(request)).toBe('pending')
    expect(await ledger.membership.onRequest(request)).toBe('pending')
    expect(ledger.events).toEqual([{ event: 'request', institution: 'Guest', peerId: guest.peerId }])
    const again = await ledger.reopen()
    expect(again.membership.invitations.requests()).toMatchObject([{ institution: 'Guest' }])
    expect(await again.approve()).toEqual({ approved: ['Guest'], proposed: [], notApproved: [] })
    expect(await again.membership.onRequest(request)).toBe('member')
    expect(again.membership.invitations.requests()).toEqual([])
  })

  it('is approved once although a founder approves twice at the same time', async () => {
    const { c, ledger } = await founded()
    await ledger.membership.onRequest(await requestOf(c, ledger, 'Guest', guest))
    const approvals = await Promise.allSettled([ledger.approve('Guest'), ledger.approve('Guest')])
    expect(approvals.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
    expect(institutions(ledger)).toEqual(['A', 'Guest'])
    expect(ledger.membership.roster().version).toBe(2)
  })

  it('is refused with an invitation that another institution waits on', async () => {
    const { c, ledger } = await founded()
    const { token } = decodeInvite(await ledger.membership.invitations.invite(ADDRESSES))
    const first = c.request(guest, { institution: 'Guest', token })
    const second = c.request(other, { institution: 'Other', token })
    expect(await ledger.membership.onRequest(first)).toBe('pending')
    expect(await ledger.membership.onRequest(second)).toBe('refused')
    expect(await ledger.approve()).toEqual({ approved: ['Guest'], proposed: [], notApproved: [] })
    expect(await ledger.membership.onRequest(second)).toBe('refused')
    expect(ledger.membership.guestsOpen()).toBe(false)
  })

  it.each([
    ['with a token that was never issued', {}, 0],
    ['after its invitation has expired', undefined, limit('inviteLifetime') + 1],
  ])('%s is refused', async (_, changes, seconds) => {
    const { c, ledger } = await founded()
    const { token } = decodeInvite(await ledger.membership.invitations.invite(ADDRESSES))
    const used = changes === undefined ? token : 'cd'.repeat(16)
    ledger.clock.now += seconds
    const request = c.request(guest, { institution: 'Guest', token: used })
    expect(await ledger.membership.onRequest(request)).toBe('refused')
    expect(ledger.membership.invitations.requests()).toEqual([])
  })

  it('for another consortium is refused', async () => {
    const { ledger } = await founded()
    const { token } = decodeInvite(await ledger.membership.invitations.invite(ADDRESSES))
    const elsewhere = consortium([other])
    const request = elsewhere.request(guest, { institution: 'Guest', token })
    expect(await ledger.membership.onRequest(request)).toBe('refused')
  })

  it('that another peer has signed is refused', async () => {
    const { c, ledger } = await founded()
    const { token } = decodeInvite(await ledger.membership.invitations.invite(ADDRESSES))
    const request = c.request(guest, { institution: 'Guest', token }, other)
    expect(await codeOfAsync(() => ledger.membership.onRequest(request))).toBe('wrong-signer')
  })

  it('is not found by another name', async () => {
    const { c, ledger } = await founded()
    await ledger.membership.onRequest(await requestOf(c, ledger, 'Guest', guest))
    expect(await codeOfAsync(() => ledger.approve('Gest'))).toBe('not-found')
    expect(await ledger.approve(guest.peerId)).toEqual({ approved: ['Guest'], proposed: [], notApproved: [] })
  })
})

describe('an institution whose key was revoked', () => {
  it('returns with another key, and its old key stays revoked', async () => {
    const { c, ledger } = await founded()
    await ledger.membership.onRequest(await requestOf(c, ledger, 'Guest', guest))
    await ledger.approve()
    await ledger.revoke('Guest', 'compromised', 4)
    await ledger.membership.onRequest(await requestOf(c, ledger, 'Guest', other))
    expect(await ledger.approve()).toEqual({ approved: ['Guest'], proposed: [], notApproved: [] })
    const again = await ledger.reopen()
    const { membership } = again
    expect(membership.isMember(guest.peerId)).toBe(false)
    expect(membership.mayPublish(guest.peerId, 4)).toBe(true)
    expect(membership.isMember(other.peerId)).toBe(true)
    await again.revoke('Guest', 'left', 0)
    expect(membership.isMember(other.peerId)).toBe(false)
  })

  it('cannot return with the same key', async () => {
    const { c, ledger } = await founded()
    await ledger.membership.onRequest(await requestOf(c, ledger, 'Guest', guest))
    await ledger.approve()
    await ledger.revoke('Guest', 'compromised', 4)
    await ledger.membership.onRequest(await requestOf(c, ledger, 'Guest', guest))
    const { approved, notApproved } = await ledger.approve()
    expect(approved).toEqual([])
    expect(notApproved).toMatchObject([
      { institution: 'Guest', reason: expect.stringContaining('was revoked') },
    ])
  })
})

describe('the charter and the rosters', () => {
  it('are open to an invitation, also to a spent one, until it expires', async () => {
    const { c, ledger } = await founded()
    const { token } = decodeInvite(await ledger.membership.invitations.invite(ADDRESSES))
    expect(ledger.membership.charterFor('cd'.repeat(16), other.peerId)).toBeUndefined()
    expect(ledger.membership.charterFor(token, other.peerId)).toEqual([c.charterEnvelope])
    await ledger.membership.onRequest(c.request(guest, { institution: 'Guest', token }))
    await ledger.approve()
    const { membership, clock } = await ledger.reopen()
    expect(membership.charterFor(token, other.peerId)).toEqual([
      c.charterEnvelope,
      ...membership.book.governanceEnvelopes(),
    ])
    expect(membership.book.governanceEnvelopes()).toHaveLength(1)
    clock.now += limit('inviteLifetime') + 1
    expect(membership.charterFor(token, other.peerId)).toBeUndefined()
  })
})
