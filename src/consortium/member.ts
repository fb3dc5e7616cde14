/** An entry of a roster. Knows nothing about signatures. */

import { type PeerIdString, publicKeyFromPeerId } from '../identity/keys.ts'
import type { JsonObject } from '../lib/canonical-json.ts'
import { Fields } from '../lib/fields.ts'

export const MEMBER_ROLES = ['founder', 'member'] as const
const REVOCATION_REASONS = ['left', 'compromised', 'other'] as const
export type RevocationReason = (typeof REVOCATION_REASONS)[number]

export interface Member {
  readonly institution: string
  readonly peerId: PeerIdString
  readonly role: (typeof MEMBER_ROLES)[number]
  /** Unix seconds. */
  readonly joinedAt: number
  readonly revoked?: {
    readonly reason: RevocationReason
    readonly at: number
    /** Statements with a sequence number up to this one stay valid. */
    readonly validThroughSeq: number
  }
}

const INSTITUTION = /^[\p{L}\p{N}][\p{L}\p{N} .,'&()-]*$/u

/** @throws FormatError `bad-field`; VerificationError `weak-key`. */
export function readMember(value: unknown, title: string): Member {
  const fields = new Fields(value, title)
  const institution = fields.text('institution', 100, INSTITUTION)
  const peerId = fields.text('peerId', 64)
  publicKeyFromPeerId(peerId)
  const role = fields.literal('role', ...MEMBER_ROLES)
  const joinedAt = fields.uint('joinedAt')
  const revoked = fields.has('revoked') ? readRevocation(fields.object('revoked')) : undefined
  fields.end()
  return { institution, peerId, role, joinedAt, ...(revoked === undefined ? {} : { revoked }) }
}

function readRevocation(fields: Fields): NonNullable<Member['revoked']> {
  const revoked = {
    reason: fields.literal('reason', ...REVOCATION_REASONS),
    at: fields.uint('at'),
    validThroughSeq: fields.uint('validThroughSeq'),
  }
  fields.end()
  return revoked
}

export function writeMember(member: Member): JsonObject {
  const { revoked } = member
  return {
    institution: member.institution,
    peerId: member.peerId,
    role: member.role,
    joinedAt: member.joinedAt,
    ...(revoked === undefined
      ? {}
      : { revoked: { reason: revoked.reason, at: revoked.at, validThroughSeq: revoked.validThroughSeq } }),
  }
}
