import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Identity } from '../../src/identity/keys.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { decodeCbor } from '../../src/lib/cbor.ts'
import { limit } from '../../src/lib/limits.ts'
import { openForkProof } from '../../src/packaging/fork-proof.ts'
import { decodeForkFrame } from '../../src/statements/fork.ts'
import { type Head, openHead } from '../../src/statements/head.ts'
import type { Offered } from '../../src/statements/log-answers.ts'
import type { NewStatement } from '../../src/store/catalogue.ts'
import {
  consortium,
  identityOf,
  logged,
  NOW,
  type Publisher,
  type TestConsortium,
} from '../support/consortium.ts'
import { cleanUp } from '../support/folders.ts'
import { closeLedgers, type Ledger, ledgerOf } from '../support/ledger.ts'
import { codeOfAsync } from '../support/packages.ts'

const [founder, guest, other] = [1, 2, 3].map(identityOf) as [Identity, Identity, Identity]
const digest = (n: number): Digest => digestOf(Uint8Array.of(n, n >> 8))
const NOTHING = { rosterVersion: 1, governance: NO_STATEMENT, known: [] }

afterEach(async () => {
  await closeLedgers()
  await cleanUp()
})

/** A consortium of a founder and a guest, as the founder holds it. */
async function founded(): Promise<{ c: TestConsortium; ledger: Ledger; publisher: Publisher }> {
  const c = consortium([founder])
  const ledger = await ledgerOf(c)
  await ledger.membership.onRoster(c.admit('Guest', guest))
  return { c, ledger, publisher: c.publisher(guest) }
}

/** Append withdrawals that nobody signed, which the log does not verify, to the end of a publisher's log. */
async function appendMany({ statements }: Ledger, publisher: Publisher, count: number): Promise<Digest[]> {
  const ids: Digest[] = []
  for (let i = 0; i < count; i++) {
    const statement = publisher.withdrawal([digest(i)])
    await statements.append(logged(statement))
    ids.push(statement.id)
  }
  return ids
}

function judge({ statements }: Ledger, head: Uint8Array): string {
  return statements.judgeHead(head).judgement
}

