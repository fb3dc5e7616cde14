/**
 * Withdrawals that a quorum of the members has decided for an owner, whose key may be compromised. They have the same
 * effects as the owner's own, and every member answers them, the owner too. Signs nothing.
 */
import { applyWithdrawal, rememberWeights } from './own-log.ts'
import type { Parts } from './parts.ts'

/** Carry out what a quorum has withdrawn since. */
export async function carryOutQuorumWithdrawals(parts: Parts): Promise<void> {
  const { membership, ledger, composer } = parts
  let dropped = 0
  for (const withdrawal of membership.book.withdrawnByQuorum()) {
    if (!ledger.has(withdrawal.id)) dropped += await applyWithdrawal(parts, withdrawal, undefined)
  }
  if (dropped > 0) await composer.recompose()
}

/** At start: know what a quorum has withdrawn before, once the manifests of the log are known. */
export async function restoreQuorumWithdrawals(parts: Parts): Promise<void> {
  const { membership, ledger, accepted } = parts
  for (const withdrawal of membership.book.withdrawnByQuorum()) {
    ledger.addWithdrawal(withdrawal)
    accepted.rememberWithdrawal(withdrawal.publisher, withdrawal.manifests, withdrawal.reason)
    await rememberWeights(parts, withdrawal, undefined)
  }
}
