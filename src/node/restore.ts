/**
 * Restores the state of a node from its disk when it opens: withdrawals first, then the accepted experts. Packages
 * without a verdict are judged again, in the queue.
 */
import { refusedEnvelope, type Verdict } from '../acceptance/accept.ts'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import { signerOf } from '../identity/envelope.ts'
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { type Manifest, openManifest } from '../packaging/manifest.ts'
import type { ManifestStatement } from '../packaging/open-statement.ts'
import { unpackExpert } from '../packaging/package.ts'
import { isRefusal, type Parts } from '../pipeline.ts'
import { openWithdrawal } from '../statements/withdrawal.ts'

interface LoggedPackage {
  readonly id: Digest
  readonly envelope: Uint8Array
  readonly manifest: Manifest
}

export async function restore(parts: Parts): Promise<void> {
  const { accepted, membership, verdicts } = parts
  const packages: LoggedPackage[] = []
  for await (const { envelope, digest: id } of parts.statements.all()) {
    const manifest = readLoggedManifest(envelope)
    if (manifest !== undefined) packages.push({ id, envelope, manifest })
    else restoreWithdrawal(parts, envelope)
  }
  const standing: { readonly logged: LoggedPackage; readonly verdict: Verdict | undefined }[] = []
  for (const logged of packages) {
    const verdict = await verdicts.get(logged.id)
    const { publisher } = logged.manifest
    if (accepted.isWithdrawn(publisher, logged.id)) {
      // The process may have ended after the withdrawal was logged and before it was carried out.
      if (verdict?.outcome === 'accepted') await accepted.withdraw(publisher, [logged.id])
    } else if (verdict?.outcome !== 'refused') standing.push({ logged, verdict })
  }
  // Before the queue writes files: keeps unfinished downloads that can resume, and deletes all other leftovers.
  await parts.blobs.sweep(
    standing.flatMap(({ logged }) => logged.manifest.files),
    parts.signal,
  )
  for (const { logged, verdict } of standing) await restorePackage(parts, logged, verdict)
  await accepted.dropUncovered((publisher, seq) => membership.mayPublish(publisher, seq))
  await accepted.dropExpired()
  await parts.composer.serve()
}

function restoreWithdrawal(parts: Parts, envelope: Uint8Array): void {
  try {
    const { publisher, manifests } = openWithdrawal(envelope).withdrawal
    parts.accepted.rememberWithdrawal(publisher, manifests)
  } catch (error) {
    parts.log.warn('a withdrawal in the log cannot be read and has no effect', error)
  }
}

async function restorePackage(
  parts: Parts,
  { id, envelope }: LoggedPackage,
  verdict: Verdict | undefined,
): Promise<void> {
  const { accepted, blobs, queue } = parts
  let opened: ManifestStatement
  try {
    opened = { kind: 'manifest', ...openManifest(envelope), envelope }
  } catch (error) {
    if (!isRefusal(error)) throw error
    // Even our own log may hold a statement that we did not sign, if somebody changed the disk.
    await parts.verdicts.put(refusedEnvelope(id, error, parts.now(), signerOf(envelope)))
    return
  }
  const [file] = opened.manifest.files
  if (verdict === undefined || !(await blobs.has(file.sha256))) {
    queue.add(opened)
    return
  }
  try {
    const weights = await blobs.readAll(file.sha256, file.size, parts.signal)
    accepted.use(opened, unpackExpert(weights, opened.manifest))
  } catch (error) {
    if (!(error instanceof FlexMeshError)) throw error
    parts.log.warn(`package ${id} cannot be read from disk and is judged again`, error)
    if (isRefusal(error)) await blobs.delete(file.sha256) // The disk returned other bytes than were written.
    queue.add(opened)
  }
}
