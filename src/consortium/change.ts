/**
 * A change of the consortium that a proposal names. Implements protocols/consortium-charter, section "Proposal". Does
 * not know who supports a change, and applies none.
 */
import { type PeerIdString, publicKeyFromPeerId } from '../identity/keys.ts'
import { readDigestSet } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { encodeCanonical, type JsonObject } from '../lib/canonical-json.ts'
import type { Fields } from '../lib/fields.ts'
import { REVOCATION_REASONS, type RevocationReason, readInstitution } from './member.ts'
import { CHANGE_KINDS, type Rules, readRules, writeRules } from './rules.ts'

export type ProposedChange =
  | {
      readonly kind: 'admit'
      readonly institution: string
      /** First key of the institution, and the id of its seat from then on. */
      readonly peerId: PeerIdString
      /** Digest of the institution's next key; absent if it has committed itself to none. */
      readonly next?: Digest
    }
  | {
      readonly kind: 'revoke'
      /** Peer id under which the member was admitted. */
      readonly seat: PeerIdString
      readonly reason: RevocationReason
      /** Statements with a sequence number up to this one stay valid. */
      readonly validThroughSeq: number
    }
  | {
      readonly kind: 'rotate'
      readonly seat: PeerIdString
      /** The institution's new key. */
      readonly key: PeerIdString
      /** Digest of the key after that. */
      readonly next: Digest
    }
  | { readonly kind: 'rules'; readonly rules: Rules }
  | { readonly kind: 'renew' }
  | {
      readonly kind: 'withdraw'
      /** Publisher of the packages. */
      readonly seat: PeerIdString
      /** Package ids, ascending, at least one. */
      readonly manifests: readonly Digest[]
    }

/** @throws FormatError `bad-field`; VerificationError `weak-key`. */
export function readChange(value: Fields): ProposedChange {
  const title = 'proposal.change'
  const change = readBody(value, title)
  value.end()
  return change
}

function readBody(fields: Fields, title: string): ProposedChange {
  const kind = fields.literal('kind', ...CHANGE_KINDS)
  switch (kind) {
    case 'admit': {
      const institution = readInstitution(fields, title)
      const peerId = readKey(fields, 'peerId')
      return {
        kind,
        institution,
        peerId,
        ...(fields.has('next') ? { next: fields.digest('next') } : {}),
      }
    }
    case 'revoke':
      return {
        kind,
        seat: readKey(fields, 'seat'),
        reason: fields.literal('reason', ...REVOCATION_REASONS),
        validThroughSeq: fields.uint('validThroughSeq'),
      }
    case 'rotate':
      return {
        kind,
        seat: readKey(fields, 'seat'),
        key: readKey(fields, 'key'),
        next: fields.digest('next'),
      }
    case 'rules':
      return { kind, rules: readRules(fields.object('rules'), `${title}.rules`) }
    case 'renew':
      return { kind }
    case 'withdraw':
      return { kind, seat: readKey(fields, 'seat'), manifests: readDigestSet(fields, 'manifests', title, 1) }
  }
}

function readKey(fields: Fields, name: string): PeerIdString {
  const peerId = fields.text(name, 64)
  publicKeyFromPeerId(peerId)
  return peerId
}

export function writeChange(change: ProposedChange): JsonObject {
  switch (change.kind) {
    case 'rules':
      return { kind: 'rules', rules: writeRules(change.rules) }
    case 'withdraw':
      return { ...change, manifests: [...change.manifests].sort() }
    default:
      return { ...change }
  }
}

/** Whether two changes are the same in every field. */
export function isSameChange(a: ProposedChange, b: ProposedChange): boolean {
  return Buffer.compare(encodeCanonical(writeChange(a)), encodeCanonical(writeChange(b))) === 0
}

/**
 * What a change is about. Two different changes that are about the same thing contradict each other; undefined for a
 * change that contradicts none.
 */
export function subjectOf(change: ProposedChange): string | undefined {
  switch (change.kind) {
    case 'admit':
      return `institution ${change.institution}`
    case 'revoke':
    case 'rotate':
      return `seat ${change.seat}`
    case 'rules':
      return 'rules'
    case 'renew':
    case 'withdraw':
      return undefined
  }
}
