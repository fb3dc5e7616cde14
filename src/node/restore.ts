/**
 * Reads back what the disk holds when a node opens: withdrawals first, then the experts that were accepted. Judging
 * that was cut off goes on in the queue.
 */
import { refusedEnvelope } from '../acceptance/accept.ts'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import { signerOf } from '../identity/envelope.ts'
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { openManifest } from '../packaging/manifest.ts'
import type { ManifestStatement } from '../packaging/open-statement.ts'
import { unpackExpert } from '../packaging/package.ts'
import { isRefusal, type Parts } from '../pipeline.ts'
import { openWithdrawal } from '../statements/withdrawal.ts'

export async function restore(parts: Parts): Promise<void> {
  const manifests: { readonly envelope: Uint8Array; readonly id: Digest }[] = []
  for await (const { envelope, digest } of parts.statements.all()) {
    if (readLoggedManifest(envelope) !== undefined) manifests.push({ envelope, id: digest })
    else restoreWithdrawal(parts, envelope)
  }
  for (const { envelope, id } of manifests) await restoreManifest(parts, id, envelope)
  await parts.accepted.dropUncovered((publisher, seq) => parts.membership.mayPublish(publisher, seq))
  await parts.accepted.dropExpired()
  await parts.composer.recompose()
}

function restoreWithdrawal(parts: Parts, envelope: Uint8Array): void {
  try {
    const { publisher, manifests } = openWithdrawal(envelope).withdrawal
    parts.accepted.rememberWithdrawal(publisher, manifests)
  } catch (error) {
    parts.log.warn('a withdrawal in the log cannot be read and has no effect', error)
  }
}

async function restoreManifest(parts: Parts, id: Digest, envelope: Uint8Array): Promise<void> {
  const { accepted, blobs, queue, verdicts } = parts
  const verdict = await verdicts.get(id)
  if (verdict?.outcome === 'refused') return
  let opened: ManifestStatement
  try {
    opened = { kind: 'manifest', ...openManifest(envelope), envelope }
  } catch (error) {
    if (!isRefusal(error)) throw error
    await verdicts.put(refusedEnvelope(id, error, parts.now(), signerOf(envelope)))
    return
  }
  const { manifest } = opened
  if (accepted.isWithdrawn(manifest.publisher, id)) {
    // A crash may have come between the withdrawal and what follows from it.
    await accepted.withdraw(manifest.publisher, [id])
    return
  }
  const [file] = manifest.files
  if (verdict === undefined || !(await blobs.has(file.sha256))) {
    queue.add(opened)
    return
  }
  try {
    accepted.use(opened, unpackExpert(await blobs.readAll(file.sha256, file.size), manifest))
  } catch (error) {
    if (!(error instanceof FlexMeshError)) throw error
    parts.log.warn(`package ${id} cannot be read from disk and is fetched again`, error)
    await blobs.delete(file.sha256)
    queue.add(opened)
  }
}
