/**
 * Payload types of everything that a node signs. Each kind has its own, so that a signature of one kind is never valid
 * for another.
 */
export const MEDIA_TYPES = {
  charter: 'application/vnd.flexmesh.charter.v1+json',
  charter2: 'application/vnd.flexmesh.charter.v2+json',
  roster: 'application/vnd.flexmesh.roster.v1+json',
  manifest: 'application/vnd.flexmesh.manifest.v1+json',
  head: 'application/vnd.flexmesh.head.v1+json',
  keys: 'application/vnd.flexmesh.keys.v1+json',
  withdrawal: 'application/vnd.flexmesh.withdrawal.v1+json',
  proposal: 'application/vnd.flexmesh.proposal.v1+json',
  endorsement: 'application/vnd.flexmesh.endorsement.v1+json',
  leave: 'application/vnd.flexmesh.leave.v1+json',
  receipt: 'application/vnd.flexmesh.receipt.v1+json',
  verdict: 'application/vnd.flexmesh.verdict.v1+json',
  membershipRequest: 'application/vnd.flexmesh.membership-request.v1+json',
  /** The egress ledger uses it, which stays in the home folder. */
  egressHead: 'application/vnd.flexmesh.egress-head.v1+json',
  egressSummary: 'application/vnd.flexmesh.egress-summary.v1+json',
  witnessKey: 'application/vnd.flexmesh.witness-key.v1+json',
  auditBundle: 'application/vnd.flexmesh.audit-bundle.v1+json',
} as const

export type MediaType = (typeof MEDIA_TYPES)[keyof typeof MEDIA_TYPES]

export function isMediaType(text: string): text is MediaType {
  return Object.values<string>(MEDIA_TYPES).includes(text)
}
