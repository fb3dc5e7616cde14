/** An entry of a roster, and the rule for names of institutions. Knows nothing about signatures. */

import { type PeerIdString, publicKeyFromPeerId } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import type { JsonObject } from '../lib/canonical-json.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'

export const MEMBER_ROLES = ['founder', 'member'] as const
export const REVOCATION_REASONS = ['left', 'compromised', 'other'] as const
export type RevocationReason = (typeof REVOCATION_REASONS)[number]

export interface Member {
  readonly institution: string
  readonly peerId: PeerIdString
  readonly role: (typeof MEMBER_ROLES)[number]
  /** Unix seconds. */
  readonly joinedAt: number
  /** The institution's present key, once it has been rotated; until then the key is that of `peerId`. */
  readonly key?: PeerIdString
  /** Digest of the institution's next key, to which it has committed itself. */
  readonly next?: Digest
  readonly revoked?: {
    readonly reason: RevocationReason
    readonly at: number
    /** Statements with a sequence number up to this one stay valid. */
    readonly validThroughSeq: number
  }
}

const MAX_INSTITUTION = 100
const INSTITUTION = /^[\p{L}\p{N}][\p{L}\p{M}\p{N} .,'’&()-]*$/u

/**
 * The name of an institution as statements hold it: NFC, single spaces, none at the ends.
 * @param given as somebody typed it. @throws InputError `usage`.
 */
export function institutionName(given: string): string {
  const name = given.normalize('NFC').trim().replaceAll(/ +/g, ' ')
  if (name.length > 0 && name.length <= MAX_INSTITUTION && INSTITUTION.test(name)) return name
  const wrong = [...name].find((character, i) => !INSTITUTION.test(i === 0 ? character : `a${character}`))
  const found =
    name.length > MAX_INSTITUTION
      ? `${name.length} characters`
      : wrong === undefined
        ? 'nothing'
        : `${JSON.stringify(wrong)} in it`
  throw new InputError(
    'usage',
    `institution: expected 1 to ${MAX_INSTITUTION} letters, digits, spaces and .,'’&()- that begin with a letter or digit, got ${found}; choose another name`,
  )
}

/** @throws FormatError `bad-field` for a name that is not as `institutionName` writes it. */
export function readInstitution(fields: Fields, title: string): string {
  const name = fields.text('institution', MAX_INSTITUTION, INSTITUTION)
  if (name !== name.normalize('NFC')) {
    throw new FormatError('bad-field', `${title}.institution: expected Unicode Normalization Form C`)
  }
  return name
}

/** @throws FormatError `bad-field`; VerificationError `weak-key`. */
export function readMember(value: unknown, title: string): Member {
  const fields = new Fields(value, title)
  const institution = readInstitution(fields, title)
  const peerId = fields.text('peerId', 64)
  publicKeyFromPeerId(peerId)
  const role = fields.literal('role', ...MEMBER_ROLES)
  const joinedAt = fields.uint('joinedAt')
  const next = fields.has('next') ? { next: fields.digest('next') } : {}
  const revoked = fields.has('revoked') ? { revoked: readRevocation(fields.object('revoked')) } : {}
  fields.end()
  return { institution, peerId, role, joinedAt, ...next, ...revoked }
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
  const { key, next, revoked } = member
  return {
    institution: member.institution,
    peerId: member.peerId,
    role: member.role,
    joinedAt: member.joinedAt,
    ...(key === undefined ? {} : { key }),
    ...(next === undefined ? {} : { next }),
    ...(revoked === undefined
      ? {}
      : { revoked: { reason: revoked.reason, at: revoked.at, validThroughSeq: revoked.validThroughSeq } }),
  }
}
