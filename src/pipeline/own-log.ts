/**
 * What several steps of the data path share: reading and extending our own log, carrying out withdrawals, announcing.
 * Does not decide what is signed.
 */
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { WithdrawnPackage } from '../acceptance/withdrawn-weights.ts'
import { seal } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { limit } from '../lib/limits.ts'
import type { ManifestStatement, WithdrawalStatement } from '../packaging/open-statement.ts'
import { encodeWithdrawal, type Withdrawal } from '../statements/withdrawal.ts'
import type { KnownWithdrawal } from '../statements/withdrawal-ledger.ts'
import { checkMaySign } from './before-signing.ts'
import type { Parts } from './parts.ts'
import { noteWithdrawal } from './withdrawal-notes.ts'

/** Sign a new head and announce it. Call this after our log or the roster has grown. */
export async function announce(parts: Parts): Promise<void> {
  await parts.sendHead(await parts.statements.renewHead(await ownPackages(parts)))
  parts.requestCosignatures()
}

/**
 * A statement arrived that this node did not hold. If it is one of its own, the home was set back to an earlier state:
 * nothing is signed, and no expert of others is used, until the members have told what they hold.
 */
export async function noticeSetBack(parts: Parts, publisher: string): Promise<void> {
  const { membership, mark, composer, onEvent } = parts
  if (publisher !== membership.seat || mark.isCopied) return
  await mark.suspect()
  onEvent({ event: 'set-back' })
  await composer.recompose()
}

/** Our own packages that are not withdrawn, oldest first; those of one name if it is given. */
export async function ownPackages(parts: Parts, name?: string): Promise<Digest[]> {
  const { seat } = parts.membership
  const ids: Digest[] = []
  for await (const { envelope, digest } of parts.statements.of(seat)) {
    const manifest = readLoggedManifest(envelope)
    if (manifest === undefined || (name !== undefined && manifest.expert.name !== name)) continue
    if (!parts.accepted.isWithdrawn(seat, digest)) ids.push(digest)
  }
  return ids
}

/** Sign, log and carry out withdrawals of our own packages, in batches of at most `digestsPerStatement`. */
export async function signWithdrawals(
  parts: Parts,
  ids: readonly Digest[],
  reason: Withdrawal['reason'],
): Promise<void> {
  const most = limit('digestsPerStatement')
  checkMaySign(parts, 'packages')
  for (let from = 0; from < ids.length; from += most) {
    const withdrawal: Withdrawal = {
      ...(await parts.statements.next()),
      consortium: parts.membership.consortium,
      manifests: ids.slice(from, from + most),
      reason,
      issuedAt: parts.now(),
    }
    const payload = encodeWithdrawal(withdrawal)
    const envelope = seal(MEDIA_TYPES.withdrawal, payload, [parts.identity])
    await parts.mark.replace() // Before the log holds the withdrawal, which must then have its effect.
    const id = digestOf(payload)
    await logWithdrawal(parts, { kind: 'withdrawal', withdrawal, id, envelope }, true)
    await applyWithdrawal(parts, { ...withdrawal, id }, withdrawal)
  }
}

/**
 * @param by place of the withdrawal in the log of the owner; undefined if a quorum has withdrawn the packages
 * @returns number of experts that were in use.
 */
export async function applyWithdrawal(
  parts: Parts,
  withdrawal: KnownWithdrawal,
  by: WithdrawnPackage['by'],
): Promise<number> {
  const { publisher, manifests, reason } = withdrawal
  parts.ledger.addWithdrawal(withdrawal)
  try {
    await rememberWeights(parts, withdrawal, by)
    await noteWithdrawal(parts, withdrawal)
  } catch (error) {
    parts.log.warn('what this node held of withdrawn packages could not be written down', error)
  }
  parts.standing.remove(publisher, manifests)
  const dropped = await parts.accepted.withdraw(publisher, manifests, reason)
  parts.queue.restart(manifests, publisher)
  for (const id of manifests) {
    const state = parts.states.get(id)
    if (state?.kind === 'failed' && state.isFinal && parts.accepted.isWithdrawn(publisher, id))
      parts.states.delete(id)
  }
  queuePlaced(parts)
  for (const { institution, id } of dropped) parts.onEvent({ event: 'withdrawn', institution, id })
  return dropped.length
}

/** Recognize the weights of withdrawn packages when they are published again. */
export async function rememberWeights(
  { statements, withdrawnWeights }: Parts,
  { id, publisher, manifests, reason, issuedAt }: KnownWithdrawal,
  by: WithdrawnPackage['by'],
): Promise<void> {
  for (const withdrawn of manifests) {
    const envelope = await statements.envelope(withdrawn)
    const manifest = envelope === undefined ? undefined : readLoggedManifest(envelope)
    if (manifest?.publisher !== publisher) continue
    withdrawnWeights.add({
      id: withdrawn,
      publisher,
      file: manifest.files[0].sha256,
      publishedAt: manifest.issuedAt,
      reason,
      by,
      issuedAt,
      arrivedAt: statements.arrivedAt(id),
    })
  }
}

/** Judge packages that have waited for a place among their publisher's packages and have one now. */
export function queuePlaced({ standing, queue }: Parts): void {
  for (const placed of standing.takePlaced()) queue.add(placed)
}

export function logManifest(
  { statements }: Parts,
  { manifest, id, envelope }: ManifestStatement,
  isOwn = false,
): Promise<boolean> {
  const { consortium } = manifest
  const statement = { kind: 'manifest', link: manifest, consortium, id, envelope } as const
  return statements.append(isOwn ? { ...statement, isDraft: true } : statement)
}

export function logWithdrawal(
  { statements }: Parts,
  { withdrawal, id, envelope }: WithdrawalStatement,
  isOwn = false,
): Promise<boolean> {
  const { consortium } = withdrawal
  const statement = { kind: 'withdrawal', link: withdrawal, consortium, id, envelope } as const
  return statements.append(isOwn ? { ...statement, isDraft: true } : statement)
}
