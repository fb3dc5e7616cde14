import { describe, expect, it } from 'vitest'
import type { Charter } from '../../src/consortium/charter.ts'
import { consortiumId, encodeCharter, openCharter, publicModelDigest } from '../../src/consortium/charter.ts'
import { decodeInvite, encodeInvite } from '../../src/consortium/invite.ts'
import { openMembershipRequest, sealMembershipRequest } from '../../src/consortium/membership-request.ts'
import {
  addMember,
  encodeRoster,
  isMember,
  mayPublish,
  openRoster,
  revokeMember,
  rosterFromCharter,
} from '../../src/consortium/roster.ts'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'

const identity = (n: number) => createIdentity(new Uint8Array(32).fill(n))
const [founder, second, guest, stranger] = [identity(1), identity(2), identity(3), identity(4)]
const code = (action: () => unknown): string => {
  try {
    action()
    return 'accept'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

function charterOf(threshold = 1): Charter {
  const file = (role: 'config' | 'tokenizer' | 'weights' | 'replay') => ({
    role,
    name: `${role}.bin`,
    size: 4,
    sha256: digestOf(utf8(role)),
    chunkSize: 1048576,
    chunksSha256: digestOf(utf8(`${role} chunks`)),
  })
  const files = [file('config'), file('tokenizer'), file('weights'), file('replay')]
  return {
    name: 'Test consortium',
    publicModel: {
      name: 'tiny',
      digest: publicModelDigest(files),
      tokenizerDigest: digestOf(utf8('tokenizer')),
      config: {
        vocab_size: 32,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        max_position_embeddings: 64,
        rope_theta: 500000,
        rms_norm_eps_nano: 1000,
      },
      files,
    },
    founders: [
      { institution: 'First', peerId: founder.peerId, role: 'founder', joinedAt: 100 },
      { institution: 'Second', peerId: second.peerId, role: 'founder', joinedAt: 100 },
    ],
    threshold,
    issuedAt: 100,
  }
}

const payload = encodeCharter(charterOf())
const consortium = consortiumId(payload)
const sealCharter = (...signers: (typeof founder)[]) => seal(MEDIA_TYPES.charter, payload, signers)

describe('charter', () => {
  it('opens when every founder has signed, and names the consortium by its digest', () => {
    const opened = openCharter(sealCharter(founder, second))
    expect(opened.consortium).toBe(consortium)
    expect(opened.charter).toEqual(charterOf())
  })
  it('refuses a missing founder, a stranger and another payload type', () => {
    expect(code(() => openCharter(sealCharter(founder)))).toBe('unsigned')
    expect(code(() => openCharter(sealCharter(founder, second, stranger)))).toBe('wrong-signer')
    expect(code(() => openCharter(seal(MEDIA_TYPES.roster, payload, [founder, second])))).toBe('wrong-type')
  })
  it('refuses a threshold of zero or above the number of founders', () => {
    for (const threshold of [0, 3]) {
      const bytes = encodeCharter(charterOf(threshold))
      expect(code(() => openCharter(seal(MEDIA_TYPES.charter, bytes, [founder, second])))).toBe('bad-field')
    }
  })
})

describe('roster', () => {
  const first = rosterFromCharter(charterOf(2), consortium)
  const next = addMember(first, 'Guest', guest.peerId, 200)
  const sealRoster = (roster: typeof next, ...signers: (typeof founder)[]) =>
    seal(MEDIA_TYPES.roster, encodeRoster(roster), signers)

  it('follows its predecessor when enough distinct founders sign', () => {
    expect(openRoster(sealRoster(next, founder, second), first)).toEqual(next)
    expect(isMember(next, guest.peerId)).toBe(true)
    expect(isMember(next, stranger.peerId)).toBe(false)
  })
  it('refuses too few founders, one founder twice, members who are not founders, gaps and forks', () => {
    expect(code(() => openRoster(sealRoster(next, founder), first))).toBe('unsigned')
    expect(code(() => openRoster(sealRoster(next, founder, founder), first))).toBe('bad-envelope')
    expect(code(() => openRoster(sealRoster(next, founder, guest), first))).toBe('unsigned')
    expect(code(() => openRoster(sealRoster({ ...next, version: 3 }, founder, second), first))).toBe(
      'replayed',
    )
    expect(
      code(() => openRoster(sealRoster({ ...next, prev: digestOf(utf8('other')) }, founder, second), first)),
    ).toBe('forked')
    expect(
      code(() =>
        openRoster(sealRoster({ ...next, consortium: digestOf(utf8('x')) }, founder, second), first),
      ),
    ).toBe('wrong-consortium')
  })
  it('keeps statements of a revoked member valid up to the sequence number that the roster names', () => {
    const revoked = revokeMember(next, guest.peerId, 'left', 3, 300)
    expect(isMember(revoked, guest.peerId)).toBe(false)
    expect(mayPublish(revoked, guest.peerId, 3)).toBe(true)
    expect(mayPublish(revoked, guest.peerId, 4)).toBe(false)
  })
})

describe('invitation and membership request', () => {
  const invite = {
    consortium,
    name: 'Test',
    addresses: ['/ip4/127.0.0.1/tcp/4001'],
    token: 'ab'.repeat(16),
    expiresAt: 900,
  }
  it('round-trips as one line and refuses a damaged or cut one', () => {
    const text = encodeInvite(invite)
    expect(text).not.toMatch(/\s/)
    expect(decodeInvite(` ${text}\n`)).toEqual(invite)
    expect(code(() => decodeInvite(text.slice(0, -3)))).toBe('usage')
    expect(code(() => decodeInvite(text.replace('a', 'b')))).toBe('usage')
  })
  it('takes a request only from the peer that signed it', () => {
    const request = {
      consortium,
      institution: 'Guest',
      peerId: guest.peerId,
      token: 'cd'.repeat(16),
      issuedAt: 5,
    }
    expect(openMembershipRequest(sealMembershipRequest(request, guest))).toEqual(request)
    expect(code(() => openMembershipRequest(sealMembershipRequest(request, stranger)))).toBe('wrong-signer')
  })
})
