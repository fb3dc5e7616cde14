/**
 * What follows on the data path from statements about the consortium: which packages the roster still covers, and which
 * ones it covers again. Signs nothing.
 */
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { GovernanceStatement } from '../consortium/support.ts'
import { queued } from './judging.ts'
import type { Parts } from './parts.ts'
import { carryOutQuorumWithdrawals } from './quorum-withdrawals.ts'

/** Keep a statement about the consortium and carry out what follows. @throws as `Membership.onStatement`. */
export async function receiveGovernance(
  parts: Parts,
  statement: GovernanceStatement,
  envelope: Uint8Array,
): Promise<boolean> {
  const { isNew, isRosterChanged } = await parts.membership.onStatement(statement, envelope)
  if (isRosterChanged) await actOnRoster(parts)
  if (isNew) await carryOutQuorumWithdrawals(parts)
  return isNew
}

/** Stop using the packages that the roster does not cover any more, and judge those again that it covers again. */
export async function actOnRoster(parts: Parts): Promise<void> {
  const { accepted, composer } = parts
  if ((await accepted.dropUncovered()).length > 0) await composer.recompose()
  await requeueCovered(parts)
  parts.news.isPending = true
}

/**
 * The union of all statements may leave out a revocation that a part of them had brought about. Packages that were refused
 * because of it are judged again.
 */
async function requeueCovered(parts: Parts): Promise<void> {
  const { verdicts, membership, statements, accepted, standing, queue } = parts
  for (const verdict of await verdicts.list()) {
    if (verdict.outcome !== 'refused' || verdict.code !== 'not-a-member') continue
    const envelope = await statements.envelope(verdict.id)
    const manifest = envelope === undefined ? undefined : readLoggedManifest(envelope)
    if (manifest === undefined || !membership.mayPublish(manifest.publisher, manifest.seq)) continue
    if (accepted.isWithdrawn(manifest.publisher, verdict.id)) continue
    const opened = { id: verdict.id, manifest }
    if (standing.claim(opened)) queue.add(queued(opened))
  }
}
