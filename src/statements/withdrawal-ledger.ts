/**
 * All withdrawals that this node knows, and what each member has answered to them. Built from the logs at start and kept
 * up to date with them. Signs nothing, and does not know who is a member.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import type { Receipt, WithdrawalAnswer } from './receipt.ts'
import type { Withdrawal, WithdrawalReason } from './withdrawal.ts'

/** A statement that withdraws packages of one publisher. */
export interface KnownWithdrawal extends Pick<Withdrawal, 'publisher' | 'manifests' | 'issuedAt'> {
  readonly reason: WithdrawalReason
  /** Digest of the statement. */
  readonly id: Digest
}

/** The latest answer of one member. */
export interface KnownAnswer {
  readonly answer: WithdrawalAnswer
  /** Digest of the receipt that contains it. */
  readonly receipt: Digest
  /** When the receipt was signed, Unix seconds. */
  readonly issuedAt: number
}

export class WithdrawalLedger {
  readonly #withdrawals = new Map<Digest, KnownWithdrawal>()
  readonly #answers = new Map<Digest, Map<PeerIdString, KnownAnswer>>()

  addWithdrawal(withdrawal: KnownWithdrawal): void {
    const { id, publisher, manifests, reason, issuedAt } = withdrawal
    this.#withdrawals.set(id, { id, publisher, manifests, reason, issuedAt })
  }

  /** Add a receipt in the order of its publisher's log: a later answer replaces an earlier one. */
  addReceipt({ publisher, answers, issuedAt }: Receipt, receipt: Digest): void {
    for (const answer of answers) {
      const known = this.#answers.get(answer.withdrawal) ?? new Map<PeerIdString, KnownAnswer>()
      known.set(publisher, { answer, receipt, issuedAt })
      this.#answers.set(answer.withdrawal, known)
    }
  }

  /** Withdrawals that members answer: all but those by which an owner replaced a package; oldest first. */
  answerable(): KnownWithdrawal[] {
    return [...this.#withdrawals.values()]
      .filter(({ reason }) => reason !== 'superseded')
      .sort((a, b) => a.issuedAt - b.issuedAt || (a.id < b.id ? -1 : 1))
  }

  has(id: Digest): boolean {
    return this.#withdrawals.has(id)
  }

  /** Withdrawals that a member has to answer and has not answered, oldest first. */
  unansweredBy(member: PeerIdString): KnownWithdrawal[] {
    return this.answerable().filter(
      (withdrawal) => answers(member, withdrawal) && !this.#answers.get(withdrawal.id)?.has(member),
    )
  }

  /** Withdrawals whose latest answer of a member names files that the member still has and could delete later. */
  unfinishedBy(member: PeerIdString): { withdrawal: KnownWithdrawal; known: KnownAnswer }[] {
    return this.answerable().flatMap((withdrawal) => {
      const known = this.#answers.get(withdrawal.id)?.get(member)
      const isUnfinished = known?.answer.packages.some(
        ({ held, kept }) => held !== 'never' && kept.some(({ reason }) => reason !== 'public-model'),
      )
      return known !== undefined && isUnfinished === true ? [{ withdrawal, known }] : []
    })
  }

  /** Latest answer of each member to a withdrawal. */
  answersTo(id: Digest): ReadonlyMap<PeerIdString, KnownAnswer> {
    return this.#answers.get(id) ?? new Map()
  }

  /** Number of receipts that a member has signed since a time for withdrawals of one publisher. */
  receiptsSince(member: PeerIdString, publisher: PeerIdString, since: number): number {
    const receipts = new Set<Digest>()
    for (const [withdrawal, answers] of this.#answers) {
      const known = answers.get(member)
      const isOf = this.#withdrawals.get(withdrawal)?.publisher === publisher
      if (isOf && known !== undefined && known.issuedAt >= since) receipts.add(known.receipt)
    }
    return receipts.size
  }
}

/** Whether a member answers a withdrawal: every member but the owner that has signed it. */
export function answers(member: PeerIdString, { publisher, reason }: KnownWithdrawal): boolean {
  return publisher !== member || reason === 'quorum'
}
