import { describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { limit } from '../../src/lib/limits.ts'
import { decodeHead, encodeHead, type Head, openHead } from '../../src/statements/head.ts'
import { NO_STATEMENT, placeInChain } from '../../src/statements/statement.ts'
import {
  decodeWithdrawal,
  encodeWithdrawal,
  openWithdrawal,
  type Withdrawal,
} from '../../src/statements/withdrawal.ts'
import { codeOf } from '../support/packages.ts'

const anna = createIdentity(new Uint8Array(32).fill(1))
const berta = createIdentity(new Uint8Array(32).fill(2))
const digest = (byte: number): Digest => digestOf(Uint8Array.of(byte))

const head: Head = {
  consortium: digest(1),
  publisher: anna.peerId,
  seq: 3,
  last: digest(2),
  manifests: [digest(3), digest(4)].sort(),
  withdrawals: [digest(5)],
  issuedAt: 1_800_000_000,
  expiresAt: 1_800_000_000 + 86_400,
}
const withdrawal: Withdrawal = {
  consortium: digest(1),
  publisher: anna.peerId,
  seq: 2,
  prev: digest(2),
  manifests: [digest(2)],
  reason: 'owner-request',
  issuedAt: 1_800_000_000,
}

describe('a head', () => {
  it('comes back as it was, its lists in order', () => {
    const shuffled = { ...head, manifests: [...head.manifests].reverse() }
    expect(decodeHead(encodeHead(shuffled))).toEqual(head)
    const opened = openHead(seal(MEDIA_TYPES.head, encodeHead(head), [anna]))
    expect([opened.head, opened.signer]).toEqual([head, anna.peerId])
  })

  it('may say that there is nothing yet', () => {
    const empty: Head = { ...head, seq: 0, last: NO_STATEMENT, manifests: [], withdrawals: [] }
    expect(decodeHead(encodeHead(empty))).toEqual(empty)
  })

  it('fits an announcement when both lists are full', () => {
    const digests = Array.from({ length: limit('digestsPerStatement') }, (_, index) => digest(index))
    const full = { ...head, seq: Number.MAX_SAFE_INTEGER, manifests: digests, withdrawals: digests }
    const envelope = seal(MEDIA_TYPES.head, encodeHead(full), [anna])
    expect(envelope.length).toBeLessThanOrEqual(limit('announcementBytes'))
  })

  it.each([
    ['an unknown member', { x: 1 }],
    ['a statement without number', { seq: 0 }],
    ['a number without statement', { last: NO_STATEMENT }],
    ['more statements than were made', { seq: 2 }],
    ['a list out of order', { manifests: [...head.manifests].reverse() }],
    ['a digest twice', { manifests: [head.manifests[0], head.manifests[0]] }],
    ['a number in a list', { withdrawals: [1] }],
    ['a life above the limit', { expiresAt: head.issuedAt + limit('headLifetime') + 1 }],
    [
      'a list above the limit',
      { seq: 99, withdrawals: Array.from({ length: 17 }, (_, i) => digest(i)).sort() },
    ],
  ])('is refused with %s', (_title, change) => {
    expect(codeOf(() => decodeHead(encodeCanonical({ ...head, ...change })))).toBe('bad-field')
  })
})

describe('a withdrawal', () => {
  it('comes back as it was and only from its publisher', () => {
    expect(decodeWithdrawal(encodeWithdrawal(withdrawal))).toEqual(withdrawal)
    const payload = encodeWithdrawal(withdrawal)
    const opened = openWithdrawal(seal(MEDIA_TYPES.withdrawal, payload, [anna]))
    expect([opened.withdrawal, opened.id]).toEqual([withdrawal, digestOf(payload)])
    expect(codeOf(() => openWithdrawal(seal(MEDIA_TYPES.withdrawal, payload, [berta])))).toBe('wrong-signer')
  })

  it.each([
    ['nothing to withdraw', { manifests: [] }],
    ['a free-text reason', { reason: 'because of Ms Smith' }],
    ['an end date', { expiresAt: 1 }],
    ['no predecessor in statement 2', { prev: NO_STATEMENT }],
  ])('is refused with %s', (_title, change) => {
    expect(codeOf(() => decodeWithdrawal(encodeCanonical({ ...withdrawal, ...change })))).toBe('bad-field')
  })
})

describe('the chain of a publisher', () => {
  const tip = { seq: 5, digest: digest(5) }

  it('tells the next statement from a gap and from the one it ends with', () => {
    expect(placeInChain(undefined, { seq: 1, prev: NO_STATEMENT }, digest(1))).toBe('next')
    expect(placeInChain(tip, { seq: 6, prev: digest(5) }, digest(6))).toBe('next')
    expect(placeInChain(tip, { seq: 7, prev: digest(6) }, digest(7))).toBe('gap')
    expect(placeInChain(tip, { seq: 5, prev: digest(4) }, digest(5))).toBe('known')
  })

  it('refuses forks and replays', () => {
    expect(codeOf(() => placeInChain(tip, { seq: 6, prev: digest(4) }, digest(6)))).toBe('forked')
    expect(codeOf(() => placeInChain(tip, { seq: 5, prev: digest(4) }, digest(9)))).toBe('forked')
    expect(codeOf(() => placeInChain(tip, { seq: 4, prev: digest(3) }, digest(4)))).toBe('replayed')
  })
})
