import { describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { limit } from '../../src/lib/limits.ts'
import { decodeHead, encodeHead, type Head, openHead } from '../../src/statements/head.ts'
import { identityOf } from '../support/consortium.ts'
import { codeOf } from '../support/packages.ts'

const anna = identityOf(1)
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

describe('a head', () => {
  it('decodes to what was encoded, with its lists sorted', () => {
    const shuffled = { ...head, manifests: [...head.manifests].reverse() }
    expect(decodeHead(encodeHead(shuffled))).toEqual(head)
    const opened = openHead(seal(MEDIA_TYPES.head, encodeHead(head), [anna]))
    expect([opened.head, opened.signer]).toEqual([head, anna.peerId])
  })

  it('has zeros before the first statement', () => {
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
    ['a statement without a number', { seq: 0 }],
    ['a number without a statement', { last: NO_STATEMENT }],
    ['more statements than its number', { seq: 2 }],
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
