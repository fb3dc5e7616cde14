/**
 * What a node asks of the logs of others, and what it answers: the statements and proofs of forks that a peer lacks.
 * Implements protocols/package-exchange, section "Statements". Changes no log.
 */
import type { Membership } from '../consortium/membership.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { type ChainTip, NO_STATEMENT } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { limit } from '../lib/limits.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { ForkEnvelopes } from './fork.ts'

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

/** Maximum number of statements of one publisher before others have their turn. */
const PAGE = 256

export interface LogAnswersInit {
  readonly catalogue: Catalogue
  readonly membership: Membership
  /** End of the log of each publisher. */
  readonly held: ReadonlyMap<PeerIdString, ChainTip>
  /** The proof against each publisher that has forked; undefined if only one half of it was kept. */
  readonly forks: ReadonlyMap<PeerIdString, ForkEnvelopes | undefined>
}

export class LogAnswers {
  readonly #init: LogAnswersInit

  constructor(init: LogAnswersInit) {
    this.#init = init
  }

  /** The request with which a peer finds the statements that we lack. */
  request(): StatementsRequest {
    return {
      rosterVersion: this.#init.membership.book.signedVersion(),
      governance: this.#init.membership.book.governanceDigest(),
      known: [...new Set([...this.#init.held.keys(), ...this.#init.forks.keys()])].map((publisher) => {
        const { seq, digest: last } = this.#init.held.get(publisher) ?? { seq: 0, digest: NO_STATEMENT }
        return { publisher, seq, last, forked: this.#init.forks.has(publisher) }
      }),
    }
  }

  /** Whether the peer that sent a request holds rosters, statements or proofs of forks that this node lacks. */
  isAhead({ rosterVersion, governance, known }: StatementsRequest): boolean {
    const { membership } = this.#init
    return (
      rosterVersion > membership.book.signedVersion() ||
      governance !== membership.book.governanceDigest() ||
      known.some(
        ({ publisher, seq, forked }) =>
          membership.isListed(publisher) &&
          !this.#init.forks.has(publisher) &&
          (forked || seq > (this.#init.held.get(publisher)?.seq ?? 0)),
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
      if (!this.#init.held.has(publisher)) continue
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
    if (governance === membership.book.governanceDigest()) return []
    return membership.book.governanceEnvelopes(new Set(this.#init.forks.keys())).reverse()
  }

  /** The part of an answer that must not wait behind long logs. */
  async *#firstFor(
    rosterVersion: number,
    known: ReadonlyMap<string, KnownLog>,
  ): AsyncGenerator<Offered, void, void> {
    const { membership, catalogue } = this.#init
    for (const envelope of membership.book.envelopesSince(rosterVersion))
      yield { kind: 'statement', envelope }
    for (const [publisher, envelopes] of this.#init.forks) {
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
    if (seq === 0 || !this.#init.held.has(publisher)) return false
    const held = await this.#init.catalogue.statementAt(publisher, seq)
    return held !== undefined && held !== last
  }
}
