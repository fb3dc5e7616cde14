/** Test vectors of section Membership request. */
import { sealMembershipRequest } from '../../../src/consortium/membership-request.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { bob, carol, consortium, NOW, payload, text } from './fixtures.ts'

export function membershipVectors(): Vector[] {
  const request = {
    consortium,
    institution: 'Gamma University',
    peerId: carol.peerId,
    token: 'ab'.repeat(16),
    issuedAt: NOW,
  }
  const good = fromUtf8(sealMembershipRequest(request, carol))
  const cases: [...Case, string][] = [
    ['signed', 'accept', 'the asking peer signed', good],
    ['other-signer', 'wrong-signer', 'asks for somebody else', fromUtf8(sealMembershipRequest(request, bob))],
    [
      'control-in-name',
      'bad-field',
      'founders read the name before they approve',
      fromUtf8(sealMembershipRequest({ ...request, institution: 'Gamma\n[approved]' }, carol)),
    ],
    [
      'short-token',
      'bad-field',
      'tokens have 32 hexadecimal digits',
      fromUtf8(sealMembershipRequest({ ...request, token: 'ab' }, carol)),
    ],
    ['as-roster', 'wrong-type', 'signed as another kind', text(MEDIA_TYPES.roster, payload, [carol])],
  ]
  return vectorsOf('membership', 'consortium-charter Membership request', cases, (envelope) => ({
    decoder: 'membership-request',
    envelope,
  }))
}
