/**
 * The latest head of each publisher, and whether an announced head is taken for it. Implements protocols/package-exchange,
 * section "Heads". Writes nothing to disk, and keeps no proof of forks.
 */
import type { Membership } from '../consortium/membership.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { SignerCheck } from '../identity/statement.ts'
import { FlexMeshError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Head, openHead } from './head.ts'

export interface LatestHead {
  readonly head: Head
  readonly envelope: Uint8Array
}

/** What to do with an announced head, and the head if it may prove a fork. */
export interface HeadJudgement {
  readonly judgement: 'accept' | 'reject' | 'ignore'
  readonly head?: Head
}

export interface LatestHeadsInit {
  readonly membership: Membership
  /** Whether a signer may sign a head of a seat, according to the log. */
  readonly signers: SignerCheck
  /** Number of the last statement of a publisher that the log holds; 0 if none. */
  readonly lastSeq: (publisher: PeerIdString) => number
  readonly isForked: (publisher: PeerIdString) => boolean
  /** Unix seconds. */
  readonly now: () => number
}

export class LatestHeads {
  readonly #init: LatestHeadsInit
  readonly #heads = new Map<PeerIdString, LatestHead>()

  constructor(init: LatestHeadsInit) {
    this.#init = init
  }

  get(publisher: PeerIdString): LatestHead | undefined {
    return this.#heads.get(publisher)
  }

  set(publisher: PeerIdString, latest: LatestHead): void {
    this.#heads.set(publisher, latest)
  }

  /** Take a stored head, which was judged before it was stored. Skips one that cannot be read. */
  restore(publisher: PeerIdString, envelope: Uint8Array): void {
    const head = readStoredHead(envelope)
    if (head !== undefined) this.#heads.set(publisher, { head, envelope })
  }

  /**
   * Whether to relay an announced head: only if it is authentic, current and newer than the last one. `reject` counts
   * against the peer that relayed it, so a head of a publisher that is not on our roster, or that a key has signed which
   * our log does not name, is ignored: an honest peer may hold a later roster or more of the log.
   * @returns the head too, if it may prove a fork: see `compareHead`.
   */
  judge(envelope: Uint8Array): HeadJudgement {
    const { head, signer } = openHead(envelope, anySigner)
    const { membership, now } = this.#init
    if (head.consortium !== membership.consortium) return { judgement: 'reject' }
    if (head.seq > limit('statementsPerPublisher')) return { judgement: 'reject' }
    if (!membership.isMember(head.publisher)) return { judgement: 'ignore' }
    if (!this.#isSignedBySeat(head, signer)) return { judgement: 'ignore' }
    const skew = limit('clockSkew')
    if (head.expiresAt + skew < now() || head.issuedAt > now() + skew) return { judgement: 'reject' }
    const latest = this.#heads.get(head.publisher)?.head
    const isOld = head.seq < this.#init.lastSeq(head.publisher)
    const isNewer =
      !isOld &&
      (latest === undefined ||
        head.seq > latest.seq ||
        (head.seq === latest.seq && head.issuedAt > latest.issuedAt))
    // A head that contradicts the latest one must not replace it before `compareHead` has seen both.
    const isOther = latest?.seq === head.seq && latest.last !== head.last
    if (isNewer && (!isOther || this.#init.isForked(head.publisher)))
      this.#heads.set(head.publisher, { head, envelope })
    return { judgement: isNewer ? 'accept' : 'ignore', head }
  }

  #isSignedBySeat({ publisher, seq, issuedAt }: Head, signer: PeerIdString): boolean {
    try {
      this.#init.signers({ publisher, seq, issuedAt, type: MEDIA_TYPES.head, signer })
      return true
    } catch (error) {
      if (error instanceof VerificationError) return false
      throw error
    }
  }

  /** Whether a member, or this one if it is given, has announced statements that we lack and would accept. */
  isBehind(seat?: PeerIdString): boolean {
    const seats = seat === undefined ? [...this.#heads.keys()] : [seat]
    return seats.some(
      (publisher) =>
        (this.#heads.get(publisher)?.head.seq ?? 0) > this.#init.lastSeq(publisher) &&
        !this.#init.isForked(publisher) &&
        this.#init.membership.isMember(publisher),
    )
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
