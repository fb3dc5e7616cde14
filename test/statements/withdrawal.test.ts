import { describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import {
  decodeWithdrawal,
  encodeWithdrawal,
  openWithdrawal,
  type Withdrawal,
} from '../../src/statements/withdrawal.ts'
import { identityOf } from '../support/consortium.ts'
import { codeOf } from '../support/packages.ts'

const [anna, berta] = [identityOf(1), identityOf(2)]
const digest = (byte: number): Digest => digestOf(Uint8Array.of(byte))

const withdrawal: Withdrawal = {
  consortium: digest(1),
  publisher: anna.peerId,
  seq: 2,
  prev: digest(2),
  manifests: [digest(2)],
  reason: 'owner-request',
  issuedAt: 1_800_000_000,
}

describe('a withdrawal', () => {
  it('decodes to what was encoded, and opens only with the signature of its publisher', () => {
    expect(decodeWithdrawal(encodeWithdrawal(withdrawal))).toEqual(withdrawal)
    const payload = encodeWithdrawal(withdrawal)
    const opened = openWithdrawal(seal(MEDIA_TYPES.withdrawal, payload, [anna]))
    expect([opened.withdrawal, opened.id]).toEqual([withdrawal, digestOf(payload)])
    expect(codeOf(() => openWithdrawal(seal(MEDIA_TYPES.withdrawal, payload, [berta])))).toBe('wrong-signer')
  })

  it.each([
    ['no package', { manifests: [] }],
    ['a free-text reason', { reason: 'because of Ms Smith' }],
    ['an end date', { expiresAt: 1 }],
    ['no predecessor in statement 2', { prev: NO_STATEMENT }],
  ])('is refused with %s', (_title, change) => {
    expect(codeOf(() => decodeWithdrawal(encodeCanonical({ ...withdrawal, ...change })))).toBe('bad-field')
  })
})
