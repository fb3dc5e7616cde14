/**
 * Attempts to make a node believe an older, another or a longer history than the signed one, in the classes that the
 * conformance tests of The Update Framework use: freshness, rollback, freeze, fast-forward, mix-and-match and gaps; and
 * histories that contradict each other. Each case offers something to a node and tells what the node took in.
 */
import { limit } from '../../../src/lib/limits.ts'
import { NOW } from '../consortium.ts'
import { digest, type Victim } from './victim.ts'

export interface RollbackCase {
  readonly class:
    | 'freshness'
    | 'rollback'
    | 'freeze'
    | 'fast-forward'
    | 'mix-and-match'
    | 'gap'
    | 'equivocation'
  readonly title: string
  /** Whether the node must take in what is offered: honest cases, without which refusals would show nothing. */
  readonly isHonest?: true
  /** @returns whether the node took in what was offered last. */
  run(victim: Victim): Promise<boolean>
}

type Row = readonly [title: string, run: RollbackCase['run']]

const SKEW = limit('clockSkew')
const LIFETIME = limit('headLifetime')
const MOST = limit('statementsPerPublisher')

const FRESHNESS: Row[] = [
  [
    'a head that has expired',
    ({ announce, publisher }) => announce(later(publisher, { issuedAt: NOW - 2 * LIFETIME })),
  ],
  [
    'a head that expired just before the clock skew',
    ({ announce, publisher }) =>
      announce(later(publisher, { issuedAt: NOW - SKEW - 11, expiresAt: NOW - SKEW - 1 })),
  ],
  [
    'a head from the future',
    ({ announce, publisher }) => announce(later(publisher, { issuedAt: NOW + SKEW + 1 })),
  ],
  [
    'a head from a year ahead',
    ({ announce, publisher }) => announce(later(publisher, { issuedAt: NOW + 31_536_000 })),
  ],
  [
    'an expired head with a higher number',
    async ({ announce, publisher }) => {
      publisher.withdrawal([digest(4)])
      return announce(publisher.head({ issuedAt: NOW - 2 * LIFETIME }))
    },
  ],
  [
    'an expired head of a member that was never heard before',
    ({ announce, other }) => announce(other.head({ issuedAt: NOW - 2 * LIFETIME })),
  ],
  [
    'an expired head after a restart',
    async ({ announce, publisher, restart }) => {
      await restart()
      return announce(later(publisher, { issuedAt: NOW - 2 * LIFETIME }))
    },
  ],
  ['a head of a peer that is no member', ({ announce, stranger }) => announce(stranger.head())],
]

const ROLLBACK: Row[] = [
  ['the first statement again', ({ offer, statements }) => offer(statements[0] as Uint8Array)],
  ['the second statement again', ({ offer, statements }) => offer(statements[1] as Uint8Array)],
  ['the latest statement again', ({ offer, statements }) => offer(statements[2] as Uint8Array)],
  [
    'an older statement after a restart',
    async ({ offer, statements, restart }) => {
      await restart()
      return offer(statements[0] as Uint8Array)
    },
  ],
  [
    'a head with a lower number',
    ({ announce, publisher }) => announce(publisher.head({ seq: 2, last: digest(2) })),
  ],
  [
    'a head from before the first statement',
    ({ announce, publisher }) => announce(emptyHead(publisher, NOW + 1)),
  ],
  [
    'a head with a lower number that was issued later',
    ({ announce, publisher }) => announce(older(publisher, NOW + 60)),
  ],
  [
    'a head with the same number that was issued earlier',
    ({ announce, publisher }) => announce(publisher.head({ issuedAt: NOW - 60 })),
  ],
  [
    'a head with the same number and time',
    ({ announce, publisher }) => announce(publisher.head({ expiresAt: NOW + 99 })),
  ],
  [
    'a head with a lower number after a later head',
    async (victim) => {
      const before = victim.publisher.head({ issuedAt: NOW + 1 })
      await extend(victim, 4)
      await victim.announce(victim.publisher.head({ issuedAt: NOW + 2 }))
      return victim.announce(before)
    },
  ],
  [
    'a second first statement',
    ({ offer, publisher }) => offer(publisher.withdrawal([digest(5)], { seq: 1, prev: ZEROS }).envelope),
  ],
  [
    'a second first statement after a restart',
    async ({ offer, publisher, restart }) => {
      await restart()
      return offer(publisher.withdrawal([digest(5)], { seq: 1, prev: ZEROS }).envelope)
    },
  ],
  [
    'a statement with a number that is held already',
    ({ offer, publisher }) => offer(publisher.withdrawal([digest(5)], { seq: 2, prev: digest(1) }).envelope),
  ],
  [
    'the roster before the latest',
    async ({ offer, consortium }) => offer(consortium.seal({ ...consortium.roster, version: 2 })),
  ],
  ['the latest roster again', ({ offer, consortium }) => offer(consortium.seal(consortium.roster))],
  [
    'the latest roster again after a restart',
    async ({ offer, consortium, restart }) => {
      await restart()
      return offer(consortium.seal(consortium.roster))
    },
  ],
]

