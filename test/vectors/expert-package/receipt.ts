/** Test vectors of section Receipt. */
import { seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { type Digest, fromUtf8, utf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest, publisher, stranger } from './fixtures.ts'

/** Digests in ascending order, which receipts require. */
const [first, second, third] = [3, 4, 5].map(digest).sort() as [Digest, Digest, Digest]

const PACKAGE = { manifest: digest(2), held: 'used', dropped: [digest(6)], kept: [] as unknown[] }
const NEVER = { manifest: digest(2), held: 'never', dropped: [] as unknown[], kept: [] as unknown[] }
const KEPT = { sha256: digest(6), reason: 'other-package' }
const ANSWER = {
  withdrawal: digest(7),
  carriedOutAt: 1_800_000_010,
  packages: [PACKAGE] as unknown[],
  compositions: [{ before: digest(8), after: digest(9) }] as unknown[],
  exports: [] as unknown[],
}
const BASE = {
  consortium: digest(1),
  publisher: publisher.peerId,
  seq: 2,
  prev: digest(10),
  answers: [ANSWER] as unknown[],
  issuedAt: 1_800_000_012,
}

export function receiptVectors(): Vector[] {
  const answering = (change: Record<string, unknown>) => ({ answers: [{ ...ANSWER, ...change }] })
  const about = (change: Record<string, unknown>) => answering({ packages: [{ ...PACKAGE, ...change }] })
  const neverHeld = (change: Record<string, unknown> = {}) =>
    answering({ packages: [{ ...NEVER, ...change }], compositions: [] })
  const changed = (...compositions: unknown[]) => answering({ compositions })
  const exported = (...exports: unknown[]) => answering({ exports })
  const cases: [...Case, Record<string, unknown>][] = [
    ['used', 'accept', 'a package that was used: its file is deleted and the composition changed', {}],
    ['never', 'accept', 'a member that never had the package', neverHeld()],
    ['kept', 'accept', 'a file that another package has, too', about({ dropped: [], kept: [KEPT] })],
    ['stopped', 'accept', 'a composition whose answers were stopped', changed({ before: digest(8) })],
    [
      'exported',
      'accept',
      'an export with a notice beside it',
      exported({ composition: first, marked: true }),
    ],
    [
      'two',
      'accept',
      'answers to two withdrawals',
      { answers: [first, second].map((withdrawal) => ({ ...ANSWER, withdrawal })) },
    ],
    ['nothing', 'bad-field', 'no answer', { answers: [] }],
    [
      'unsorted',
      'bad-field',
      'answers that are not sorted',
      { answers: [second, first].map((withdrawal) => ({ ...ANSWER, withdrawal })) },
    ],
    ['twice', 'bad-field', 'two answers to one withdrawal', { answers: [ANSWER, ANSWER] }],
    [
      'too-many',
      'bad-field',
      'more answers than the limit',
      {
        answers: Array.from({ length: 17 }, (_, i) => digest(100 + i))
          .sort()
          .map((withdrawal) => ({ ...ANSWER, withdrawal })),
      },
    ],
    ['first', 'bad-field', 'a later statement without a predecessor', { prev: NO_STATEMENT }],
    ['free-text', 'bad-field', 'a member that receipts do not have', { note: 'we are sorry' }],
    ['early', 'bad-field', 'signed before the withdrawal was carried out', { issuedAt: 1_800_000_009 }],
    ['no-package', 'bad-field', 'an answer about no package', answering({ packages: [], compositions: [] })],
    [
      'package-twice',
      'bad-field',
      'a package that is listed twice',
      answering({ packages: [PACKAGE, PACKAGE] }),
    ],
    [
      'packages-unsorted',
      'bad-field',
      'packages that are not sorted',
      answering({ packages: [third, first].map((manifest) => ({ ...PACKAGE, manifest })) }),
    ],
    ['held-otherwise', 'bad-field', 'a word that receipts do not have', about({ held: 'seen' })],
    ['held-number', 'bad-field', 'a number instead of a word', about({ held: 1 })],
    [
      'never-but-dropped',
      'bad-field',
      'a deleted file of a package that was never held',
      neverHeld({ dropped: [digest(6)] }),
    ],
    [
      'never-but-composed',
      'bad-field',
      'a changed composition although no package was used',
      answering({ packages: [NEVER] }),
    ],
    [
      'stored-but-composed',
      'bad-field',
      'a changed composition although the package was only stored',
      about({ held: 'stored' }),
    ],
    ['kept-and-dropped', 'bad-field', 'a file that is both deleted and kept', about({ kept: [KEPT] })],
    [
      'kept-no-reason',
      'bad-field',
      'a kept file without a reason',
      about({ dropped: [], kept: [{ sha256: digest(6) }] }),
    ],
    [
      'kept-free-text',
      'bad-field',
      'a reason in free text',
      about({ dropped: [], kept: [{ ...KEPT, reason: 'we still need it' }] }),
    ],
    ['dropped-path', 'bad-field', 'a path instead of a digest', about({ dropped: ['/srv/flexmesh/blobs'] })],
    [
      'dropped-twice',
      'bad-field',
      'a file that is deleted twice',
      about({ dropped: [digest(6), digest(6)] }),
    ],
    [
      'unchanged',
      'bad-field',
      'a composition that is replaced by itself',
      changed({ before: digest(8), after: digest(8) }),
    ],
    [
      'composition-twice',
      'bad-field',
      'two replacements of one composition',
      changed({ before: digest(8), after: digest(9) }, { before: digest(8) }),
    ],
    [
      'export-path',
      'bad-field',
      'the path of an export',
      exported({ composition: first, marked: true, path: '/x' }),
    ],
    [
      'export-unsaid',
      'bad-field',
      'an export without a word about the notice',
      exported({ composition: first }),
    ],
    [
      'export-twice',
      'bad-field',
      'an export that is listed twice',
      exported({ composition: first, marked: true }, { composition: first, marked: false }),
    ],
    ['number-as-text', 'bad-field', 'a time as text', answering({ carriedOutAt: '1800000010' })],
  ]
  return [
    ...vectorsOf('receipt', 'expert-package Receipt', cases, (change) => ({
      decoder: 'receipt',
      text: fromUtf8(encodeCanonical({ ...BASE, ...change })),
    })),
    ...envelopes(),
  ]
}

/** Envelopes of a receipt, of which only one is signed by its publisher as a receipt. */
function envelopes(): Vector[] {
  const payload = utf8(fromUtf8(encodeCanonical(BASE)))
  const cases: [...Case, Uint8Array][] = [
    [
      'signed',
      'accept',
      'one signature, by the member that answers',
      seal(MEDIA_TYPES.receipt, payload, [publisher]),
    ],
    [
      'of-another',
      'wrong-signer',
      'an answer in the name of another member',
      seal(MEDIA_TYPES.receipt, payload, [stranger]),
    ],
    [
      'by-two',
      'wrong-signer',
      'an answer that the owner has signed, too',
      seal(MEDIA_TYPES.receipt, payload, [publisher, stranger]),
    ],
    [
      'as-withdrawal',
      'wrong-type',
      'signed as another kind of statement',
      seal(MEDIA_TYPES.withdrawal, payload, [publisher]),
    ],
  ]
  return vectorsOf('receipt-envelope', 'expert-package Receipt', cases, (envelope) => ({
    decoder: 'open-receipt',
    text: fromUtf8(envelope),
  }))
}
