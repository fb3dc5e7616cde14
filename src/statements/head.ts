/**
 * Implements protocols/expert-package (v1.0.0), section "Head": a short-lived statement in which a publisher names its
 * latest statement, so that nobody can present an older one as the latest. Does not know the clock.
 */

import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import {
  NO_STATEMENT,
  openStatement,
  readDigestSet,
  readPeerId,
  readValidity,
  type SignerCheck,
} from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'

export interface Head {
  readonly consortium: Digest
  readonly publisher: PeerIdString
  /** Sequence number of the latest statement; 0 before the first. */
  readonly seq: number
  /** Digest of the latest statement; NO_STATEMENT before the first. */
  readonly last: Digest
  /** Digests of manifests that are not withdrawn, ascending. */
  readonly manifests: readonly Digest[]
  /** Digests of the latest withdrawals, ascending. The chain holds all withdrawals. */
  readonly withdrawals: readonly Digest[]
  readonly issuedAt: number
  readonly expiresAt: number
}

/** Sorts both lists. @throws FormatError for a value that `decodeHead` would refuse. */
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
    throw new FormatError('bad-field', 'head.last: expected zeros if and only if seq is 0')
  }
  if (head.manifests.length + head.withdrawals.length > head.seq) {
    throw new FormatError('bad-field', `head: names more statements than its seq ${head.seq}`)
  }
  return head
}

/**
 * Open an envelope that has one signature, by a key that may sign for the publisher.
 * @throws FormatError, VerificationError.
 */
export function openHead(
  envelope: Uint8Array,
  check?: SignerCheck,
): { head: Head; id: Digest; signer: PeerIdString } {
  const { value, id, signer } = openStatement(envelope, MEDIA_TYPES.head, decodeHead, check)
  return { head: value, id, signer }
}
