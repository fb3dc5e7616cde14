/** Test vectors of protocols/consortium-charter, from fixed seeds. */

import { type Charter, encodeCharter, openCharter, publicModelDigest } from '../../src/consortium/charter.ts'
import { decodeInvite, encodeInvite } from '../../src/consortium/invite.ts'
import { openMembershipRequest, sealMembershipRequest } from '../../src/consortium/membership-request.ts'
import {
  addMember,
  encodeRoster,
  openRoster,
  type Roster,
  revokeMember,
  rosterFromCharter,
} from '../../src/consortium/roster.ts'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES, type MediaType } from '../../src/identity/media-types.ts'
import { type Digest, digestOf, fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { decodeCanonical, encodeCanonical, type JsonObject } from '../../src/lib/canonical-json.ts'
import type { PublicFile } from '../../src/lib/model-shape.ts'
import { byFileName, type Case, type Place, type Vector, type VectorSuite, vectorsOf } from './vector.ts'

const SPEC = 'consortium-charter'
const NOW = 1_800_000_000
const alice = createIdentity(new Uint8Array(32).fill(0x31))
const bob = createIdentity(new Uint8Array(32).fill(0x32))
const carol = createIdentity(new Uint8Array(32).fill(0x33))

const file = (role: PublicFile['role'], name: string, byte: number) => ({
  role,
  name,
  size: 1000 + byte,
  sha256: digestOf(Uint8Array.of(byte)),
  chunkSize: 1_048_576,
  chunksSha256: digestOf(Uint8Array.of(byte, 1)),
})
const files = [
  file('config', 'config.json', 1),
  file('tokenizer', 'tokenizer.json', 2),
  file('weights', 'model.safetensors', 3),
  file('replay', 'replay.jsonl', 4),
]
const shards = [
  file('config', 'config.json', 1),
  file('tokenizer', 'tokenizer.json', 2),
  file('weights', 'model-00001-of-00002.safetensors', 5),
  file('weights', 'model-00002-of-00002.safetensors', 6),
  file('index', 'model.safetensors.index.json', 7),
  file('replay', 'replay.jsonl', 4),
]
const charter: Charter = {
  name: 'Example consortium',
  publicModel: {
    name: 'tiny',
    digest: publicModelDigest(files),
    tokenizerDigest: digestOf(Uint8Array.of(2)),
    config: {
      vocab_size: 64,
      hidden_size: 4,
      intermediate_size: 6,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      max_position_embeddings: 32,
      rope_theta: 500_000,
      rms_norm_eps_nano: 1000,
    },
    files,
  },
  founders: [
    { institution: 'Alpha Hospital', peerId: alice.peerId, role: 'founder', joinedAt: NOW },
    { institution: 'Beta Archive', peerId: bob.peerId, role: 'founder', joinedAt: NOW },
  ],
  threshold: 2,
  issuedAt: NOW,
}
const payload = encodeCharter(charter)
const consortium = digestOf(payload)
const founding = rosterFromCharter(charter, consortium)
const grown = addMember(founding, 'Gamma University', carol.peerId, NOW + 60)
const shrunk = revokeMember(grown, carol.peerId, 'left', 3, NOW + 120)

type Change = (value: Record<string, unknown>) => void

/** The payload with one change, still canonical JSON. */
function changed(bytes: Uint8Array, change: Change): Uint8Array {
  const value = JSON.parse(fromUtf8(bytes)) as Record<string, unknown>
  change(value)
  return encodeCanonical(value)
}

function text(type: MediaType, bytes: Uint8Array, signers: readonly Identity[]): string {
  return fromUtf8(seal(type, bytes, signers))
}

const both = [alice, bob]
const set =
  (name: string, value: unknown): Change =>
  (object) => {
    object[name] = value
  }
const member = (value: Record<string, unknown>, index: number): Record<string, unknown> =>
  (value['members'] as Record<string, unknown>[])[index] as Record<string, unknown>
const publicModel =
  (name: string, value: unknown): Change =>
  (object) => {
    ;(object['publicModel'] as Record<string, unknown>)[name] = value
  }

function charterVectors(): Vector[] {
  const cases: [...Case, string][] = []
  const add = (name: string, expect: string, comment: string, change: Change = () => undefined): void => {
    cases.push([name, expect, comment, text(MEDIA_TYPES.charter, changed(payload, change), both)])
  }
  const raw = (name: string, expect: string, comment: string, envelope: string): void => {
    cases.push([name, expect, comment, envelope])
  }
  add('two-founders', 'accept', 'both founders signed')
  add('unknown-member', 'bad-field', 'nothing may hide in a charter', set('motto', 'x'))
  add('version', 'bad-field', 'another version is another media type', set('version', 2))
  add('no-founder', 'bad-field', 'somebody must approve', set('founders', []))
  add('threshold-zero', 'bad-field', 'nobody would have to sign', set('threshold', 0))
  add('threshold-too-high', 'bad-field', 'three of two founders', set('threshold', 3))
  add('founder-twice', 'bad-field', 'one key, one member', (value) => {
    const founders = value['founders'] as unknown[]
    value['founders'] = [founders[0], founders[0]]
  })
  add('founder-is-member', 'bad-field', 'founders have the role founder', (value) => {
    const [first] = value['founders'] as Record<string, unknown>[]
    if (first !== undefined) first['role'] = 'member'
  })
  add('control-in-name', 'bad-field', 'institutions have printable names', (value) => {
    const [first] = value['founders'] as Record<string, unknown>[]
    if (first !== undefined) first['institution'] = 'A\u001b[2J'
  })
  add(
    'wrong-model-digest',
    'bad-field',
    'not the digest of the files',
    publicModel('digest', digestOf(utf8('x'))),
  )
  add(
    'wrong-tokenizer',
    'bad-field',
    'not the tokenizer file',
    publicModel('tokenizerDigest', digestOf(utf8('x'))),
  )
  add('no-weights', 'bad-field', 'every role once', publicModel('files', files.slice(0, 2)))
  const withFiles = (list: readonly PublicFile[]): Change => {
    const digest = publicModel('digest', publicModelDigest(list))
    const entries = publicModel('files', list)
    return (value) => {
      digest(value)
      entries(value)
    }
  }
  add('shards', 'accept', 'two weight files and their index', withFiles(shards))
  add(
    'shards-without-index',
    'bad-field',
    'nothing says what lies where',
    withFiles(shards.filter(({ role }) => role !== 'index')),
  )
  add(
    'index-of-one-file',
    'bad-field',
    'one file needs no index',
    withFiles([...files, file('index', 'model.safetensors.index.json', 7)]),
  )
  add(
    'two-indexes',
    'bad-field',
    'two would say two things',
    withFiles([...shards, file('index', 'other.index.json', 8)]),
  )
  add(
    'two-tokenizers',
    'bad-field',
    'only weights come in several files',
    withFiles([...files, file('tokenizer', 'other.json', 8)]),
  )
  add('file-path', 'bad-field', 'file names hold no slash', (value) => {
    const [first] = (value['publicModel'] as { files: Record<string, unknown>[] }).files
    if (first !== undefined) first['name'] = '../config.json'
  })
  raw('one-signature', 'unsigned', 'one founder has not signed', text(MEDIA_TYPES.charter, payload, [alice]))
  raw(
    'stranger-signs',
    'wrong-signer',
    'only founders sign a charter',
    text(MEDIA_TYPES.charter, payload, [alice, bob, carol]),
  )
  raw(
    'signed-twice',
    'bad-envelope',
    'one key signs once',
    text(MEDIA_TYPES.charter, payload, [alice, alice]),
  )
  raw('as-roster', 'wrong-type', 'signed as another kind', text(MEDIA_TYPES.roster, payload, both))
  raw('changed-name', 'bad-signature', 'changed after signing', tampered())
  raw('cut', 'not-json', 'half an envelope', text(MEDIA_TYPES.charter, payload, both).slice(0, 200))
  return vectorsOf('charter', `${SPEC} Charter`, cases, (envelope) => ({ decoder: 'charter', envelope }))
}

/** Both signatures of the charter over another payload. */
function tampered(): string {
  const envelope = decodeCanonical(seal(MEDIA_TYPES.charter, payload, both), 1 << 20) as JsonObject
  const other = changed(payload, set('name', 'Other consortium'))
  return fromUtf8(encodeCanonical({ ...envelope, payload: Buffer.from(other).toString('base64') }))
}

function rosterVectors(): Vector[] {
  const cases: [...Case, string, string][] = []
  const add = (
    name: string,
    expect: string,
    comment: string,
    bytes: Uint8Array,
    previous: Roster = founding,
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
  return vectorsOf('roster', `${SPEC} Roster`, cases, (envelope, previous) => ({
    decoder: 'roster',
    envelope,
    previous,
  }))
}

/** Peer id of the Ed25519 point of order 1. */
const SMALL_ORDER_PEER = '12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH'

function membershipVectors(): Vector[] {
  const request = {
    consortium: consortium as Digest,
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
  return vectorsOf('membership', `${SPEC} Membership request`, cases, (envelope) => ({
    decoder: 'membership-request',
    envelope,
  }))
}

function inviteVectors(): Vector[] {
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
  return vectorsOf('invite', `${SPEC} Invitation`, cases, (value) => ({ decoder: 'invite', text: value }))
}

function makeVectors(): Record<string, Vector> {
  return byFileName([...charterVectors(), ...rosterVectors(), ...membershipVectors(), ...inviteVectors()])
}

function runVector(input: Readonly<Record<string, unknown>>, place: Place): unknown {
  const envelope = place(utf8(String(input['envelope'] ?? '')))
  switch (input['decoder']) {
    case 'charter':
      return openCharter(envelope)
    case 'roster':
      return openRoster(envelope, previousRoster(String(input['previous'])))
    case 'membership-request':
      return openMembershipRequest(envelope)
    case 'invite':
      return decodeInvite(String(input['text']))
    default:
      throw new Error(`no decoder for ${String(input['decoder'])}`)
  }
}

function previousRoster(written: string): Roster {
  const known = [founding, grown].find((roster) => fromUtf8(encodeRoster(roster)) === written)
  if (known === undefined) throw new Error('a vector names a roster that this file does not make')
  return known
}

export const consortiumCharter: VectorSuite = { makeVectors, runVector }