const FREEZE: Row[] = [
  ['the latest head again', ({ announce, head }) => announce(head)],
  [
    'the latest head again after it has expired for another publisher',
    async ({ announce, head, other }) => {
      await announce(other.head())
      return announce(head)
    },
  ],
  [
    'an old head while a later one is known',
    async (victim) => {
      await extend(victim, 4)
      await victim.announce(victim.publisher.head({ issuedAt: NOW + 1 }))
      return victim.announce(victim.head)
    },
  ],
  [
    'an old head after a later statement, before its head',
    async (victim) => {
      await extend(victim, 4)
      await victim.announce(victim.publisher.head({ issuedAt: NOW + 1 }))
      await victim.restart()
      return victim.announce(victim.head)
    },
  ],
  [
    'an answer that leaves out an announced statement: the node stays behind and asks others',
    async ({ announce, publisher, node }) => {
      publisher.withdrawal([digest(4)])
      await announce(publisher.head({ issuedAt: NOW + 1 }))
      return !node.parts.statements.isBehind()
    },
  ],
  [
    'an answer with older statements only',
    async ({ announce, offer, publisher, statements, node }) => {
      publisher.withdrawal([digest(4)])
      await announce(publisher.head({ issuedAt: NOW + 1 }))
      for (const statement of statements) await offer(statement)
      return !node.parts.statements.isBehind()
    },
  ],
]

const FAST_FORWARD: Row[] = [
  [
    'a statement with the highest number',
    ({ offer, publisher }) =>
      offer(publisher.withdrawal([digest(5)], { seq: Number.MAX_SAFE_INTEGER }).envelope),
  ],
  [
    'a statement with the last number of a log',
    ({ offer, publisher }) => offer(publisher.withdrawal([digest(5)], { seq: MOST }).envelope),
  ],
  [
    'a statement beyond the last number of a log',
    ({ offer, publisher }) => offer(publisher.withdrawal([digest(5)], { seq: MOST + 1 }).envelope),
  ],
  [
    'a head beyond the last number of a log',
    ({ announce, publisher }) =>
      announce(publisher.head({ seq: MOST + 1, last: digest(5), issuedAt: NOW + 1 })),
  ],
  [
    'a head with the highest number',
    ({ announce, publisher }) =>
      announce(publisher.head({ seq: Number.MAX_SAFE_INTEGER, last: digest(5), issuedAt: NOW + 1 })),
  ],
  [
    'an honest statement after the highest number was offered, which must not shut it out',
    async ({ offer, publisher }) => {
      const twin = publisher.twin()
      await offer(publisher.withdrawal([digest(5)], { seq: MOST }).envelope)
      return !(await offer(twin.withdrawal([digest(4)]).envelope))
    },
  ],
  [
    'a roster two versions ahead',
    ({ offer, consortium }) =>
      offer(consortium.seal({ ...consortium.roster, version: consortium.roster.version + 2 })),
  ],
  [
    'a roster with the highest version',
    ({ offer, consortium }) =>
      offer(consortium.seal({ ...consortium.roster, version: Number.MAX_SAFE_INTEGER })),
  ],
  [
    'a roster of the next version with another predecessor',
    ({ offer, consortium }) =>
      offer(
        consortium.seal({ ...consortium.roster, version: consortium.roster.version + 1, prev: digest(7) }),
      ),
  ],
]

