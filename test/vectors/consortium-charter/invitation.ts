/** Test vectors of section Invitation. */
import { encodeInvite } from '../../../src/consortium/invite.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { alice, consortium, NOW } from './fixtures.ts'

export function inviteVectors(): Vector[] {
  const invite = encodeInvite({
    consortium,
    name: 'Example consortium',
    addresses: [`/ip4/192.0.2.1/tcp/4001/p2p/${alice.peerId}`],
    token: 'ab'.repeat(16),
    expiresAt: NOW + 86_400,
  })
  const cases: [...Case, string][] = [
    ['whole', 'accept', 'as printed', invite],
    ['cut', 'usage', 'the end is missing', invite.slice(0, -12)],
    [
      'changed',
      'usage',
      'one character differs',
      `${invite.slice(0, 60)}${invite[60] === 'A' ? 'B' : 'A'}${invite.slice(61)}`,
    ],
    ['other-text', 'usage', 'not an invitation', 'https://example.org/join'],
    ['empty', 'usage', 'nothing was pasted', ' '],
  ]
  return vectorsOf('invite', 'consortium-charter Invitation', cases, (value) => ({
    decoder: 'invite',
    text: value,
  }))
}
