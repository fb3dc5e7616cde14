import { describe, expect, it } from 'vitest'
import { openMembershipRequest } from '../../src/consortium/membership-request.ts'
import { consortium, identityOf, NOW } from '../support/consortium.ts'
import { codeOf } from '../support/packages.ts'

const c = consortium()
const [guest, stranger] = [identityOf(3), identityOf(4)]
const asked = { institution: 'Guest', token: 'cd'.repeat(16) }

describe('a membership request', () => {
  it('says who asks, with which invitation', () => {
    const request = openMembershipRequest(c.request(guest, asked))
    expect(request).toEqual({ ...asked, consortium: c.id, peerId: guest.peerId, issuedAt: NOW })
  })

  it('is refused if another peer has signed it', () => {
    expect(codeOf(() => openMembershipRequest(c.request(guest, asked, stranger)))).toBe('wrong-signer')
  })

  it('is refused if the name of the institution is not printable', () => {
    const request = c.request(guest, { ...asked, institution: 'Gu\u001b[2Jest' })
    expect(codeOf(() => openMembershipRequest(request))).toBe('bad-field')
  })
})
