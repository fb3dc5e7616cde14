/** Test vectors of section Withdrawal. */

import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest, publisher } from './fixtures.ts'

export function withdrawalVectors(): Vector[] {
  const base = {
    consortium: digest(1),
    publisher: publisher.peerId,
    seq: 2,
    prev: digest(2),
    manifests: [digest(2)],
    reason: 'owner-request',
    issuedAt: 1_800_000_000,
  }
  const cases: [...Case, Record<string, unknown>][] = [
    ['one', 'accept', 'a withdrawal of the manifest before it', {}],
    ['nothing', 'bad-field', 'a withdrawal of no manifest', { manifests: [] }],
    ['free-text', 'bad-field', 'a reason in free text', { reason: 'at the request of a patient' }],
    ['expires', 'bad-field', 'a withdrawal with an end', { expiresAt: 1_900_000_000 }],
    ['first', 'bad-field', 'a later statement without a predecessor', { prev: NO_STATEMENT }],
  ]
  return vectorsOf('withdrawal', 'expert-package Withdrawal', cases, (change) => ({
    decoder: 'withdrawal',
    text: fromUtf8(encodeCanonical({ ...base, ...change })),
  }))
}
