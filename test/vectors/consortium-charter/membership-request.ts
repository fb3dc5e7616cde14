/** Test vectors of section Membership request. */
import { sealMembershipRequest } from '../../../src/consortium/membership-request.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
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
  const named = (institution: string): string =>
    fromUtf8(sealMembershipRequest({ ...request, institution }, carol))
  const cases: [...Case, string][] = [
    ['signed', 'accept', 'the asking peer signed', good],
    ['other-signer', 'wrong-signer', 'asks for somebody else', fromUtf8(sealMembershipRequest(request, bob))],
    ['marks-in-name', 'accept', 'letters of many scripts carry marks', named('अस्पताल d’Évreux')],
    [
      'decomposed-name',
      'bad-field',
      'a name that reads the same has the same characters',
      named('E\u0301vreux'),
    ],
    ['quote-in-name', 'bad-field', 'names stand in quotes in messages', named('Ward "7"')],
    ['tag-in-name', 'bad-field', 'names are shown on pages', named('Ward <b>7')],
    ['mark-first', 'bad-field', 'a name begins with a letter or digit', named('\u0301vreux')],
    ['direction-in-name', 'bad-field', 'no character reverses the text around it', named('Gamma\u202eytis')],
    ['long-name', 'bad-field', '101 characters', named('a'.repeat(101))],
    [
      'control-in-name',
      'bad-field',
      'founders read the name before they approve',
      named('Gamma\n[approved]'),
    ],
    [
      'commits-next-key',
      'accept',
      'the key that will follow',
      fromUtf8(sealMembershipRequest({ ...request, next: consortium }, carol)),
    ],
    [
      'next-is-no-digest',
      'bad-field',
      'a digest of a key, not a key',
      text(
        MEDIA_TYPES.membershipRequest,
        encodeCanonical({ _type: 'membership-request', version: 1, ...request, next: bob.peerId }),
        [carol],
      ),
    ],
    [
      'next-is-empty',
      'bad-field',
      'absent or a digest',
      text(
        MEDIA_TYPES.membershipRequest,
        encodeCanonical({ _type: 'membership-request', version: 1, ...request, next: '' }),
        [carol],
      ),
    ],
    [
      'next-of-another-signer',
      'wrong-signer',
      'somebody else commits a key for it',
      fromUtf8(sealMembershipRequest({ ...request, next: consortium }, bob)),
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
