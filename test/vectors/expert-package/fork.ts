/** Test vectors of package-exchange, section Forks: proofs that a publisher has signed two histories. */
import { seal } from '../../../src/identity/envelope.ts'
import type { Identity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { type Digest, digestOf, fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeHead } from '../../../src/statements/head.ts'
import { encodeWithdrawal } from '../../../src/statements/withdrawal.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest, publisher, stranger } from './fixtures.ts'

export const CONSORTIUM = digest(1)

interface Change {
  readonly signer?: Identity
  readonly consortium?: Digest
}

/** Statement `seq` after `prev`. `other` tells two statements for one place apart. */
function statement(
  seq: number,
  prev: Digest,
  other = 0,
  { signer = publisher, consortium = CONSORTIUM }: Change = {},
) {
  const payload = encodeWithdrawal({
    consortium,
    publisher: signer.peerId,
    seq,
    prev: seq === 1 ? NO_STATEMENT : prev,
    manifests: [digest(100 + other)],
    reason: 'owner-request',
    issuedAt: 1_800_000_000,
  })
  return { id: digestOf(payload), text: fromUtf8(seal(MEDIA_TYPES.withdrawal, payload, [signer])) }
}

function head(
  seq: number,
  last: Digest,
  { signer = publisher, consortium = CONSORTIUM }: Change = {},
): string {
  const payload = encodeHead({
    consortium,
    publisher: signer.peerId,
    seq,
    last: seq === 0 ? NO_STATEMENT : last,
    manifests: [],
    withdrawals: [],
    issuedAt: 1_800_000_000,
    expiresAt: 1_800_003_600,
  })
  return fromUtf8(seal(MEDIA_TYPES.head, payload, [signer]))
}

export function forkVectors(): Vector[] {
  const second = statement(2, digest(1))
  const third = statement(3, second.id)
  const elsewhere: Change = { consortium: digest(2) }
  const cases: [...Case, string, string][] = [
    ['same-place', 'accept', 'two statements with number 2', second.text, statement(2, digest(1), 1).text],
    [
      'other-predecessor',
      'accept',
      'statement 3 follows another statement 2',
      second.text,
      statement(3, digest(7)).text,
    ],
    [
      'predecessors',
      'accept',
      'two statements with number 2 follow two with number 1',
      second.text,
      statement(2, digest(9)).text,
    ],
    ['head', 'accept', 'a head names another statement 2', second.text, head(2, digest(7))],
    ['two-heads', 'accept', 'two heads name two statements 2', head(2, digest(7)), head(2, second.id)],
    [
      'head-of-predecessor',
      'accept',
      'a head names another statement 2 than the one that 3 follows',
      head(2, digest(7)),
      third.text,
    ],
    ['next', 'replayed', 'statement 3 follows statement 2', second.text, third.text],
    ['same', 'replayed', 'the same statement twice', second.text, second.text],
    ['head-of-same', 'replayed', 'a head names this statement 2', second.text, head(2, second.id)],
    [
      'apart',
      'replayed',
      'statements of one chain with different numbers',
      second.text,
      statement(5, digest(7)).text,
    ],
    ['later-head', 'replayed', 'a head of a longer log', second.text, head(9, digest(7))],
    ['empty-head', 'replayed', 'a head from before the first statement', second.text, head(0, NO_STATEMENT)],
    [
      'two-publishers',
      'replayed',
      'numbers of two logs',
      second.text,
      statement(2, digest(1), 1, { signer: stranger }).text,
    ],
    [
      'other-consortium',
      'wrong-consortium',
      'one key has a log in each consortium',
      second.text,
      statement(2, digest(1), 1, elsewhere).text,
    ],
    [
      'both-elsewhere',
      'wrong-consortium',
      'a fork in another consortium',
      statement(2, digest(1), 0, elsewhere).text,
      statement(2, digest(1), 1, elsewhere).text,
    ],
    [
      'bad-signature',
      'bad-signature',
      'a second statement with a wrong signature',
      second.text,
      statement(2, digest(1), 1).text.replace(
        /"sig":"(.)/,
        (_all, first: string) => `"sig":"${first === 'A' ? 'B' : 'A'}`,
      ),
    ],
    ['forged-head', 'wrong-signer', "another member's head", second.text, forgedHead()],
  ]
  return vectorsOf('fork', 'package-exchange Forks', cases, (first, other) => ({
    decoder: 'fork',
    envelopes: [first, other],
  }))
}

/** A head of the publisher that a stranger signed. */
function forgedHead(): string {
  const payload = encodeHead({
    consortium: CONSORTIUM,
    publisher: publisher.peerId,
    seq: 2,
    last: digest(7),
    manifests: [],
    withdrawals: [],
    issuedAt: 1_800_000_000,
    expiresAt: 1_800_003_600,
  })
  return fromUtf8(seal(MEDIA_TYPES.head, payload, [stranger]))
}
