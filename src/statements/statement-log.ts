/**
 * The log of signed statements of every publisher: adds statements that continue their chain, and signs the heads of our
 * own log. Implements the chain rules of protocols/expert-package. The checks of a new statement are in append-checks.ts, the
 * heads of others in latest-heads.ts, proofs of forks in forks.ts, what a peer lacks in log-answers.ts. Does not verify signatures: callers pass statements that they have
 * opened. Knows nothing about verdicts and weights.
 */
import { openKeys } from '../consortium/keys-statement.ts'
import type { Membership } from '../consortium/membership.ts'
import { readEnvelope, seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type ChainLink, type ChainTip, NO_STATEMENT, type SignerCheck } from '../identity/statement.ts'
import { type Digest, fromUtf8, utf8 } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import type { Catalogue, NewStatement } from '../store/catalogue.ts'
import { checkKeys, checkPlace, checkRoom, type LoggedStatement } from './append-checks.ts'
import type { Fork } from './fork.ts'
import { Forks } from './forks.ts'
import { encodeHead, type Head } from './head.ts'
import { type HeadJudgement, LatestHeads } from './latest-heads.ts'
import { LogAnswers, type Offered, type StatementsRequest } from './log-answers.ts'
import { signerCheck } from './signers.ts'

export interface StatementLogInit {
  readonly identity: Identity
  readonly catalogue: Catalogue
  readonly membership: Membership
  /** Unix seconds. */
  readonly now: () => number
}

/** Maximum number of statements in one read from disk. */
const PAGE = 256

export class StatementLog {
  readonly #init: StatementLogInit
  /** End of the log of each publisher. */
  readonly #held = new Map<PeerIdString, ChainTip>()
  /** Latest head received from each publisher. */
  readonly #heads: LatestHeads
  readonly #answers: LogAnswers
  readonly #forks: Forks
  /** Digests of our latest withdrawals, oldest first; at most as many as a head lists. */
  readonly #ownWithdrawals: Digest[] = []
  /** When each statement was logged, Unix seconds. Earlier versions did not write it down. */
  readonly #arrivals = new Map<Digest, number>()
  readonly #appending = new Serial()

  /** Whether a signer may sign a statement of a seat, according to the statements that this log holds. */
  readonly signers: SignerCheck

