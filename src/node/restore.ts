/**
 * Restores the state of a node from its disk when it opens: withdrawals first, then the accepted experts. Packages
 * without a verdict, those that only the time of the clock made invalid, and those that were judged under another bound
 * on epsilon are judged again, in the queue.
 */
import { refusedEnvelope, type Verdict } from '../acceptance/accept.ts'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { PackageState } from '../acceptance/package-states.ts'
import { readEnvelope } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { readLoggedChained } from '../packaging/chained-kinds.ts'
import { type Manifest, openManifest } from '../packaging/manifest.ts'
import type { ManifestStatement } from '../packaging/open-statement.ts'
import { restoreChained } from '../pipeline/chained-effects.ts'
import { queued } from '../pipeline/judging.ts'
import { rememberWeights } from '../pipeline/own-log.ts'
import { isRefusal, type Parts } from '../pipeline/parts.ts'
import { restoreQuorumWithdrawals } from '../pipeline/quorum-withdrawals.ts'
import { openWithdrawal } from '../statements/withdrawal.ts'
import { isOfOtherPolicy } from './policy-change.ts'
import { isRefusedByClock } from './validity.ts'

interface LoggedPackage {
  readonly id: Digest
  readonly envelope: Uint8Array
  readonly manifest: Manifest
}

/** Number of judgements of a package that may end with the process before the package waits for the operator. */
const MAX_UNENDED = 2
const SUSPECTED: PackageState = {
  kind: 'failed',
  reason: `this node ended ${MAX_UNENDED} times while it judged the package or began to use it`,
  isFinal: true,
  needsOperator: true,
}

export async function restore(parts: Parts): Promise<void> {
  const { accepted, verdicts } = parts
  const packages: LoggedPackage[] = []
  for await (const { envelope, digest: id } of parts.statements.all()) {
    const manifest = readLoggedManifest(envelope)
    if (manifest !== undefined) packages.push({ id, envelope, manifest })
    else await restoreOther(parts, id, envelope)
  }
  await restoreQuorumWithdrawals(parts)
  const standing: { readonly logged: LoggedPackage; readonly verdict: Verdict | undefined }[] = []
  const withdrawn: LoggedPackage[] = []
  /** Refused packages whose files stay. */
  const kept: LoggedPackage[] = []
  /** Packages during whose judgement the process has ended before. */
  const suspects: LoggedPackage[] = []
  for (const logged of packages) {
    const verdict = await verdicts.get(logged.id)
    if (accepted.isWithdrawn(logged.manifest.publisher, logged.id)) withdrawn.push(logged)
    else if (!parts.standing.add(logged)) {
      // An earlier version had no places, and only this node may have the file.
      const isOwn = logged.manifest.publisher === parts.membership.seat
      if (isOwn || verdict?.outcome === 'accepted') kept.push(logged)
    } else if (isOfOtherPolicy(verdict, logged, { policy: parts.policy, self: parts.membership.seat })) {
      standing.push({ logged, verdict: undefined })
    } else if (verdict === undefined || verdict.outcome === 'accepted') {
      const unended = await verdicts.unendedJudgings(logged.id)
      if (unended >= MAX_UNENDED) suspects.push(logged)
      // The process may have ended when it began to use the expert, so it is judged again before it is used.
      else standing.push({ logged, verdict: unended === 0 ? verdict : undefined })
    } else if (isRefusedByClock(verdict, logged.manifest, parts.now()))
      standing.push({ logged, verdict: undefined })
    else if (await keepsFile(parts, logged, verdict)) kept.push(logged)
  }
  const { publicModel } = parts.membership.charter
  // Before the queue writes files: keeps unfinished downloads that can resume, and deletes all other leftovers. Codes of the
  // public model have its digest.
  await parts.blobs.sweep(
    [...standing.map(({ logged }) => logged), ...kept, ...suspects].flatMap(({ manifest }) => manifest.files),
    new Set([publicModel.digest, ...publicModel.files.map(({ sha256 }) => sha256)]),
    parts.signal,
  )
  for (const { id, manifest } of [...kept, ...suspects]) accepted.files.keep(id, manifest)
  for (const { id } of suspects) parts.states.set(id, SUSPECTED)
  const waiting: ManifestStatement[] = []
  for (const { logged, verdict } of standing) {
    const unjudged = await restorePackage(parts, logged, verdict)
    if (unjudged !== undefined) waiting.push(unjudged)
  }
  // After the standing packages, which may need the same file. The process may have ended before a withdrawal had
  // its effects.
  const holds = waiting.map(({ manifest }) => accepted.files.hold(manifest))
  for (const { id, manifest } of withdrawn) await accepted.withdraw(manifest.publisher, [id])
  for (const end of holds) end()
  await accepted.dropUncovered()
  await accepted.dropExpired()
  await parts.composer.serve()
  for (const statement of waiting) parts.queue.add(queued(statement))
}

/** Time after the end of its consent for which a package's file stays, in case this machine's clock is wrong, seconds. */
const KEPT_AFTER_CONSENT = 30 * 86_400

/** An operator's refusal may be taken back, and its owner serves the file to others; a clock may be ahead. */
async function keepsFile(
  { accepted, now }: Parts,
  { id, manifest }: LoggedPackage,
  verdict: Verdict,
): Promise<boolean> {
  if (await accepted.isRefusedByOperator(id)) return true
  const isExpired = verdict.outcome === 'refused' && verdict.code === 'expired'
  return isExpired && manifest.expiresAt + KEPT_AFTER_CONSENT > now()
}

/** Restore the effect of a logged statement that is no manifest. The manifests before it in its log are logged, too. */
async function restoreOther(parts: Parts, id: Digest, envelope: Uint8Array): Promise<void> {
  try {
    const { payloadType, payload } = readEnvelope(envelope)
    if (payloadType !== MEDIA_TYPES.withdrawal) {
      const statement = readLoggedChained(payloadType, payload, { id, envelope })
      if (statement !== undefined) restoreChained(parts, statement)
      return
    }
    const { withdrawal } = openWithdrawal(envelope, parts.statements.signers)
    const { publisher, manifests, reason } = withdrawal
    parts.accepted.rememberWithdrawal(publisher, manifests, reason)
    parts.ledger.addWithdrawal({ ...withdrawal, id })
    await rememberWeights(parts, { ...withdrawal, id }, withdrawal)
  } catch (error) {
    if (!isRefusal(error)) throw error
    parts.log.warn('a statement in the log cannot be read and has no effect', error)
  }
}

/** @returns a package that has to be judged. */
async function restorePackage(
  parts: Parts,
  { id, envelope }: LoggedPackage,
  verdict: Verdict | undefined,
): Promise<ManifestStatement | undefined> {
  const { accepted, blobs } = parts
  let opened: ManifestStatement
  try {
    opened = { kind: 'manifest', ...openManifest(envelope, parts.statements.signers), envelope }
  } catch (error) {
    if (!isRefusal(error)) throw error
    // Even our own log may hold a statement that we did not sign, if somebody changed the disk.
    await parts.verdicts.put(refusedEnvelope(id, error, parts.now()))
    return undefined
  }
  const [file] = opened.manifest.files
  if (verdict === undefined || !(await blobs.has(file.sha256))) {
    return opened
  }
  try {
    await accepted.use(opened)
    return undefined
  } catch (error) {
    if (!(error instanceof FlexMeshError)) throw error
    parts.log.warn(`package ${id} cannot be read from disk and is judged again`, error)
    if (isRefusal(error)) await blobs.delete(file.sha256) // The disk returned other bytes than were written.
    return opened
  }
}
