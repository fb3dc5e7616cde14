/**
 * Reminds an owner of members that have not answered its withdrawals: at the start of the node and once a day until all
 * have. Knows nothing about where reminders go.
 */
import type { MemberAnswer, WithdrawalReport } from './withdrawals.ts'

const DAY_SECONDS = 86_400

export interface OpenWithdrawal {
  /** Names of the withdrawn experts. */
  readonly experts: readonly string[]
  /** Unix seconds at which this was found out. */
  readonly at: number
  /** Every member but the owner. */
  readonly members: readonly Pick<
    MemberAnswer,
    'institution' | 'isSelf' | 'state' | 'isConnected' | 'lastSeenAt'
  >[]
}

export class WithdrawalReminders {
  /** When each withdrawal was reported last, by its digest. */
  readonly #reported = new Map<string, number>()

  /** Our own withdrawals that some member has not answered, and that were not reported within a day. */
  due(reports: readonly WithdrawalReport[], now: number): OpenWithdrawal[] {
    const open = reports.filter(
      ({ isOwn, id, members }) =>
        isOwn &&
        members.some(({ state }) => state === 'waiting') &&
        (this.#reported.get(id) ?? Number.NEGATIVE_INFINITY) + DAY_SECONDS <= now,
    )
    for (const { id } of open) this.#reported.set(id, now)
    return open.map(({ packages, members }) => ({
      experts: [...new Set(packages.map(({ expert }) => expert))],
      at: now,
      members: members.map(({ institution, isSelf, state, isConnected, lastSeenAt }) => ({
        institution,
        isSelf,
        state,
        isConnected,
        ...(lastSeenAt === undefined ? {} : { lastSeenAt }),
      })),
    }))
  }
}