const MIX_AND_MATCH: Row[] = [
  [
    'a statement for another consortium',
    ({ offer, elsewhere }) => offer(elsewhere.withdrawal([digest(4)]).envelope),
  ],
  [
    'the next statement for another consortium',
    ({ offer, publisher }) => offer(publisher.withdrawal([digest(4)], { consortium: digest(8) }).envelope),
  ],
  [
    'a manifest for another consortium',
    ({ offer, publisher }) => offer(publisher.manifest({ consortium: digest(8) }).envelope),
  ],
  [
    'a head of another consortium',
    ({ announce, elsewhere }) => announce(elsewhere.head({ issuedAt: NOW + 1 })),
  ],
  [
    'the next statement after the log of another member',
    ({ offer, publisher, other }) =>
      offer(publisher.withdrawal([digest(4)], { prev: other.tip?.digest ?? ZEROS }).envelope),
  ],
  [
    'the next statement of a member, signed by another member',
    ({ offer, consortium, publisher, other }) =>
      offer(
        consortium
          .publisher(publisher.identity, { signers: [other.identity] })
          .withdrawal([digest(4)], { seq: 4, prev: publisher.tip?.digest ?? ZEROS }).envelope,
      ),
  ],
  [
    'the next statement of a member, signed by it and another member',
    ({ offer, consortium, publisher, other }) =>
      offer(
        consortium
          .publisher(publisher.identity, { signers: [publisher.identity, other.identity] })
          .withdrawal([digest(4)], { seq: 4, prev: publisher.tip?.digest ?? ZEROS }).envelope,
      ),
  ],
  [
    'a statement without a signature',
    ({ offer, consortium, publisher }) =>
      offer(
        consortium
          .publisher(publisher.identity, { signers: [] })
          .withdrawal([digest(4)], { seq: 4, prev: publisher.tip?.digest ?? ZEROS }).envelope,
      ),
  ],
  [
    'a head of a member, signed by another member',
    ({ announce, consortium, publisher, other }) =>
      announce(
        consortium
          .publisher(publisher.identity, { signers: [other.identity] })
          .head({ seq: 4, last: digest(4), issuedAt: NOW + 1 }),
      ),
  ],
  [
    'a statement of a peer that is no member',
    ({ offer, stranger }) => offer(stranger.withdrawal([digest(4)]).envelope),
  ],
  [
    'a roster that a member signed',
    ({ offer, consortium, publisher }) =>
      offer(
        consortium.seal({ ...consortium.roster, version: consortium.roster.version + 1 }, [
          publisher.identity,
        ]),
      ),
  ],
  [
    'a roster that nobody signed',
    ({ offer, consortium }) =>
      offer(consortium.seal({ ...consortium.roster, version: consortium.roster.version + 1 }, [])),
  ],
  [
    'a proof of a fork from statements of two members',
    ({ prove, statements, other }) =>
      prove([statements[0] as Uint8Array, other.withdrawal([digest(4)]).envelope]),
  ],
  [
    'a proof of a fork from one log',
    ({ prove, statements }) => prove([statements[0] as Uint8Array, statements[1] as Uint8Array]),
  ],
  [
    'a proof of a fork from two consortia',
    ({ prove, statements, elsewhere }) =>
      prove([statements[0] as Uint8Array, elsewhere.withdrawal([digest(4)]).envelope]),
  ],
  [
    'a proof of a fork with the same statement twice',
    ({ prove, statements }) => prove([statements[0] as Uint8Array, statements[0] as Uint8Array]),
  ],
]

const GAPS: Row[] = [
  [
    'the statement after the next',
    ({ offer, publisher }) => offer(publisher.withdrawal([digest(5)], { seq: 5 }).envelope),
  ],
  [
    'a statement whose predecessor is withheld',
    ({ offer, publisher }) => {
      publisher.withdrawal([digest(4)])
      return offer(publisher.withdrawal([digest(5)]).envelope)
    },
  ],
  [
    'a statement whose predecessor is withheld, after a restart',
    async ({ offer, publisher, restart }) => {
      publisher.withdrawal([digest(4)])
      await restart()
      return offer(publisher.withdrawal([digest(5)]).envelope)
    },
  ],
  [
    'the last of many statements',
    ({ offer, publisher }) => {
      for (let n = 4; n < 30; n++) publisher.withdrawal([digest(n)])
      return offer(publisher.withdrawal([digest(30)]).envelope)
    },
  ],
  [
    'the second statement of a member that was never heard before',
    ({ offer, consortium, other }) => {
      const fresh = consortium.publisher(other.identity)
      fresh.withdrawal([digest(1)])
      fresh.withdrawal([digest(2)])
      return offer(fresh.withdrawal([digest(3)]).envelope)
    },
  ],
  [
    'the roster after a withheld one',
    ({ offer, consortium }) => {
      consortium.renew(NOW + 1)
      return offer(consortium.renew(NOW + 2))
    },
  ],
]

