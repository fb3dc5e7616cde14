/**
 * Judges packages again that were refused because of the time: their consent had not begun or had ended by this node's
 * clock. Such a refusal says nothing about the package, because the clock may have been wrong.
 */
import type { Verdict } from '../acceptance/accept.ts'
import { checkValidity } from '../acceptance/manifest-checks.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { type Manifest, openManifest } from '../packaging/manifest.ts'
import type { ManifestStatement } from '../packaging/open-statement.ts'
import { queued } from '../pipeline/judging.ts'
import type { Parts } from '../pipeline/parts.ts'

const VALIDITY_CHECK = 'validity'

/** Whether a verdict refuses a package because of a time at which it is valid now. @param now Unix seconds */
export function isRefusedByClock(verdict: Verdict, manifest: Manifest, now: number): boolean {
  if (verdict.outcome !== 'refused' || verdict.check !== VALIDITY_CHECK) return false
  try {
    checkValidity({ manifest, id: verdict.id }, { now })
    return true
  } catch (error) {
    if (error instanceof FlexMeshError) return false
    throw error
  }
}

/** Queue every such package that is valid now. */
export async function requeueValid(parts: Parts): Promise<void> {
  for (const verdict of await parts.verdicts.list()) {
    if (verdict.outcome !== 'refused' || verdict.check !== VALIDITY_CHECK) continue
    const statement = await logged(parts, verdict)
    if (statement === undefined) continue
    const { manifest, id } = statement
    if (parts.accepted.isWithdrawn(manifest.publisher, id)) continue
    if (isRefusedByClock(verdict, manifest, parts.now())) parts.queue.add(queued(statement))
  }
}

async function logged(parts: Parts, { id }: Verdict): Promise<ManifestStatement | undefined> {
  const envelope = await parts.statements.envelope(id)
  return envelope === undefined
    ? undefined
    : { kind: 'manifest', ...openManifest(envelope, parts.statements.signers), envelope }
}
