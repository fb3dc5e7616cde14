/**
 * Implements protocols/expert-package (v1.0.0), section "Withdrawal": a publisher withdraws packages, which cannot be
 * undone. It has a reason from a fixed list and no free text, because it is kept forever.
 */

import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import {
  type ChainLink,
  openStatement,
  readChainLink,
  readDigestSet,
  type SignerCheck,
} from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { Fields } from '../lib/fields.ts'

const WITHDRAWAL_REASONS = ['owner-request', 'superseded', 'error'] as const

/** Why packages are withdrawn: the owner's reason, or a decision of a quorum of the members for the owner. */
export type WithdrawalReason = Withdrawal['reason'] | 'quorum'

export interface Withdrawal extends ChainLink {
  readonly consortium: Digest
  /** Ids of the withdrawn packages, ascending, at least one. */
  readonly manifests: readonly Digest[]
  readonly reason: (typeof WITHDRAWAL_REASONS)[number]
  /** Unix seconds. A withdrawal does not expire. */
  readonly issuedAt: number
}

/** Sorts the list. @throws FormatError for a value that `decodeWithdrawal` would refuse. */
export function encodeWithdrawal(withdrawal: Withdrawal): Uint8Array {
  const bytes = encodeCanonical({ ...withdrawal, manifests: [...withdrawal.manifests].sort() })
  decodeWithdrawal(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`. */
export function decodeWithdrawal(bytes: Uint8Array): Withdrawal {
  const fields = new Fields(decodeCanonical(bytes), 'withdrawal')
  const withdrawal: Withdrawal = {
    ...readChainLink(fields, 'withdrawal'),
    consortium: fields.digest('consortium'),
    manifests: readDigestSet(fields, 'manifests', 'withdrawal', 1),
    reason: fields.literal('reason', ...WITHDRAWAL_REASONS),
    issuedAt: fields.uint('issuedAt'),
  }
  fields.end()
  return withdrawal
}

/**
 * Open an envelope that has one signature, by a key that may sign for the publisher.
 * @throws FormatError, VerificationError.
 */
export function openWithdrawal(
  envelope: Uint8Array,
  check?: SignerCheck,
): {
  withdrawal: Withdrawal
  id: Digest
  signer: PeerIdString
} {
  const { value, id, signer } = openStatement(envelope, MEDIA_TYPES.withdrawal, decodeWithdrawal, check)
  return { withdrawal: value, id, signer }
}