const EQUIVOCATION: Row[] = [
  [
    'the use of a publisher with two next statements',
    async ({ offer, publisher, node }) => {
      const twin = publisher.twin()
      await offer(publisher.withdrawal([digest(4)]).envelope)
      await offer(twin.withdrawal([digest(5)]).envelope)
      return !node.parts.statements.isForked(publisher.identity.peerId)
    },
  ],
  [
    'a second next statement',
    async ({ offer, publisher }) => {
      const twin = publisher.twin()
      await offer(publisher.withdrawal([digest(4)]).envelope)
      return offer(twin.withdrawal([digest(5)]).envelope)
    },
  ],
  [
    'a second next statement after a restart',
    async ({ offer, publisher, restart }) => {
      const twin = publisher.twin()
      await offer(publisher.withdrawal([digest(4)]).envelope)
      await restart()
      return offer(twin.withdrawal([digest(5)]).envelope)
    },
  ],
  [
    'the use of a publisher whose head contradicts its log',
    async ({ announce, publisher, node }) => {
      await announce(publisher.head({ last: digest(5), issuedAt: NOW + 1 }))
      return !node.parts.statements.isForked(publisher.identity.peerId)
    },
  ],
  [
    'the use of a publisher whose two heads contradict each other',
    async ({ announce, publisher, node }) => {
      await announce(publisher.head({ seq: 4, last: digest(4), issuedAt: NOW + 1 }))
      await announce(publisher.head({ seq: 4, last: digest(5), issuedAt: NOW + 2 }))
      return !node.parts.statements.isForked(publisher.identity.peerId)
    },
  ],
  [
    'the use of a publisher that has forked, after a restart',
    async ({ offer, publisher, node, restart }) => {
      const twin = publisher.twin()
      await offer(publisher.withdrawal([digest(4)]).envelope)
      await offer(twin.withdrawal([digest(5)]).envelope)
      await restart()
      return !node.parts.statements.isForked(publisher.identity.peerId)
    },
  ],
]

const HONEST: Row[] = [
  ['the next statement', ({ offer, publisher }) => offer(publisher.withdrawal([digest(4)]).envelope)],
  [
    'the next statement after a restart',
    async ({ offer, publisher, restart }) => {
      await restart()
      return offer(publisher.withdrawal([digest(4)]).envelope)
    },
  ],
  [
    'a later head with the same number',
    ({ announce, publisher }) => announce(publisher.head({ issuedAt: NOW + 1 })),
  ],
  [
    'a head with a higher number',
    ({ announce, publisher }) => {
      publisher.withdrawal([digest(4)])
      return announce(publisher.head({ issuedAt: NOW + 1 }))
    },
  ],
  [
    'a statement that follows a withheld one, once that has arrived',
    async ({ offer, publisher }) => {
      const fourth = publisher.withdrawal([digest(4)]).envelope
      const fifth = publisher.withdrawal([digest(5)]).envelope
      await offer(fifth)
      await offer(fourth)
      return offer(fifth)
    },
  ],
]

const of = (name: RollbackCase['class'], rows: readonly Row[]): RollbackCase[] =>
  rows.map(([title, run]) => ({ class: name, title, run }))

/** Everything that a node must refuse. */
export const ATTACKS: readonly RollbackCase[] = [
  ...of('freshness', FRESHNESS),
  ...of('rollback', ROLLBACK),
  ...of('freeze', FREEZE),
  ...of('fast-forward', FAST_FORWARD),
  ...of('mix-and-match', MIX_AND_MATCH),
  ...of('gap', GAPS),
  ...of('equivocation', EQUIVOCATION),
]

/** What a node must take in. */
export const HONEST_CASES: readonly Row[] = HONEST

const ZEROS = `sha256:${'0'.repeat(64)}` as const

type Publisher = Victim['publisher']

/** A head that would be newer than the one that the victim holds, but for its times. */
function later(publisher: Publisher, times: { issuedAt: number; expiresAt?: number }): Uint8Array {
  publisher.withdrawal([digest(4)])
  return publisher.head(times)
}

function older(publisher: Publisher, issuedAt: number): Uint8Array {
  return publisher.head({ seq: 1, last: digest(1), issuedAt })
}

function emptyHead(publisher: Publisher, issuedAt: number): Uint8Array {
  return publisher.head({ seq: 0, last: ZEROS, issuedAt })
}

/** The publisher signs its next statement, which the victim receives. */
async function extend({ offer, publisher }: Victim, n: number): Promise<void> {
  await offer(publisher.withdrawal([digest(n)]).envelope)
}
