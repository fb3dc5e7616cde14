/**
 * The log of signed statements of every publisher, and the latest head of each: finds the statements that a peer
 * lacks, and whether statements were announced that have not arrived. Implements protocols/package-exchange, sections
 * "Heads" and "Statements", and the chain rules of protocols/expert-package. Does not verify signatures: callers pass
 * statements that they have opened. Knows nothing about verdicts and weights.
 */
import type { Membership } from '../consortium/membership.ts'
import { readEnvelope, seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import type { Catalogue, NewStatement } from '../store/catalogue.ts'
import { encodeHead, type Head, openHead } from './head.ts'
import { type ChainLink, NO_STATEMENT, placeInChain } from './statement.ts'

export interface StatementLogInit {
  readonly identity: Identity
  readonly catalogue: Catalogue
  readonly membership: Membership
  /** Unix seconds. */
  readonly now: () => number
}

/** A statement whose signature was verified, as it is stored in its publisher's log. */
export interface LoggedStatement {
  readonly kind: 'manifest' | 'withdrawal'
  readonly link: ChainLink
  readonly consortium: Digest
  /** Digest of the payload. */
  readonly id: Digest
  readonly envelope: Uint8Array
  /** Our own statement that nobody has seen: if it does not fit, it is dropped and proves no fork. */
  readonly isDraft?: true
}

export interface StatementsRequest {
  readonly rosterVersion: number
  /** Highest sequence number that the asking node holds of each publisher. */
  readonly known: readonly { readonly publisher: string; readonly seq: number }[]
}

/** Maximum number of statements in one read from disk. */
const PAGE = 256

export class StatementLog {
  readonly #init: StatementLogInit
  /** Highest sequence number in the log of each publisher. */
  readonly #held = new Map<PeerIdString, number>()
  /** Latest head received from each publisher. */
  readonly #heads = new Map<PeerIdString, Pick<Head, 'seq' | 'issuedAt'>>()
  /** Publishers that signed two statements with one sequence number or one predecessor. */
  readonly #forked = new Set<PeerIdString>()
  /** Digests of our latest withdrawals, oldest first; at most as many as a head lists. */
  readonly #ownWithdrawals: Digest[] = []
  readonly #appending = new Serial()

  private constructor(init: StatementLogInit) {
    this.#init = init
  }

  static async open(init: StatementLogInit): Promise<StatementLog> {
    const log = new StatementLog(init)
    for (const [publisher, { seq }] of await init.catalogue.tips()) log.#held.set(publisher, seq)
    for (const [publisher] of await init.catalogue.entries('forks')) log.#forked.add(publisher)
    for (const [publisher, envelope] of await init.catalogue.entries('heads')) {
      log.#heads.set(publisher, openHead(envelope).head)
    }
    for await (const { envelope, digest } of log.of(init.identity.peerId)) {
      if (readEnvelope(envelope).payloadType === MEDIA_TYPES.withdrawal) log.#rememberWithdrawal(digest)
    }
    return log
  }

  /**
   * Add a statement to its publisher's log.
   * @returns false if the log holds it already.
   * @throws VerificationError `wrong-consortium`; `not-a-member` for a statement that the roster does not cover;
   * `forked` for one that contradicts the log, which is kept as proof; `replayed` for one whose predecessors are
   * missing. Manifests that must not be composed are added too: later statements of the chain depend on them.
   */
  append(statement: LoggedStatement): Promise<boolean> {
    return this.#appending.run(() => this.#append(statement))
  }

  async #append(statement: LoggedStatement): Promise<boolean> {
    const { kind, link, consortium, id, envelope } = statement
    const { membership, catalogue, identity } = this.#init
    const { publisher, seq } = link
    if (consortium !== membership.consortium) {
      throw new VerificationError('wrong-consortium', `the statement is for consortium ${consortium}`)
    }
    if (!membership.mayPublish(publisher, seq)) {
      throw new VerificationError(
        'not-a-member',
        `the roster does not cover statement ${seq} of ${publisher}`,
      )
    }
    const held = await catalogue.statementAt(publisher, seq)
    if (held === id) return false
    await this.#checkPlace(statement, held)
    await catalogue.append({ publisher, seq, digest: id, envelope })
    this.#held.set(publisher, seq)
    if (publisher === identity.peerId && kind === 'withdrawal') this.#rememberWithdrawal(id)
    return true
  }

  /** Whether a publisher signed two statements with one sequence number or one predecessor. */
  isForked(publisher: PeerIdString): boolean {
    return this.#forked.has(publisher)
  }

  /** @throws VerificationError `forked`, after the statement was kept as proof; `replayed`. */
  async #checkPlace(
    { link, id, envelope, isDraft }: LoggedStatement,
    held: Digest | undefined,
  ): Promise<void> {
    const { catalogue } = this.#init
    try {
      if (held !== undefined) {
        throw new VerificationError('forked', `statement ${link.seq}: ${held} has the same number`)
      }
      if (placeInChain(await catalogue.tip(link.publisher), link, id) === 'gap') {
        throw new VerificationError('replayed', `statement ${link.seq} arrived before its predecessors`)
      }
    } catch (error) {
      const isProof =
        error instanceof VerificationError &&
        error.code === 'forked' &&
        isDraft !== true &&
        !this.#forked.has(link.publisher)
      if (isProof) {
        await catalogue.put('forks', link.publisher, envelope)
        this.#forked.add(link.publisher)
      }
      throw error
    }
  }

  /** @returns the envelope of a statement; undefined if the log does not hold it. */
  envelope(id: Digest): Promise<Uint8Array | undefined> {
    return this.#init.catalogue.statement(id)
  }

  /** Sequence number and predecessor of our next statement. */
  async next(): Promise<ChainLink> {
    const { catalogue, identity } = this.#init
    const tip = await catalogue.tip(identity.peerId)
    return { publisher: identity.peerId, seq: (tip?.seq ?? 0) + 1, prev: tip?.digest ?? NO_STATEMENT }
  }

  /** Every statement, one publisher after the other, in order of sequence numbers. */
  async *all(): AsyncGenerator<NewStatement, void, void> {
    for (const publisher of this.#held.keys()) yield* this.of(publisher)
  }

  /** The request with which a peer finds the statements that we lack. */
  request(): StatementsRequest {
    return {
      rosterVersion: this.#init.membership.roster().version,
      known: [...this.#held].map(([publisher, seq]) => ({ publisher, seq })),
    }
  }

  /**
   * Envelopes that a peer lacks, in an order in which it can check them: rosters first, then one page of each publisher
   * in turn, so that one long log does not keep other publishers out of the answer. At most `max` envelopes; a peer
   * that receives so many asks again.
   */
  async *since(
    request: StatementsRequest,
    max = limit('statementFrames'),
  ): AsyncGenerator<Uint8Array, void, void> {
    const known = new Map(request.known.map(({ publisher, seq }) => [publisher, seq]))
    let room = max
    for (const envelope of this.#init.membership.envelopesSince(request.rosterVersion)) {
      if (room-- === 0) return
      yield envelope
    }
    let unfinished = [...this.#held.keys()].map((publisher) => ({
      publisher,
      from: (known.get(publisher) ?? 0) + 1,
    }))
    while (unfinished.length > 0 && room > 0) {
      const rest: typeof unfinished = []
      for (const { publisher, from } of unfinished) {
        const page = await this.#init.catalogue.log(publisher, from, Math.min(PAGE, room))
        for (const { envelope } of page) yield envelope
        room -= page.length
        if (page.length > 0) rest.push({ publisher, from: from + page.length })
        if (room === 0) return
      }
      unfinished = rest
    }
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
      const tip = await catalogue.tip(identity.peerId)
      const issuedAt = Math.max(now(), (this.#heads.get(identity.peerId)?.issuedAt ?? 0) + 1)
      const head: Head = {
        consortium: membership.consortium,
        publisher: identity.peerId,
        seq: tip?.seq ?? 0,
        last: tip?.digest ?? NO_STATEMENT,
        manifests: standing.slice(-limit('digestsPerStatement')),
        withdrawals: this.#ownWithdrawals,
        issuedAt,
        expiresAt: issuedAt + limit('headLifetime'),
      }
      const envelope = seal(MEDIA_TYPES.head, encodeHead(head), [identity])
      await catalogue.put('heads', identity.peerId, envelope)
      this.#heads.set(identity.peerId, head)
      return envelope
    })
  }

  /**
   * Whether to relay an announced head: only if it is authentic, current and newer than the last one. `reject` counts
   * against the peer that relayed it, so a head of a publisher that is not on our roster is ignored: an honest peer may
   * hold a later roster.
   */
  judgeHead(envelope: Uint8Array): 'accept' | 'reject' | 'ignore' {
    const { head } = openHead(envelope)
    const { membership, now } = this.#init
    if (head.consortium !== membership.consortium) return 'reject'
    if (!membership.isMember(head.publisher)) return 'ignore'
    const skew = limit('clockSkew')
    if (head.expiresAt + skew < now() || head.issuedAt > now() + skew) return 'reject'
    const known = this.#heads.get(head.publisher)
    if (known !== undefined && (head.seq < known.seq || head.issuedAt <= known.issuedAt)) return 'ignore'
    this.#heads.set(head.publisher, head)
    return 'accept'
  }

  /** Whether a member has announced statements that we lack and would accept. */
  isBehind(): boolean {
    return [...this.#heads].some(
      ([publisher, { seq }]) =>
        seq > (this.#held.get(publisher) ?? 0) &&
        !this.#forked.has(publisher) &&
        this.#init.membership.isMember(publisher),
    )
  }

  /** Every statement of one publisher, in order of sequence numbers. */
  async *of(publisher: PeerIdString): AsyncGenerator<NewStatement, void, void> {
    for (let from = 1; ; ) {
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
