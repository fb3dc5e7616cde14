/**
 * Finds packages whose verdict was reached under another bound on epsilon than this node has now, so that they are
 * judged again when the node opens. Knows no other part of the policy, which an operator cannot change.
 */
import type { AcceptanceContext, OpenedManifest, Verdict } from '../acceptance/accept.ts'
import { checkPrivacy } from '../acceptance/manifest-checks.ts'
import { FlexMeshError } from '../lib/errors.ts'

const PRIVACY_CHECK = 'privacy'

/** Whether the check of privacy would decide otherwise now. */
export function isOfOtherPolicy(
  verdict: Verdict | undefined,
  opened: OpenedManifest,
  context: Pick<AcceptanceContext, 'policy' | 'self'>,
): boolean {
  if (verdict === undefined) return false
  if (verdict.outcome === 'accepted') return !passesPrivacy(opened, context)
  return verdict.check === PRIVACY_CHECK && passesPrivacy(opened, context)
}

function passesPrivacy(opened: OpenedManifest, context: Pick<AcceptanceContext, 'policy' | 'self'>): boolean {
  try {
    checkPrivacy(opened, context)
    return true
  } catch (error) {
    if (error instanceof FlexMeshError) return false
    throw error
  }
}
