/**
 * The signed list of members, in versions. Implements protocols/consortium-charter, section "Roster". Version 1
 * follows from the charter and lists its founders; version N+1 needs the signatures of at least `threshold` distinct
 * founders of version N. Does not know networks and the clock.
 */

import { openEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FormatError, InputError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import type { Charter } from './charter.ts'
import { type Member, readMember, writeMember } from './member.ts'
import { founderRules, type Rules, writeRules } from './rules.ts'

export interface Roster {
  readonly consortium: Digest
  readonly version: number
  /** Digest of the payload of the version before; that of the charter in version 1. */
  readonly prev: Digest
  readonly members: readonly Member[]
  /** Who decides about changes. */
  readonly rules: Rules
  /** Only under a charter of version 1: number of founders that must sign the next signed roster. */
  readonly threshold?: number
  readonly issuedAt: number
  readonly expiresAt: number
}

export function rosterFromCharter(charter: Charter, consortium: Digest): Roster {
  return {
    consortium,
    version: 1,
    prev: consortium,
    members: charter.founders,
    rules: charter.rules,
    ...(charter.threshold === undefined ? {} : { threshold: charter.threshold }),
    issuedAt: charter.issuedAt,
    expiresAt: charter.issuedAt + limit('rosterLifetime'),
  }
}

/** The payload of a signed roster, which only consortia with a charter of version 1 have. */
export function encodeRoster(roster: Roster & { readonly threshold: number }): Uint8Array {
  return encodeCanonical({
    _type: 'roster',
    version: 1,
    consortium: roster.consortium,
    rosterVersion: roster.version,
    prev: roster.prev,
    members: roster.members.map(writeMember),
    threshold: roster.threshold,
    issuedAt: roster.issuedAt,
    expiresAt: roster.expiresAt,
  })
}

/** @throws FormatError for a field outside its range, or a threshold above the number of founders. */
export function decodeRoster(payload: Uint8Array): Roster & { readonly threshold: number } {
  const fields = new Fields(decodeCanonical(payload), 'roster')
  fields.literal('_type', 'roster')
  fields.literal('version', 1)
  const consortium = fields.digest('consortium')
  const version = fields.uint('rosterVersion', 2 ** 31, 1)
  const prev = fields.digest('prev')
  const members = fields.list('members', limit('members'), readMember, 1)
  const founders = members.filter(({ role, revoked }) => role === 'founder' && revoked === undefined)
  const threshold = fields.uint('threshold', Math.max(1, founders.length), 1)
  const issuedAt = fields.uint('issuedAt')
  const expiresAt = fields.uint('expiresAt', issuedAt + limit('rosterLifetime'), issuedAt)
  fields.end()
  if (founders.length === 0)
    throw new FormatError('bad-field', 'roster.members: expected at least one founder')
  if (new Set(members.map(({ peerId }) => peerId)).size !== members.length) {
    throw new FormatError('bad-field', 'roster.members: a peer id is listed twice')
  }
  const rules = founderRules(threshold)
  return { consortium, version, prev, members, rules, threshold, issuedAt, expiresAt }
}

/** Digest by which the next version names this one. */
export function rosterDigest(roster: Roster): Digest {
  const { version, consortium, threshold } = roster
  if (version === 1) return consortium
  if (threshold !== undefined) return digestOf(encodeRoster({ ...roster, threshold }))
  return digestOf(
    encodeCanonical({
      consortium,
      rosterVersion: version,
      prev: roster.prev,
      members: roster.members.map(writeMember),
      rules: writeRules(roster.rules),
      issuedAt: roster.issuedAt,
      expiresAt: roster.expiresAt,
    }),
  )
}

/**
 * Open the roster that follows `previous`.
 * @throws FormatError, also for a roster that drops or renames a member or takes back a part of a revocation;
 * VerificationError `wrong-consortium`, `replayed` (not the next version), `forked` (does not
 * follow `previous`), `unsigned` (too few signatures of founders of `previous`).
 */
export function openRoster(envelope: Uint8Array, previous: Roster): Roster {
  const { payload, signers } = openEnvelope(envelope, MEDIA_TYPES.roster)
  const roster = decodeRoster(payload)
  if (roster.consortium !== previous.consortium) {
    throw new VerificationError(
      'wrong-consortium',
      `roster: expected consortium ${previous.consortium}, got ${roster.consortium}`,
    )
  }
  if (roster.version !== previous.version + 1) {
    throw new VerificationError(
      'replayed',
      `roster: expected version ${previous.version + 1}, got ${roster.version}`,
    )
  }
  if (roster.prev !== rosterDigest(previous)) {
    throw new VerificationError('forked', `roster: version ${roster.version} does not follow ours`)
  }
  for (const member of previous.members) checkContinued(member, findMember(roster, member.peerId))
  const founders = new Set<PeerIdString>(
    previous.members
      .filter(({ role, revoked }) => role === 'founder' && revoked === undefined)
      .map(({ peerId }) => peerId),
  )
  const valid = signers.filter((peerId) => founders.has(peerId)).length
  if (previous.threshold === undefined || valid < previous.threshold) {
    throw new VerificationError(
      'unsigned',
      `roster: expected signatures of ${previous.threshold ?? 'no'} founders, got ${valid}`,
    )
  }
  return roster
}

/**
 * Nodes drop packages when a roster stops to cover them. If a later roster could cover them again, what a node uses
 * would depend on when it received which roster.
 */
function checkContinued(before: Member, now: Member | undefined): void {
  if (now === undefined || now.institution !== before.institution) {
    throw new FormatError('bad-field', `roster.members: ${before.institution} (${before.peerId}) is missing`)
  }
  const through = before.revoked?.validThroughSeq ?? Number.POSITIVE_INFINITY
  const isTakenBack =
    before.revoked !== undefined && (now.revoked?.validThroughSeq ?? Number.POSITIVE_INFINITY) > through
  if (isTakenBack) {
    throw new FormatError(
      'bad-field',
      `roster.members: the revocation of ${before.institution} after statement ${through} cannot be taken back`,
    )
  }
}

export function isMember(roster: Roster, peerId: PeerIdString): boolean {
  const member = findMember(roster, peerId)
  return member !== undefined && member.revoked === undefined
}

export function findMember(roster: Roster, peerId: PeerIdString): Member | undefined {
  return roster.members.find((member) => member.peerId === peerId)
}

/** Whether statement `seq` of a publisher is valid: any of a member, or an earlier one of a revoked member. */
export function mayPublish(roster: Roster, peerId: PeerIdString, seq: number): boolean {
  const member = findMember(roster, peerId)
  return member !== undefined && (member.revoked === undefined || seq <= member.revoked.validThroughSeq)
}

/**
 * Members after an admission. An institution whose key was revoked may return under its name with a new key.
 * @throws InputError `usage` if the roster is full; `exists` if the peer is listed, or the institution is a member under
 * another peer id.
 */
export function membersWith(
  { members }: Roster,
  { institution, peerId, joinedAt }: Omit<Member, 'role'>,
): Member[] {
  if (members.length >= limit('members')) {
    throw new InputError(
      'usage',
      `the roster lists ${limit('members')} members, revoked ones included, which is the most that it can hold`,
    )
  }
  const known = members.find((member) => member.peerId === peerId)
  if (known !== undefined) {
    throw new InputError(
      'exists',
      known.revoked === undefined
        ? `${institution} (${peerId}) is on the roster already`
        : `the key ${peerId} of ${institution} was revoked; it needs a new home folder with a new key`,
    )
  }
  if (members.some((member) => member.institution === institution && member.revoked === undefined)) {
    throw new InputError(
      'exists',
      `a member has the name ${institution} already; if it lost its key, first run ${ownCommand('revoke', institution)}`,
    )
  }
  return [...members, { institution, peerId, role: 'member', joinedAt }]
}

/**
 * Members after a revocation, or after one that lets fewer statements of a revoked member stay valid.
 * @throws InputError `not-found` for a peer that the roster does not list; `usage` for a higher `validThroughSeq` than
 * an earlier revocation has set.
 */
export function membersRevoking(
  roster: Roster,
  peerId: PeerIdString,
  revoked: NonNullable<Member['revoked']>,
): Member[] {
  const listed = findMember(roster, peerId)
  if (listed === undefined) throw new InputError('not-found', `${peerId} is not a member`)
  const before = listed.revoked?.validThroughSeq ?? Number.POSITIVE_INFINITY
  if (revoked.validThroughSeq > before) {
    throw new InputError(
      'usage',
      `${listed.institution} was revoked after statement ${before}; a revocation cannot be taken back`,
    )
  }
  return roster.members.map((member) => (member.peerId === peerId ? { ...member, revoked } : member))
}
