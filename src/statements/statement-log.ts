/**
 * The log of signed statements of every publisher, and the latest head of each: finds the statements that a peer
 * lacks, and whether statements were announced that have not arrived. Implements protocols/package-exchange, sections
 * "Heads" and "Statements", and the chain rules of protocols/expert-package. Does not verify signatures: callers pass
 * statements that they have opened. Knows nothing about verdicts and weights.
 */
import type { KeyChange } from '../consortium/key-history.ts'
import { openKeys } from '../consortium/keys-statement.ts'
import type { Membership } from '../consortium/membership.ts'
import { readEnvelope, seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import {
  type ChainLink,
  type ChainTip,
  NO_STATEMENT,
  placeInChain,
  readChainLink,
  type SignerCheck,
} from '../identity/statement.ts'
import { type Digest, digestOf, fromUtf8, utf8 } from '../lib/bytes.ts'
import { decodeCanonical } from '../lib/canonical-json.ts'
import { decodeCbor } from '../lib/cbor.ts'
import { FlexMeshError, PolicyError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import type { Catalogue, Change, NewStatement } from '../store/catalogue.ts'
import { decodeForkFrame, encodeFork, type Fork, type ForkEnvelopes } from './fork.ts'
import { decodeHead, encodeHead, type Head, openHead } from './head.ts'
import { signerCheck } from './signers.ts'

export interface StatementLogInit {
  readonly identity: Identity
  readonly catalogue: Catalogue
  readonly membership: Membership
  /** Unix seconds. */
  readonly now: () => number
}

/** A statement whose signature was verified, as it is stored in its publisher's log. */
export interface LoggedStatement {
  /** Kind of the statement, which decides how much of the log it may fill. */
  readonly kind: string
  readonly link: ChainLink
  readonly consortium: Digest
  /** Digest of the payload. */
  readonly id: Digest
  readonly envelope: Uint8Array
  /** Our own statement that nobody has seen: if it does not fit, it is dropped and proves no fork. */
  readonly isDraft?: true
  /** Written together with the statement, if it is new. */
  readonly changes?: readonly Change[]
  /** What a statement about keys states. */
  readonly keys?: KeyChange
}

/** What the asking node holds of one publisher. */
export interface KnownLog {
  readonly publisher: string
  /** Highest sequence number; 0 without statements. */
  readonly seq: number
  /** Digest of the statement with that number; NO_STATEMENT without statements. */
  readonly last: Digest
  /** Whether the node holds a proof that the publisher has forked. */
  readonly forked: boolean
}

export interface StatementsRequest {
  /** Version of the last signed roster. */
  readonly rosterVersion: number
  /** Digest of the ids of all statements about the consortium. */
  readonly governance: Digest
  readonly known: readonly KnownLog[]
}

/** One part of the answer to a request. */
export type Offered =
  | { readonly kind: 'statement'; readonly envelope: Uint8Array }
  | { readonly kind: 'fork'; readonly envelopes: ForkEnvelopes }

/** Maximum number of statements in one read from disk. */
const PAGE = 256

/** Shares of a publisher's log that kinds of statements may fill. The rest is for withdrawals, which must always find room. */
const SHARES: Readonly<Record<string, number>> = { manifest: 3 / 4, withdrawal: 1 }
const SHARE_OF_OTHERS = 7 / 8

export class StatementLog {
  readonly #init: StatementLogInit
  /** End of the log of each publisher. */
  readonly #held = new Map<PeerIdString, ChainTip>()
  /** Latest head received from each publisher. */
  readonly #heads = new Map<PeerIdString, { readonly head: Head; readonly envelope: Uint8Array }>()
  /** The proof against each publisher that has forked; undefined if an earlier version kept only one half of it. */
  readonly #forks = new Map<PeerIdString, ForkEnvelopes | undefined>()
  /** Digests of our latest withdrawals, oldest first; at most as many as a head lists. */
  readonly #ownWithdrawals: Digest[] = []
  /** When each statement was logged, Unix seconds. Earlier versions did not write it down. */
  readonly #arrivals = new Map<Digest, number>()
  readonly #appending = new Serial()

  /** Whether a signer may sign a statement of a seat, according to the statements that this log holds. */
  readonly signers: SignerCheck

  private constructor(init: StatementLogInit) {
    this.#init = init
    this.signers = signerCheck(init.membership.keys, (seat) => this.#held.get(seat)?.seq ?? 0)
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
    for (const [publisher, bytes] of await init.catalogue.entries('forks')) {
      log.#forks.set(publisher, readFork(bytes) ?? (await log.#completeFork(publisher, bytes)))
    }
    for (const [publisher, envelope] of await init.catalogue.entries('heads')) {
      const head = readStoredHead(envelope)
      if (head !== undefined) log.#heads.set(publisher, { head, envelope })
    }
    for await (const { envelope, digest } of log.of(init.membership.seat)) {
      if (readEnvelope(envelope).payloadType === MEDIA_TYPES.withdrawal) log.#rememberWithdrawal(digest)
    }
    return log
  }

  /** The proof to which an earlier version kept only the statement that contradicts the log. */
  async #completeFork(publisher: PeerIdString, envelope: Uint8Array): Promise<ForkEnvelopes | undefined> {
    const { catalogue } = this.#init
    const link = linkOf(envelope)
    if (link === undefined) return undefined
    const held = await catalogue.statementAt(publisher, link.seq)
    const contradicted = held ?? (await catalogue.statementAt(publisher, link.seq - 1))
    const other = contradicted === undefined ? undefined : await catalogue.statement(contradicted)
    if (other === undefined) return undefined
    await catalogue.put('forks', publisher, encodeFork([other, envelope]))
    return [other, envelope]
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
    this.#checkKeys(statement)
    await this.#checkPlace(statement, held)
    await this.#checkRoom(statement)
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

  /** Before the place is checked, so that nobody but the seat can contradict its log. @throws VerificationError. */
  #checkKeys({ link: { publisher, seq }, keys }: LoggedStatement): void {
    if (keys === undefined) return
    if (seq > (this.#held.get(publisher)?.seq ?? 0) + 1) {
      throw new VerificationError('replayed', `statement ${seq} arrived before its predecessors`)
    }
    this.#init.membership.keys.historyOf(publisher).checkChange(keys)
  }

  /** @throws PolicyError `quota`. */
  async #checkRoom({ kind, link: { publisher, seq }, envelope }: LoggedStatement): Promise<void> {
    const share = SHARES[kind] ?? SHARE_OF_OTHERS
    const bytes = ((await this.#init.catalogue.tip(publisher))?.bytes ?? 0) + envelope.length
    const mostStatements = share * limit('statementsPerPublisher')
    const mostBytes = share * limit('logBytesPerPublisher')
    if (seq <= mostStatements && bytes <= mostBytes) return
    throw new PolicyError(
      'quota',
      `the log of ${publisher} is full: ${kind}s may fill ${mostStatements} statements and ${mostBytes} bytes; its institution joins again with a new key to go on`,
    )
  }

  /** Whether a publisher signed two statements with one sequence number or one predecessor. */
  isForked(publisher: PeerIdString): boolean {
    return this.#forks.has(publisher)
  }

  /**
   * Keep a proof that a publisher has forked. One is enough.
   * @returns whether it is the first against this publisher.
   * @throws VerificationError `not-a-member` if no roster has ever listed the publisher.
   */
  keepFork(fork: Fork): Promise<boolean> {
    return this.#appending.run(() => this.#keepFork(fork))
  }

  async #keepFork({ publisher, envelopes }: Fork): Promise<boolean> {
    if (!this.#init.membership.isListed(publisher)) {
      throw new VerificationError('not-a-member', `the roster does not list ${publisher}`)
    }
    if (this.#forks.get(publisher) !== undefined) return false
    for (const envelope of envelopes) await this.#checkContradicts(publisher, envelope)
    const isNew = !this.#forks.has(publisher)
    await this.#init.catalogue.put('forks', publisher, encodeFork(envelopes))
    this.#forks.set(publisher, envelopes)
    return isNew
  }

  /** @throws VerificationError `wrong-signer` for a statement outside the log that no ruling key of the seat has signed. */
  async #checkContradicts(publisher: PeerIdString, envelope: Uint8Array): Promise<void> {
    const { payloadType, payload, signatures } = readEnvelope(envelope)
    const named = payloadType === MEDIA_TYPES.head ? decodeHead(payload).last : digestOf(payload)
    if ((await this.#init.catalogue.statement(named)) !== undefined) return
    const history = this.#init.membership.keys.historyOf(publisher)
    if (signatures.length === 0 || signatures.some(({ key }) => history.mayContradict(key))) return
    throw new VerificationError('wrong-signer', `${publisher}: a replaced key cannot contradict its log`)
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
      return other === undefined ? false : this.#keepFork({ publisher, envelopes: [other, envelope] })
    })
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
      const isProof = error instanceof VerificationError && error.code === 'forked' && isDraft !== true
      const contradicted = held ?? (await catalogue.statementAt(link.publisher, link.seq - 1))
      if (isProof && contradicted !== undefined) {
        const other = await catalogue.statement(contradicted)
        if (other !== undefined)
          await this.#keepFork({ publisher: link.publisher, envelopes: [other, envelope] })
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
    const { catalogue, membership } = this.#init
    const { seat } = membership
    const tip = await catalogue.tip(seat)
    return { publisher: seat, seq: (tip?.seq ?? 0) + 1, prev: tip?.digest ?? NO_STATEMENT }
  }

  /** Every statement, one publisher after the other, in order of sequence numbers. */
  async *all(): AsyncGenerator<NewStatement, void, void> {
    for (const publisher of this.#held.keys()) yield* this.of(publisher)
  }

  /** The request with which a peer finds the statements that we lack. */
  request(): StatementsRequest {
    return {
      rosterVersion: this.#init.membership.signedVersion(),
      governance: this.#init.membership.governanceDigest(),
      known: [...new Set([...this.#held.keys(), ...this.#forks.keys()])].map((publisher) => {
        const { seq, digest: last } = this.#held.get(publisher) ?? { seq: 0, digest: NO_STATEMENT }
        return { publisher, seq, last, forked: this.#forks.has(publisher) }
      }),
    }
  }

  /** Whether the peer that sent a request holds rosters, statements or proofs of forks that this node lacks. */
  isAhead({ rosterVersion, governance, known }: StatementsRequest): boolean {
    const { membership } = this.#init
    return (
      rosterVersion > membership.signedVersion() ||
      governance !== membership.governanceDigest() ||
      known.some(
        ({ publisher, seq, forked }) =>
          membership.isListed(publisher) &&
          !this.#forks.has(publisher) &&
          (forked || seq > (this.#held.get(publisher)?.seq ?? 0)),
      )
    )
  }

  /**
   * What a peer lacks, in an order in which it can check it: rosters, proofs of forks, the statement in whose place the
   * peer holds another one, then one page of each publisher in turn, so that one long log does not keep other
   * publishers out of the answer. At most `max` parts; a peer that receives so many asks again.
   */
  async *since(
    request: StatementsRequest,
    max = limit('statementFrames'),
  ): AsyncGenerator<Offered, void, void> {
    const known = new Map(request.known.map((one) => [one.publisher, one]))
    let room = max
    for await (const first of this.#firstFor(request.rosterVersion, known)) {
      if (room-- === 0) return
      yield first
    }
    let unfinished: { publisher: string; from: number }[] = []
    // In the order of admission, because a receiver keeps no statement of a publisher whose admission it does not know.
    for (const { peerId: publisher } of this.#init.membership.roster().members) {
      if (!this.#held.has(publisher)) continue
      const log = known.get(publisher)
      // Later statements do not fit into the log of a peer that holds the other branch of a fork.
      if (log?.forked === true || (log !== undefined && (await this.#differs(log)))) continue
      unfinished.push({ publisher, from: (log?.seq ?? 0) + 1 })
    }
    while (unfinished.length > 0 && room > 0) {
      const rest: typeof unfinished = []
      for (const { publisher, from } of unfinished) {
        const page = await this.#init.catalogue.log(publisher, from, Math.min(PAGE, room))
        for (const { envelope } of page) yield { kind: 'statement', envelope }
        room -= page.length
        if (page.length > 0) rest.push({ publisher, from: from + page.length })
        if (room === 0) return
      }
      unfinished = rest
    }
    for (const envelope of this.#outsideLogs(request).slice(0, room)) yield { kind: 'statement', envelope }
  }

  /** Statements about the consortium that may fit into no log, because their publishers have forked. */
  #outsideLogs({ governance }: StatementsRequest): Uint8Array[] {
    const { membership } = this.#init
    if (governance === membership.governanceDigest()) return []
    return membership.governanceEnvelopes(new Set(this.#forks.keys())).reverse()
  }

  /** The part of an answer that must not wait behind long logs. */
  async *#firstFor(
    rosterVersion: number,
    known: ReadonlyMap<string, KnownLog>,
  ): AsyncGenerator<Offered, void, void> {
    const { membership, catalogue } = this.#init
    for (const envelope of membership.envelopesSince(rosterVersion)) yield { kind: 'statement', envelope }
    for (const [publisher, envelopes] of this.#forks) {
      if (envelopes !== undefined && known.get(publisher)?.forked !== true) yield { kind: 'fork', envelopes }
    }
    for (const log of known.values()) {
      if (log.forked || !(await this.#differs(log))) continue
      const held = await catalogue.statementAt(log.publisher, log.seq)
      const envelope = held === undefined ? undefined : await catalogue.statement(held)
      if (envelope !== undefined) yield { kind: 'statement', envelope }
    }
  }

  /** Whether a peer holds another statement than this node in the last place of its log. */
  async #differs({ publisher, seq, last }: KnownLog): Promise<boolean> {
    if (seq === 0 || !this.#held.has(publisher)) return false
    const held = await this.#init.catalogue.statementAt(publisher, seq)
    return held !== undefined && held !== last
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
      const tip = await catalogue.tip(seat)
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

  /**
   * Whether to relay an announced head: only if it is authentic, current and newer than the last one. `reject` counts
   * against the peer that relayed it, so a head of a publisher that is not on our roster, or that a key has signed which
   * our log does not name, is ignored: an honest peer may hold a later roster or more of the log.
   * @returns the head too, if it may prove a fork: see `compareHead`.
   */
  judgeHead(envelope: Uint8Array): { judgement: 'accept' | 'reject' | 'ignore'; head?: Head } {
    const { head, signer } = openHead(envelope, anySigner)
    const { membership, now } = this.#init
    if (head.consortium !== membership.consortium) return { judgement: 'reject' }
    if (head.seq > limit('statementsPerPublisher')) return { judgement: 'reject' }
    if (!membership.isMember(head.publisher)) return { judgement: 'ignore' }
    if (!this.#isSignedBySeat(head, signer)) return { judgement: 'ignore' }
    const skew = limit('clockSkew')
    if (head.expiresAt + skew < now() || head.issuedAt > now() + skew) return { judgement: 'reject' }
    const latest = this.#heads.get(head.publisher)?.head
    const isOld = head.seq < (this.#held.get(head.publisher)?.seq ?? 0)
    const isNewer =
      !isOld &&
      (latest === undefined ||
        head.seq > latest.seq ||
        (head.seq === latest.seq && head.issuedAt > latest.issuedAt))
    // A head that contradicts the latest one must not replace it before `compareHead` has seen both.
    const isOther = latest?.seq === head.seq && latest.last !== head.last
    if (isNewer && (!isOther || this.isForked(head.publisher)))
      this.#heads.set(head.publisher, { head, envelope })
    return { judgement: isNewer ? 'accept' : 'ignore', head }
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

  #isSignedBySeat({ publisher, seq, issuedAt }: Head, signer: PeerIdString): boolean {
    try {
      this.signers({ publisher, seq, issuedAt, type: MEDIA_TYPES.head, signer })
      return true
    } catch (error) {
      if (error instanceof VerificationError) return false
      throw error
    }
  }

  /** Whether a member has announced statements that we lack and would accept. */
  isBehind(): boolean {
    return [...this.#heads].some(
      ([publisher, { head }]) =>
        head.seq > (this.#held.get(publisher)?.seq ?? 0) &&
        !this.#forks.has(publisher) &&
        this.#init.membership.isMember(publisher),
    )
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

/** The log decides about the signer, with what it holds. */
const anySigner: SignerCheck = () => undefined

/** Undefined for a stored head that cannot be read. */
function readStoredHead(envelope: Uint8Array): Head | undefined {
  try {
    return openHead(envelope, anySigner).head
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}

function readFork(bytes: Uint8Array): ForkEnvelopes | undefined {
  try {
    return decodeForkFrame(decodeCbor(bytes, 3 * limit('envelopeBytes')))
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}

/** Place of a statement whose signature was verified before it was stored; undefined if it is none. */
function linkOf(envelope: Uint8Array): ChainLink | undefined {
  try {
    const value = decodeCanonical(readEnvelope(envelope).payload)
    return readChainLink(new Fields(value, 'statement'), 'statement')
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}
