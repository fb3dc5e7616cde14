/** Test vectors of section Roster. */
import { encodeRoster } from '../../../src/consortium/roster.ts'
import type { Identity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { digestOf, fromUtf8, utf8 } from '../../../src/lib/bytes.ts'
import { renewRoster, revokeMember, type SignedRoster } from '../../support/signed-rosters.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import {
  alice,
  both,
  type Change,
  carol,
  changed,
  founding,
  grown,
  member,
  NOW,
  set,
  shrunk,
  text,
} from './fixtures.ts'

export function rosterVectors(): Vector[] {
  const cases: [...Case, string, string][] = []
  const add = (
    name: string,
    expect: string,
    comment: string,
    bytes: Uint8Array,
    previous: SignedRoster = founding,
    signers: readonly Identity[] = both,
  ): void => {
    cases.push([
      name,
      expect,
      comment,
      text(MEDIA_TYPES.roster, bytes, signers),
      fromUtf8(encodeRoster(previous)),
    ])
  }
  const grownBytes = encodeRoster(grown)
  const edit = (change: Change): Uint8Array => changed(grownBytes, change)
  add('adds-member', 'accept', 'version 2, signed by both founders', grownBytes)
  add('revokes-member', 'accept', 'version 3 takes a member off', encodeRoster(shrunk), grown)
  add('one-signature', 'unsigned', 'the threshold is two', grownBytes, founding, [alice])
  add('member-signs', 'unsigned', 'a member does not count as a founder', encodeRoster(shrunk), grown, [
    alice,
    carol,
  ])
  add('skips-version', 'replayed', 'version 3 after version 1', encodeRoster(shrunk))
  add('same-version', 'replayed', 'version 2 after version 2', grownBytes, grown)
  add('other-history', 'forked', 'follows another version 1', edit(set('prev', digestOf(utf8('other')))))
  add(
    'other-consortium',
    'wrong-consortium',
    'of another charter',
    edit(set('consortium', digestOf(utf8('other')))),
  )
  add(
    'no-founder',
    'bad-field',
    'nobody could ever sign the next',
    edit((value) => {
      member(value, 0)['role'] = 'member'
      member(value, 1)['role'] = 'member'
      value['threshold'] = 1
    }),
  )
  add('threshold-out-of-reach', 'bad-field', 'three of two founders', edit(set('threshold', 3)))
  add(
    'peer-twice',
    'bad-field',
    'one key, one member',
    edit((value) => {
      member(value, 2)['peerId'] = alice.peerId
    }),
  )
  add('lives-too-long', 'bad-field', 'membership is confirmed yearly', edit(set('expiresAt', NOW + 10 ** 9)))
  add(
    'revocation-reason',
    'bad-field',
    'no free text',
    edit((value) => {
      member(value, 2)['revoked'] = { reason: 'we did not like them', at: NOW, validThroughSeq: 0 }
    }),
  )
  add(
    'small-order-key',
    'weak-key',
    'a key for which anybody can sign',
    edit((value) => {
      member(value, 2)['peerId'] = SMALL_ORDER_PEER
    }),
  )
  const after = (change: Change): Uint8Array => changed(encodeRoster(renewRoster(shrunk, NOW)), change)
  add(
    'keeps-revocation',
    'accept',
    'version 4 renews version 3',
    after(() => undefined),
    shrunk,
  )
  add(
    'lowers-revocation',
    'accept',
    'fewer statements of a revoked member stay valid',
    encodeRoster(revokeMember(shrunk, carol.peerId, 'compromised', 0, NOW)),
    shrunk,
  )
  add(
    'raises-revocation',
    'bad-field',
    'a dropped package could not count again everywhere',
    after((value) => {
      const revoked = member(value, 2)['revoked'] as Record<string, unknown>
      revoked['validThroughSeq'] = Number(revoked['validThroughSeq']) + 1
    }),
    shrunk,
  )
  add(
    'takes-revocation-back',
    'bad-field',
    'a revoked key stays revoked',
    after((value) => {
      delete member(value, 2)['revoked']
    }),
    shrunk,
  )
  add(
    'drops-member',
    'bad-field',
    'its name and key identify its statements',
    after((value) => void (value['members'] as unknown[]).pop()),
    shrunk,
  )
  add(
    'renames-member',
    'bad-field',
    "one institution's experts under another name",
    after((value) => {
      member(value, 2)['institution'] = 'Gamma Bank'
    }),
    shrunk,
  )
  return vectorsOf('roster', 'consortium-charter Roster', cases, (envelope, previous) => ({
    decoder: 'roster',
    envelope,
    previous,
  }))
}

/** Peer id of the Ed25519 point of order 1. */
export const SMALL_ORDER_PEER = '12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH'
