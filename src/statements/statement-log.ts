/**
 * Signed statements of every publisher, in order, and their heads: what we hold, what others lack,
 * and what we have heard of but not yet received. Implements protocols/package-exchange, sections
 * "Heads" and "Statements". Knows no verdict and no weights.
 */

import type { Membership } from '../consortium/membership.ts'
import { seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
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

export interface StatementsRequest {
  readonly rosterVersion: number
  /** Highest sequence number known of each publisher. */
  readonly known: readonly { readonly publisher: string; readonly seq: number }[]
}

/** Statements of one publisher in one answer; the next sync brings the rest. */
const STATEMENTS_PER_PUBLISHER = 1024

export class StatementLog {
  readonly #init: StatementLogInit
  /** Latest sequence number held of each publisher. */
  readonly #held = new Map<PeerIdString, number>()
  /** Latest head heard of each publisher. */
  readonly #heads = new Map<PeerIdString, Pick<Head, 'seq' | 'issuedAt'>>()

  private constructor(init: StatementLogInit) {
    this.#init = init
  }

  static async open(init: StatementLogInit): Promise<StatementLog> {
    const log = new StatementLog(init)
    for (const [publisher, { seq }] of await init.catalogue.tips()) log.#held.set(publisher, seq)
    for (const [publisher, envelope] of await init.catalogue.entries('heads')) {
      log.#heads.set(publisher, openHead(envelope).head)
    }
    return log
  }

  /**
   * Add a statement to its publisher's log.
   * @returns false when it was there already. @throws VerificationError `wrong-consortium`,
   * `not-a-member`, `forked`, `replayed`.
   */
  async append(link: ChainLink & { consortium: Digest }, id: Digest, envelope: Uint8Array): Promise<boolean> {
    const { membership, catalogue } = this.#init
    if (link.consortium !== membership.consortium) {
      throw new VerificationError('wrong-consortium', `made for consortium ${link.consortium}`)
    }
    if (!membership.isMember(link.publisher)) {
      throw new VerificationError('not-a-member', `${link.publisher} is not a member`)
    }
    if ((await catalogue.statementAt(link.publisher, link.seq)) === id) return false
    const place = placeInChain(await catalogue.tip(link.publisher), link, id)
    if (place === 'gap') {
      throw new VerificationError('replayed', `statement ${link.seq} came before the ones that it follows`)
    }
    return this.appendUnchecked({ publisher: link.publisher, seq: link.seq, digest: id, envelope })
  }

  /** Our own next statement, or what a test wants others to refuse. */
  async appendUnchecked(statement: NewStatement): Promise<boolean> {
    const added = await this.#init.catalogue.append(statement)
    this.#held.set(statement.publisher, statement.seq)
    return added
  }

  /** Where our own next statement goes. */
  async next(): Promise<ChainLink> {
    const { catalogue, identity } = this.#init
    const tip = await catalogue.tip(identity.peerId)
    return { publisher: identity.peerId, seq: (tip?.seq ?? 0) + 1, prev: tip?.digest ?? NO_STATEMENT }
  }

  /** Every statement of every publisher, in order of each. */
  async *all(): AsyncGenerator<NewStatement> {
    for (const publisher of this.#held.keys()) {
      yield* await this.#init.catalogue.log(publisher, 1, STATEMENTS_PER_PUBLISHER)
    }
  }

  /** What we ask of a peer that we sync with. */
  request(): StatementsRequest {
    return {
      rosterVersion: this.#init.membership.roster().version,
      known: [...this.#held].map(([publisher, seq]) => ({ publisher, seq })),
    }
  }

  /** Envelopes that a peer lacks, in the order in which it can check them. */
  async *since(request: StatementsRequest): AsyncGenerator<Uint8Array> {
    yield* this.#init.membership.envelopesSince(request.rosterVersion)
    const known = new Map(request.known.map(({ publisher, seq }) => [publisher, seq]))
    for (const publisher of this.#held.keys()) {
      const from = (known.get(publisher) ?? 0) + 1
      const log = await this.#init.catalogue.log(publisher, from, STATEMENTS_PER_PUBLISHER)
      for (const { envelope } of log) yield envelope
    }
  }

  /** Sign and keep our new head. Its time always grows, so that nobody takes it for an old one. */
  async renewHead(manifests: readonly Digest[]): Promise<Uint8Array> {
    const { identity, catalogue, membership, now } = this.#init
    const tip = await catalogue.tip(identity.peerId)
    const issuedAt = Math.max(now(), (this.#heads.get(identity.peerId)?.issuedAt ?? 0) + 1)
    const head: Head = {
      consortium: membership.consortium,
      publisher: identity.peerId,
      seq: tip?.seq ?? 0,
      last: tip?.digest ?? NO_STATEMENT,
      manifests,
      withdrawals: [],
      issuedAt,
      expiresAt: issuedAt + limit('headLifetime'),
    }
    const envelope = seal(MEDIA_TYPES.head, encodeHead(head), [identity])
    await catalogue.put('heads', identity.peerId, envelope)
    this.#heads.set(identity.peerId, head)
    return envelope
  }

  /** Whether an announced head is relayed: only what is authentic, current and news. */
  judgeHead(envelope: Uint8Array): 'accept' | 'reject' | 'ignore' {
    const { head } = openHead(envelope)
    const { membership, now } = this.#init
    if (head.consortium !== membership.consortium || !membership.isMember(head.publisher)) return 'reject'
    const skew = limit('clockSkew')
    if (head.expiresAt + skew < now() || head.issuedAt > now() + skew) return 'reject'
    const known = this.#heads.get(head.publisher)
    if (known !== undefined && (head.seq < known.seq || head.issuedAt <= known.issuedAt)) return 'ignore'
    this.#heads.set(head.publisher, head)
    return 'accept'
  }

  /** Whether somebody announced statements that we do not hold yet. */
  isBehind(): boolean {
    return [...this.#heads].some(([publisher, { seq }]) => seq > (this.#held.get(publisher) ?? 0))
  }
}
