/**
 * Implements protocols/expert-package (v1.0.0), section "Head": a publisher's short-lived word on
 * what is its latest statement, so that old ones cannot be passed off as new. Knows no clock.
 */

import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { NO_STATEMENT, openStatement, readDigestSet, readPeerId, readValidity } from './statement.ts'

export interface Head {
  readonly consortium: Digest
  readonly publisher: PeerIdString
  /** Of the latest statement; 0 when there is none yet. */
  readonly seq: number
  /** Digest of the latest statement; NO_STATEMENT when there is none yet. */
  readonly last: Digest
  /** Manifests that stand, ascending. */
  readonly manifests: readonly Digest[]
  /** The latest withdrawals, ascending; all of them are in the chain. */
  readonly withdrawals: readonly Digest[]
  readonly issuedAt: number
  readonly expiresAt: number
}

/** Sorts both lists. @throws FormatError when the value is one that `decodeHead` would refuse. */
export function encodeHead(head: Head): Uint8Array {
  const bytes = encodeCanonical({
    ...head,
    manifests: [...head.manifests].sort(),
    withdrawals: [...head.withdrawals].sort(),
  })
  decodeHead(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`. */
export function decodeHead(bytes: Uint8Array): Head {
  const fields = new Fields(decodeCanonical(bytes, limit('announcementBytes')), 'head')
  const head: Head = {
    consortium: fields.digest('consortium'),
    publisher: readPeerId(fields, 'publisher'),
    seq: fields.uint('seq'),
    last: fields.digest('last'),
    manifests: readDigestSet(fields, 'manifests', 'head'),
    withdrawals: readDigestSet(fields, 'withdrawals', 'head'),
    ...readValidity(fields, 'head', limit('headLifetime')),
  }
  fields.end()
  if ((head.seq === 0) !== (head.last === NO_STATEMENT)) {
    throw new FormatError('bad-field', 'head.last: expected zeros with seq 0 and with no other')
  }
  if (head.manifests.length + head.withdrawals.length > head.seq) {
    throw new FormatError('bad-field', `head: names more statements than its seq ${head.seq}`)
  }
  return head
}

/**
 * Open an envelope that exactly the publisher signed.
 * @throws FormatError, VerificationError.
 */
export function openHead(envelope: Uint8Array): { head: Head; id: Digest; signer: PeerIdString } {
  const { value, id, signer } = openStatement(envelope, MEDIA_TYPES.head, decodeHead)
  return { head: value, id, signer }
}
