/** Test vectors of section Head. */

import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import { limit } from '../../../src/lib/limits.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest, publisher } from './fixtures.ts'

export function headVectors(): Vector[] {
  const manifests = [digest(3), digest(4)].sort()
  const base = {
    consortium: digest(1),
    publisher: publisher.peerId,
    seq: 3,
    last: digest(2),
    manifests,
    withdrawals: [digest(5)],
    issuedAt: 1_800_000_000,
    expiresAt: 1_800_086_400,
  }
  const cases: [...Case, Record<string, unknown>][] = [
    ['latest', 'accept', 'two packages in use and one withdrawn', {}],
    [
      'empty',
      'accept',
      'a member that has published nothing',
      { seq: 0, last: NO_STATEMENT, manifests: [], withdrawals: [] },
    ],
    ['unsorted', 'bad-field', 'manifests that are not sorted', { manifests: [...manifests].reverse() }],
    ['twice', 'bad-field', 'a manifest that is listed twice', { manifests: [manifests[0], manifests[0]] }],
    ['more-than-made', 'bad-field', 'more manifests and withdrawals than statements', { seq: 2 }],
    [
      'seq-without-last',
      'bad-field',
      'a sequence number without the digest of its statement',
      { last: NO_STATEMENT },
    ],
    [
      'last-without-seq',
      'bad-field',
      'the digest of a statement without its sequence number',
      { seq: 0, manifests: [], withdrawals: [] },
    ],
    [
      'lives-too-long',
      'bad-field',
      'a head with a longer life than the limit',
      { expiresAt: base.issuedAt + limit('headLifetime') + 1 },
    ],
    [
      'too-many',
      'bad-field',
      'more manifests than the limit',
      {
        seq: 99,
        withdrawals: Array.from({ length: limit('digestsPerStatement') + 1 }, (_, index) =>
          digest(index),
        ).sort(),
      },
    ],
    ['unknown-member', 'bad-field', 'a member that heads do not have', { ext: {} }],
  ]
  return vectorsOf('head', 'expert-package Head', cases, (change) => ({
    decoder: 'head',
    text: fromUtf8(encodeCanonical({ ...base, ...change })),
  }))
}
