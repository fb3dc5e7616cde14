/** How a manifest's statement about its audit reads. Prints nothing itself. */
import { shortDigest } from '../lib/bytes.ts'
import type { AuditStatement } from '../packaging/manifest-audit.ts'

const MICRO = 1e6

/** A few words, for lists. */
export function shortAuditWords(audit: AuditStatement | undefined): string {
  if (audit === undefined) return 'not audited'
  const { canaries, acceptedRisk } = audit
  const bound = (canaries?.epsilonLowMicro ?? 0) / MICRO
  return [
    bound > 0 ? `audited, epsilon at least ${bound.toFixed(2)}` : 'audited',
    ...(acceptedRisk === undefined ? [] : [`its owner accepted the risk: ${acceptedRisk}`]),
  ].join(', ')
}

/** What a manifest states about its audit. */
export function auditWords(audit: AuditStatement | undefined): string {
  if (audit === undefined) return 'none, and the package says so'
  const { canaries, extraction, membership, acceptedRisk, report } = audit
  const share = (count: number, of: number): string => `${count} of ${of}`
  return [
    ...(canaries === undefined
      ? ['no canaries']
      : [
          `${share(canaries.right, canaries.guesses)} guesses about ${canaries.count} canaries right, epsilon at least ${(canaries.epsilonLowMicro / MICRO).toFixed(2)}`,
        ]),
    ...(extraction === undefined
      ? []
      : [`${share(extraction.extracted, extraction.texts)} pieces of training text extracted`]),
    ...(membership === undefined
      ? []
      : [
          `${share(Math.max(membership.byLossRatio, membership.byMinK), membership.members)} recognised at 1 % false accusations`,
        ]),
    ...(acceptedRisk === undefined ? [] : [`the audit stopped it, accepted because: ${acceptedRisk}`]),
    `report ${shortDigest(report)}`,
  ].join('; ')
}