  private constructor(init: StatementLogInit) {
    this.#init = init
    const { catalogue, membership, now } = init
    const lastSeq = (seat: PeerIdString): number => this.#held.get(seat)?.seq ?? 0
    this.signers = signerCheck(membership.keys, lastSeq)
    this.#forks = new Forks({ catalogue, membership })
    this.#heads = new LatestHeads({
      membership,
      signers: this.signers,
      lastSeq,
      isForked: (publisher) => this.isForked(publisher),
      now,
    })
    this.#answers = new LogAnswers({ catalogue, membership, held: this.#held, forks: this.#forks.kept })
  }

  static async open(init: StatementLogInit): Promise<StatementLog> {
    const log = new StatementLog(init)
    for (const [publisher, tip] of await init.catalogue.tips()) log.#held.set(publisher, tip)
    for (const [id, second] of await init.catalogue.entries('arrivals')) {
      log.#arrivals.set(id as Digest, Number(fromUtf8(second)))
    }
    for (const [, envelope] of await init.catalogue.entries('keys')) {
      const { value } = openKeys(envelope)
      init.membership.restoreKeys(value.publisher, value, envelope)
    }
    await log.#forks.load()
    for (const [publisher, envelope] of await init.catalogue.entries('heads')) {
      log.#heads.restore(publisher, envelope)
    }
    for await (const { envelope, digest } of log.of(init.membership.seat)) {
      if (readEnvelope(envelope).payloadType === MEDIA_TYPES.withdrawal) log.#rememberWithdrawal(digest)
    }
    return log
  }

  /**
   * Add a statement to its publisher's log.
   * @returns false if the log holds it already.
   * @throws VerificationError `wrong-consortium`; `not-a-member` if no roster has ever listed the publisher; `forked`
   * for a statement that contradicts the log, which is kept as proof; `replayed` for one whose predecessors are
   * missing. PolicyError `quota` if the publisher's log is full.
   *
   * Statements that have no effect are added too, such as a manifest of a member that was revoked before it: what the
   * log holds must depend on the statements alone, not on when they arrive, and a withdrawal may follow them.
   */
  append(statement: LoggedStatement): Promise<boolean> {
    return this.#appending.run(() => this.#append(statement))
  }

  async #append(statement: LoggedStatement): Promise<boolean> {
    const { kind, link, consortium, id, envelope, keys } = statement
    const { membership, catalogue } = this.#init
    const { publisher, seq } = link
    if (consortium !== membership.consortium) {
      throw new VerificationError('wrong-consortium', `the statement is for consortium ${consortium}`)
    }
    if (!membership.isListed(publisher)) {
      throw new VerificationError('not-a-member', `the roster does not list ${publisher}`)
    }
    const held = await catalogue.statementAt(publisher, seq)
    if (held === id) return false
    const checks = { catalogue, membership, forks: this.#forks, lastSeq: this.#held.get(publisher)?.seq ?? 0 }
    checkKeys(checks, statement)
    await checkPlace(checks, statement, held)
    await checkRoom(checks, statement)
    const second = this.#init.now()
    const arrival = { table: 'arrivals', key: id, value: utf8(String(second)) } as const
    await catalogue.append({ publisher, seq, digest: id, envelope }, [arrival, ...(statement.changes ?? [])])
    this.#arrivals.set(id, second)
    this.#held.set(publisher, { seq, digest: id })
    if (keys !== undefined) await membership.onKeys(publisher, keys, envelope)
    if (publisher === membership.seat && kind === 'withdrawal') this.#rememberWithdrawal(id)
    return true
  }

  /** When this node logged a statement, Unix seconds; undefined if that was not written down. */
  arrivedAt(id: Digest): number | undefined {
    return this.#arrivals.get(id)
  }

  /** Whether a publisher signed two statements with one sequence number or one predecessor. */
  isForked(publisher: PeerIdString): boolean {
    return this.#forks.kept.has(publisher)
  }

  /**
   * Keep a proof that a publisher has forked. One is enough.
   * @returns whether it is the first against this publisher.
   * @throws VerificationError `not-a-member` if no roster has ever listed the publisher.
   */
  keepFork(fork: Fork): Promise<boolean> {
    return this.#appending.run(() => this.#forks.keep(fork))
  }

  /**
   * Compare a head, whose signature was verified, with the publisher's log and with its latest head. A difference is
   * kept as a proof that the publisher has forked. The latest head is written to disk.
   * @returns whether that is the first proof against this publisher.
   */
  compareHead(head: Head, envelope: Uint8Array): Promise<boolean> {
    return this.#appending.run(async () => {
      const { catalogue, membership } = this.#init
      const { publisher, seq, last } = head
      if (head.consortium !== membership.consortium) return false
      // So that no older head is taken for the latest after a restart either.
      if (this.#heads.get(publisher)?.envelope === envelope) await catalogue.put('heads', publisher, envelope)
      if (seq === 0 || this.isForked(publisher) || !membership.isListed(publisher)) return false
      const held = await catalogue.statementAt(publisher, seq)
      const latest = this.#heads.get(publisher)
      let other: Uint8Array | undefined
      if (held !== undefined && held !== last) other = await catalogue.statement(held)
      else if (latest?.head.seq === seq && latest.head.last !== last) other = latest.envelope
      return other === undefined ? false : this.#forks.keep({ publisher, envelopes: [other, envelope] })
    })
  }

  /** @returns the envelope of a statement; undefined if the log does not hold it. */
  envelope(id: Digest): Promise<Uint8Array | undefined> {
    return this.#init.catalogue.statement(id)
  }

  /** Sequence number and predecessor of our next statement. */
  async next(): Promise<ChainLink> {
    const { catalogue, membership } = this.#init
    const { seat } = membership
    const tip = await catalogue.tip(seat)
    return { publisher: seat, seq: (tip?.seq ?? 0) + 1, prev: tip?.digest ?? NO_STATEMENT }
  }

  /** Every statement, one publisher after the other, in order of sequence numbers. */
  async *all(): AsyncGenerator<NewStatement, void, void> {
    for (const publisher of this.#held.keys()) yield* this.of(publisher)
  }

  /** See `LogAnswers.request`. */
  request(): StatementsRequest {
    return this.#answers.request()
  }

  /** See `LogAnswers.isAhead`. */
  isAhead(request: StatementsRequest): boolean {
    return this.#answers.isAhead(request)
  }

  /** See `LogAnswers.since`. */
  since(request: StatementsRequest, max?: number): AsyncGenerator<Offered, void, void> {
    return this.#answers.since(request, max)
  }

  /**
   * Sign and store our new head. It is always issued later than the one before it, so that receivers take it for
   * newer.
   * @param standing ids of our packages that are neither withdrawn nor expired, oldest first. The head lists the
   * latest of them.
   */
  renewHead(standing: readonly Digest[]): Promise<Uint8Array> {
    return this.#appending.run(async () => {
      const { identity, catalogue, membership, now } = this.#init
      const { seat } = membership
      const tip = this.#held.get(seat)
      const issuedAt = Math.max(now(), (this.#heads.get(seat)?.head.issuedAt ?? 0) + 1)
      const head: Head = {
        consortium: membership.consortium,
        publisher: seat,
        seq: tip?.seq ?? 0,
        last: tip?.digest ?? NO_STATEMENT,
        manifests: standing.slice(-limit('digestsPerStatement')),
        withdrawals: this.#ownWithdrawals,
        issuedAt,
        expiresAt: issuedAt + limit('headLifetime'),
      }
      const envelope = seal(MEDIA_TYPES.head, encodeHead(head), [identity])
      await catalogue.put('heads', seat, envelope)
      this.#heads.set(seat, { head, envelope })
      return envelope
    })
  }

  /** See `LatestHeads.judge`. */
  judgeHead(envelope: Uint8Array): HeadJudgement {
    return this.#heads.judge(envelope)
  }

  /** Number of our latest statement; 0 before the first. */
  ownSeq(): number {
    return this.#held.get(this.#init.membership.seat)?.seq ?? 0
  }

  /** Whether a head that we signed names a statement of ours that we do not hold: our home was set back. */
  isOwnBehind(): boolean {
    return (this.#heads.get(this.#init.membership.seat)?.head.seq ?? 0) > this.ownSeq()
  }

  /** Number of our latest statement that the sender of a request holds, if it is later than ours. */
  claimedOwnSeq({ known }: StatementsRequest): number | undefined {
    const own = known.find(({ publisher }) => publisher === this.#init.membership.seat)
    return own !== undefined && own.seq > this.ownSeq() ? own.seq : undefined
  }

  /** Envelope of the latest head that a publisher has announced. */
  headEnvelope(publisher: PeerIdString): Uint8Array | undefined {
    return this.#heads.get(publisher)?.envelope
  }

  /** See `LatestHeads.isBehind`. */
  isBehind(seat?: PeerIdString): boolean {
    return this.#heads.isBehind(seat)
  }

  /** Every statement of one publisher from number `fromSeq` on, in order. */
  async *of(publisher: PeerIdString, fromSeq = 1): AsyncGenerator<NewStatement, void, void> {
    for (let from = fromSeq; ; ) {
      const page = await this.#init.catalogue.log(publisher, from, PAGE)
      yield* page
      if (page.length < PAGE) return
      from += page.length
    }
  }

  #rememberWithdrawal(id: Digest): void {
    this.#ownWithdrawals.push(id)
    if (this.#ownWithdrawals.length > limit('digestsPerStatement')) this.#ownWithdrawals.shift()
  }
}