/** Envelopes of the statements of an answer. */
async function envelopesOf(offered: AsyncIterable<Offered>): Promise<Uint8Array[]> {
  return (await collect(offered)).flatMap((one) => (one.kind === 'statement' ? [one.envelope] : []))
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

describe('a log of 1,030 statements of one publisher', () => {
  it('gives all of them back, at once and to a peer that holds some, also after a restart', async () => {
    const { c, ledger } = await founded()
    const publisher = c.publisher(guest, { signers: [] })
    const ids = await appendMany(ledger, publisher, 1030)
    const { statements } = await ledger.reopen()
    expect((await collect(statements.all())).map((statement) => statement.digest)).toEqual(ids)
    expect(
      await collect(statements.since({ rosterVersion: 2, governance: NO_STATEMENT, known: [] })),
    ).toHaveLength(1030)
    const known = [{ publisher: guest.peerId, seq: 1000, last: ids[999] as Digest, forked: false }]
    expect(
      await collect(statements.since({ rosterVersion: 2, governance: NO_STATEMENT, known })),
    ).toHaveLength(30)
    expect(statements.request()).toEqual({
      rosterVersion: 2,
      governance: NO_STATEMENT,
      known: [{ publisher: guest.peerId, seq: 1030, last: ids[1029], forked: false }],
    })
  })
})

describe('an answer', () => {
  it('holds at most as many envelopes as were asked for, rosters first', async () => {
    const { c, ledger } = await founded()
    await appendMany(ledger, c.publisher(guest, { signers: [] }), 5)
    const envelopes = await envelopesOf(ledger.statements.since(NOTHING, 4))
    expect(envelopes).toHaveLength(4)
    expect(envelopes[0]).toEqual(ledger.membership.book.envelopesSince(1)[0])
    expect(await envelopesOf(ledger.statements.since(NOTHING, 1))).toEqual(envelopes.slice(0, 1))
    expect(await envelopesOf(ledger.statements.since(NOTHING))).toHaveLength(6)
  })

  it('holds at most `statementFrames` envelopes, of every publisher, although one has many more', async () => {
    const { c, ledger } = await founded()
    await ledger.membership.onRoster(c.admit('Other', other))
    await appendMany(ledger, c.publisher(guest, { signers: [] }), 1)
    await appendMany(ledger, c.publisher(other, { signers: [] }), 3)
    // A disk that holds very many statements of the guest.
    const log = ledger.catalogue.log.bind(ledger.catalogue)
    vi.spyOn(ledger.catalogue, 'log').mockImplementation(async (publisher, from, max) => {
      if (publisher !== guest.peerId) return log(publisher, from, max)
      const one = { publisher, seq: from, digest: digest(1), envelope: new Uint8Array(1) }
      return new Array<NewStatement>(max).fill(one)
    })
    const envelopes = await envelopesOf(ledger.statements.since(NOTHING))
    expect(envelopes).toHaveLength(limit('statementFrames'))
    const others = (await log(other.peerId, 1, 10)).map(({ envelope }) => envelope)
    for (const envelope of others) expect(envelopes).toContainEqual(envelope)
  })

  it('holds the statements of one publisher in order', async () => {
    const { c, ledger } = await founded()
    const ids = await appendMany(ledger, c.publisher(guest, { signers: [] }), 300)
    const envelopes = await envelopesOf(
      ledger.statements.since({ rosterVersion: 2, governance: NO_STATEMENT, known: [] }),
    )
    const stored = await Promise.all(ids.map((id) => ledger.statements.envelope(id)))
    expect(envelopes).toEqual(stored)
  })
})

describe('a statement', () => {
  it('is new once', async () => {
    const { ledger, publisher } = await founded()
    const statement = logged(publisher.manifest())
    expect(await ledger.statements.append(statement)).toBe(true)
    expect(await ledger.statements.append(statement)).toBe(false)
    expect(await ledger.statements.envelope(statement.id)).toEqual(statement.envelope)
  })

  it('is new once if it arrives twice at the same time', async () => {
    const { ledger, publisher } = await founded()
    const statement = logged(publisher.manifest())
    const twice = [ledger.statements.append(statement), ledger.statements.append(statement)]
    expect(await Promise.all(twice)).toEqual([true, false])
  })

  it.each([
    ['for another consortium', 'wrong-consortium', { consortium: digest(9) }, guest],
    ['whose predecessor is missing', 'replayed', { seq: 2, prev: digest(8) }, guest],
    ['of somebody who is not on the roster', 'not-a-member', {}, other],
  ] as const)('%s is refused: %s', async (_, code, changes, identity) => {
    const { c, ledger } = await founded()
    const statement = logged(c.publisher(identity).manifest(changes))
    expect(await codeOfAsync(() => ledger.statements.append(statement))).toBe(code)
    expect(await collect(ledger.statements.all())).toEqual([])
  })
})

describe('a fork', () => {
  it('is kept as proof once, also after a restart', async () => {
    const { c, ledger, publisher } = await founded()
    const twin = publisher.twin()
    const third = publisher.twin()
    const first = logged(publisher.manifest())
    await ledger.statements.append(first)
    const fork = logged(twin.manifest({ domain: 'another' }))
    expect(await codeOfAsync(() => ledger.statements.append(fork))).toBe('forked')
    const again = logged(third.manifest({ domain: 'a third' }))
    expect(await codeOfAsync(() => ledger.statements.append(again))).toBe('forked')
    const { statements, catalogue } = await ledger.reopen()
    expect(statements.isForked(guest.peerId)).toBe(true)
    const [[publisherId, proof] = [], ...more] = await catalogue.entries('forks')
    expect([publisherId, more]).toEqual([guest.peerId, []])
    const envelopes = decodeForkFrame(decodeCbor(proof as Uint8Array, 2 ** 20))
    expect(envelopes).toEqual([first.envelope, fork.envelope])
    expect(openForkProof(envelopes, c.id).publisher).toBe(guest.peerId)
  })

  it('of an earlier statement, and one that follows another predecessor, are found too', async () => {
    for (const first of [true, false]) {
      const { ledger, publisher } = await founded()
      const twin = publisher.twin()
      await ledger.statements.append(logged(publisher.manifest()))
      await ledger.statements.append(logged(publisher.withdrawal([digest(1)])))
      const earlier = logged(twin.manifest({ domain: 'another' }))
      const fork = first ? earlier : logged(twin.withdrawal([digest(2)], { seq: 3 }))
      expect(await codeOfAsync(() => ledger.statements.append(fork))).toBe('forked')
      expect(ledger.statements.isForked(guest.peerId)).toBe(true)
    }
  })

  it('keeps no later statement of its publisher out of the log, because withdrawals follow them', async () => {
    const { ledger, publisher } = await founded()
    const twin = publisher.twin()
    const first = publisher.manifest()
    await ledger.statements.append(logged(first))
    await codeOfAsync(() => ledger.statements.append(logged(twin.manifest({ domain: 'another' }))))
    expect(ledger.statements.isForked(first.manifest.publisher)).toBe(true)
    expect(await ledger.statements.append(logged(publisher.manifest()))).toBe(true)
    expect(await ledger.statements.append(logged(publisher.withdrawal([digest(1)])))).toBe(true)
  })

  it('is not proved by an own draft that nobody has seen', async () => {
    const { ledger, publisher } = await founded()
    const twin = publisher.twin()
    const first = publisher.manifest()
    await ledger.statements.append(logged(first))
    const draft = { ...logged(twin.manifest({ domain: 'another' })), isDraft: true as const }
    expect(await codeOfAsync(() => ledger.statements.append(draft))).toBe('forked')
    expect(ledger.statements.isForked(first.manifest.publisher)).toBe(false)
  })

  it('of one publisher has no effect on another', async () => {
    const { c, ledger, publisher } = await founded()
    const twin = publisher.twin()
    await ledger.statements.append(logged(publisher.manifest()))
    await codeOfAsync(() => ledger.statements.append(logged(twin.manifest({ domain: 'another' }))))
    expect(await ledger.statements.append(logged(c.publisher(founder).manifest()))).toBe(true)
  })
})

describe('a fork of which each member has seen one branch', () => {
  /** Two members, each with one branch of the log of a third, and what one gives the other. */
  async function branches() {
    const { c, ledger, publisher } = await founded()
    const other = await ledgerOf(c, identityOf(4))
    await other.membership.onRoster(c.seal(c.roster))
    const twin = publisher.twin()
    const [left, right] = [logged(publisher.manifest()), logged(twin.manifest({ domain: 'another' }))]
    await ledger.statements.append(left)
    await other.statements.append(right)
    const answer = (): Promise<Offered[]> => collect(ledger.statements.since(other.statements.request()))
    return { ledger, other, publisher, twin, left, answer }
  }

  it('is found when they compare what they hold, and then both keep the proof', async () => {
    const { ledger, other, left, answer } = await branches()
    expect(await answer()).toEqual([{ kind: 'statement', envelope: left.envelope }])
    expect(await codeOfAsync(() => other.statements.append(left))).toBe('forked')
    expect(ledger.statements.isAhead(other.statements.request())).toBe(true)
    const back = await collect(other.statements.since(ledger.statements.request()))
    const [proof] = back
    if (proof?.kind !== 'fork') throw new Error('no proof was offered')
    expect(await ledger.statements.keepFork({ publisher: guest.peerId, envelopes: proof.envelopes })).toBe(
      true,
    )
    expect(await ledger.statements.keepFork({ publisher: guest.peerId, envelopes: proof.envelopes })).toBe(
      false,
    )
    expect(await answer()).toEqual([])
    expect(ledger.statements.isAhead(other.statements.request())).toBe(false)
  })

  it('is found by a head of the other branch, of whatever age', async () => {
    const { ledger, publisher, twin } = await branches()
    ledger.statements.judgeHead(publisher.head({ issuedAt: NOW + 1 }))
    const envelope = twin.head()
    const { judgement, head } = ledger.statements.judgeHead(envelope)
    expect(judgement).toBe('ignore')
    expect(await ledger.statements.compareHead(head as Head, envelope)).toBe(true)
    expect(ledger.statements.isForked(guest.peerId)).toBe(true)
    expect(await ledger.statements.compareHead(head as Head, envelope)).toBe(false)
  })

  it('is found by two heads, before any statement has arrived', async () => {
    const { ledger, publisher } = await founded()
    const twin = publisher.twin()
    publisher.manifest()
    twin.manifest({ domain: 'another' })
    const found: boolean[] = []
    for (const envelope of [publisher.head(), twin.head({ issuedAt: NOW + 1 })]) {
      const { head } = ledger.statements.judgeHead(envelope)
      found.push(await ledger.statements.compareHead(head as Head, envelope))
    }
    expect(found).toEqual([false, true])
  })

  it('is not seen in heads of one history', async () => {
    const { ledger, publisher } = await founded()
    for (let i = 0; i < 3; i++) {
      const statement = logged(publisher.manifest())
      const envelope = publisher.head({ issuedAt: NOW + i })
      const { head } = ledger.statements.judgeHead(envelope)
      expect(await ledger.statements.compareHead(head as Head, envelope)).toBe(false)
      await ledger.statements.append(statement)
      expect(await ledger.statements.compareHead(head as Head, envelope)).toBe(false)
    }
    expect(ledger.statements.isForked(guest.peerId)).toBe(false)
  })

  it('keeps no statement of other publishers from a peer that holds the other branch', async () => {
    const { c, ledger, publisher } = await founded()
    await appendMany(ledger, publisher, 70)
    const own = logged(c.publisher(founder).manifest())
    await ledger.statements.append(own)
    for (const forked of [true, false]) {
      const known = [{ publisher: guest.peerId, seq: 1, last: digest(200), forked }]
      const envelopes = await envelopesOf(
        ledger.statements.since({ rosterVersion: 2, governance: NO_STATEMENT, known }),
      )
      expect(envelopes).toHaveLength(forked ? 1 : 2)
      expect(envelopes.at(-1)).toEqual(own.envelope)
    }
  })

  it('is not seen in a head of another consortium, for which the same key signs another history', async () => {
    const { ledger, publisher } = await founded()
    await ledger.statements.append(logged(publisher.manifest()))
    const envelope = publisher.head({ consortium: digest(9), last: digest(8) })
    expect(await ledger.statements.compareHead(openHead(envelope).head, envelope)).toBe(false)
    expect(ledger.statements.isForked(guest.peerId)).toBe(false)
  })

  it('of which an earlier version kept one half can be proved after a restart', async () => {
    const { c, ledger, publisher } = await founded()
    const twin = publisher.twin()
    await ledger.statements.append(logged(publisher.manifest()))
    await ledger.catalogue.put('forks', guest.peerId, twin.manifest({ domain: 'another' }).envelope)
    const again = await ledger.reopen()
    const [proof] = await collect(
      again.statements.since({ rosterVersion: 2, governance: NO_STATEMENT, known: [] }),
    )
    if (proof?.kind !== 'fork') throw new Error('no proof was offered')
    expect(openForkProof(proof.envelopes, c.id).publisher).toBe(guest.peerId)
  })

  it('of somebody whom no roster lists is not kept', async () => {
    const { c, ledger } = await founded()
    const author = c.publisher(other)
    const [first, second] = [author.twin().manifest(), author.manifest({ domain: 'another' })]
    const envelopes = [first.envelope, second.envelope] as const
    const fork = { publisher: other.peerId, envelopes }
    expect(await codeOfAsync(() => ledger.statements.keepFork(fork))).toBe('not-a-member')
  })
})

describe('a member that was taken off the roster', () => {
  it('is logged as before, so that every node holds the same statements in whatever order they arrive', async () => {
    const { c, ledger, publisher } = await founded()
    const statements = [publisher.manifest(), publisher.withdrawal([digest(1)]), publisher.manifest()]
    await ledger.membership.onRoster(c.revoke(guest, 'left', 1))
    for (const statement of statements) await ledger.statements.append(logged(statement))
    expect(
      await envelopesOf(ledger.statements.since({ rosterVersion: 3, governance: NO_STATEMENT, known: [] })),
    ).toEqual(statements.map(({ envelope }) => envelope))
    const covered = statements.map((_, index) => ledger.membership.mayPublish(guest.peerId, index + 1))
    expect(covered).toEqual([true, false, false])
  })
})

describe('a log', () => {
  it('is full after a number of statements; the last quarter is for withdrawals', async () => {
    const { c, ledger } = await founded()
    const most = limit('statementsPerPublisher')
    const publisher = c.publisher(guest, { signers: [] })
    const tip = vi.spyOn(ledger.catalogue, 'tip')
    const at = async (seq: number, kind: 'manifest' | 'withdrawal'): Promise<string> => {
      tip.mockResolvedValue({ seq: seq - 1, digest: digest(1), bytes: 0 })
      const link = { seq, prev: digest(1) }
      const statement =
        kind === 'manifest' ? publisher.manifest(link) : publisher.withdrawal([digest(2)], link)
      return codeOfAsync(() => ledger.statements.append(logged(statement)))
    }
    expect(await at((3 * most) / 4 + 1, 'manifest')).toBe('quota')
    expect(await at(most + 1, 'withdrawal')).toBe('quota')
    expect(await at((3 * most) / 4, 'manifest')).toBe('accept')
    expect(await at(most, 'withdrawal')).toBe('accept')
  })

  it('is full after a number of bytes, which are counted over restarts', async () => {
    const { ledger, publisher } = await founded()
    const first = logged(publisher.manifest())
    const second = logged(publisher.manifest())
    await ledger.statements.append(first)
    await ledger.statements.append(second)
    const again = await ledger.reopen()
    const size = first.envelope.length + second.envelope.length
    expect(await again.catalogue.tip(guest.peerId)).toMatchObject({ seq: 2, bytes: size })
    const tip = await again.catalogue.tip(guest.peerId)
    const most = limit('logBytesPerPublisher')
    vi.spyOn(again.catalogue, 'tip').mockResolvedValue({ seq: 2, digest: second.id, bytes: (3 * most) / 4 })
    expect(tip?.digest).toBe(second.id)
    expect(await codeOfAsync(() => again.statements.append(logged(publisher.twin().manifest())))).toBe(
      'quota',
    )
    expect(await again.statements.append(logged(publisher.withdrawal([first.id])))).toBe(true)
  })
})

describe('a roster that has ended', () => {
  it('keeps no statement out of the log, because withdrawals follow them', async () => {
    const { ledger, publisher } = await founded()
    ledger.clock.now = NOW + limit('rosterLifetime') + limit('clockSkew') + 1
    expect(await ledger.statements.append(logged(publisher.manifest()))).toBe(true)
    expect(await ledger.statements.append(logged(publisher.withdrawal([digest(1)])))).toBe(true)
  })

  it('covers no package until it is renewed', async () => {
    const { c, ledger } = await founded()
    ledger.clock.now = NOW + limit('rosterLifetime') + limit('clockSkew') + 1
    expect(() => ledger.membership.checkRosterNotEnded()).toThrow(
      expect.objectContaining({ code: 'expired' }),
    )
    await ledger.membership.onRoster(c.renew(ledger.clock.now))
    expect(() => ledger.membership.checkRosterNotEnded()).not.toThrow()
  })

  it('still covers packages within the allowed difference between clocks', async () => {
    const { ledger } = await founded()
    ledger.clock.now = NOW + limit('rosterLifetime') + limit('clockSkew')
    expect(() => ledger.membership.checkRosterNotEnded()).not.toThrow()
  })
})

describe('our own head', () => {
  it('names the latest statement, and the latest 16 of 20 packages and of 20 withdrawals', async () => {
    const { c, ledger } = await founded()
    const publisher = c.publisher(founder, { signers: [] })
    const packages: Digest[] = []
    for (let i = 0; i < 20; i++) {
      const statement = publisher.manifest()
      await ledger.statements.append(logged(statement))
      packages.push(statement.id)
    }
    const withdrawals = await appendMany(ledger, publisher, 20)
    const check = async ({ statements }: Ledger): Promise<void> => {
      const { head } = openHead(await statements.renewHead(packages))
      expect(head).toMatchObject({ seq: 40, last: withdrawals[19], publisher: founder.peerId })
      expect(head.manifests).toEqual(packages.slice(4).sort())
      expect(head.withdrawals).toEqual(withdrawals.slice(4).sort())
    }
    await check(ledger)
    await check(await ledger.reopen())
  })

  it('is later than the one before it, although no time has passed or the clock was set back', async () => {
    const { ledger } = await founded()
    const times: number[] = []
    for (const now of [NOW, NOW, NOW - 1000]) {
      ledger.clock.now = now
      times.push(openHead(await ledger.statements.renewHead([])).head.issuedAt)
    }
    const { statements } = await ledger.reopen()
    times.push(openHead(await statements.renewHead([])).head.issuedAt)
    expect(times).toEqual([NOW, NOW + 1, NOW + 2, NOW + 3])
  })

  it('names no statement before the first', async () => {
    const { ledger } = await founded()
    expect(openHead(await ledger.statements.renewHead([])).head).toMatchObject({ seq: 0, manifests: [] })
  })
})

describe("another member's head", () => {
  it('is relayed if it is newer than the last one', async () => {
    const { ledger, publisher } = await founded()
    publisher.manifest()
    const head = publisher.head()
    expect(judge(ledger, head)).toBe('accept')
    expect(judge(ledger, head)).toBe('ignore')
    expect(judge(ledger, publisher.head({ issuedAt: NOW + 1 }))).toBe('accept')
  })

  it('is ignored if it names an earlier statement than one before it', async () => {
    const { ledger, publisher } = await founded()
    publisher.manifest()
    publisher.manifest()
    expect(judge(ledger, publisher.head())).toBe('accept')
    const older = publisher.head({ seq: 1, last: digest(1), issuedAt: NOW + 1 })
    expect(judge(ledger, older)).toBe('ignore')
    expect(judge(ledger, publisher.head({ issuedAt: NOW + 1 }))).toBe('accept')
  })

  it.each([
    ['of another consortium', { consortium: digest(9) }],
    ['that has expired', { issuedAt: NOW - 7200 }],
    ['from the future', { issuedAt: NOW + 7200 }],
  ] as const)('%s is rejected', async (_, changes) => {
    const { c, ledger } = await founded()
    expect(judge(ledger, c.publisher(guest).head(changes))).toBe('reject')
  })

  it('of somebody who is not a member is ignored, until the roster lists its publisher', async () => {
    const { c, ledger } = await founded()
    const head = c.publisher(other).head()
    expect(judge(ledger, head)).toBe('ignore')
    await ledger.membership.onRoster(c.admit('Other', other))
    expect(judge(ledger, head)).toBe('accept')
  })

  it('shows that statements are missing, until they arrive', async () => {
    const { ledger, publisher } = await founded()
    const statement = logged(publisher.manifest())
    expect(ledger.statements.isBehind()).toBe(false)
    judge(ledger, publisher.head())
    expect(ledger.statements.isBehind()).toBe(true)
    await ledger.statements.append(statement)
    expect(ledger.statements.isBehind()).toBe(false)
  })

  it('shows nothing if its publisher has forked or was taken off the roster', async () => {
    const { c, ledger, publisher } = await founded()
    const twin = publisher.twin()
    await ledger.statements.append(logged(publisher.manifest()))
    publisher.manifest()
    judge(ledger, publisher.head())
    expect(ledger.statements.isBehind()).toBe(true)
    await codeOfAsync(() => ledger.statements.append(logged(twin.manifest({ domain: 'another' }))))
    expect(ledger.statements.isBehind()).toBe(false)
    await ledger.membership.onRoster(c.admit('Other', other))
    const left = c.publisher(other)
    left.manifest()
    judge(ledger, left.head())
    expect(ledger.statements.isBehind()).toBe(true)
    await ledger.membership.onRoster(c.revoke(other, 'left', 0))
    expect(ledger.statements.isBehind()).toBe(false)
  })
})
