/** A signed request to become a member. Implements protocols/consortium-charter, section "Membership request". */

import { openEnvelope, seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import type { ProposedChange } from './change.ts'
import { readMember } from './member.ts'

export const JOIN_STATUS = ['pending', 'member', 'refused'] as const
export type JoinStatus = (typeof JOIN_STATUS)[number]

export interface MembershipRequest {
  readonly consortium: Digest
  readonly institution: string
  readonly peerId: PeerIdString
  /** Digest of the key that will follow the institution's key, which is committed with the admission. */
  readonly next?: Digest
  readonly token: string
  readonly issuedAt: number
}

export function sealMembershipRequest(request: MembershipRequest, identity: Identity): Uint8Array {
  const payload = encodeCanonical({
    _type: 'membership-request',
    version: 1,
    consortium: request.consortium,
    institution: request.institution,
    peerId: request.peerId,
    ...(request.next === undefined ? {} : { next: request.next }),
    token: request.token,
    issuedAt: request.issuedAt,
  })
  return seal(MEDIA_TYPES.membershipRequest, payload, [identity])
}

/** @throws FormatError; VerificationError, `wrong-signer` unless the peer that asks, and nobody else, has signed. */
export function openMembershipRequest(envelope: Uint8Array): MembershipRequest {
  const { payload, signers } = openEnvelope(envelope, MEDIA_TYPES.membershipRequest)
  const fields = new Fields(decodeCanonical(payload), 'membership request')
  fields.literal('_type', 'membership-request')
  fields.literal('version', 1)
  const consortium = fields.digest('consortium')
  const institution = fields.text('institution', 100)
  const peerId = fields.text('peerId', 64)
  const next = fields.has('next') ? { next: fields.digest('next') } : {}
  const token = fields.text('token', 32, /^[a-f0-9]{32}$/)
  const issuedAt = fields.uint('issuedAt')
  fields.end()
  readMember({ institution, peerId: peerId, role: 'member', joinedAt: issuedAt }, 'membership request')
  if (signers.length !== 1 || signers[0] !== peerId) {
    throw new VerificationError(
      'wrong-signer',
      `membership request of ${peerId}: signed by ${signers.join(', ')}`,
    )
  }
  return { consortium, institution, peerId, ...next, token, issuedAt }
}

/** The change that approving a request proposes. */
export function admissionOf({ institution, peerId, next }: MembershipRequest): ProposedChange {
  return { kind: 'admit', institution, peerId, ...(next === undefined ? {} : { next }) }
}
