/**
 * Opens a signed statement of any kind: one look at its type, one verification of its signature. Whoever has an
 * opened statement need not verify it again. Knows nothing about logs and rosters.
 */
import { readEnvelope } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { SignerCheck } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import { type Head, openHead } from '../statements/head.ts'
import { openWithdrawal, type Withdrawal } from '../statements/withdrawal.ts'
import { type ChainedStatement, openChained } from './chained-kinds.ts'
import { type Manifest, openManifest } from './manifest.ts'

export interface ManifestStatement {
  readonly kind: 'manifest'
  readonly manifest: Manifest
  /** Package id: digest of the payload. */
  readonly id: Digest
  readonly envelope: Uint8Array
}

export interface WithdrawalStatement {
  readonly kind: 'withdrawal'
  readonly withdrawal: Withdrawal
  readonly id: Digest
  readonly envelope: Uint8Array
}

/** A roster is verified against the one before it, which only the membership knows. */
export interface RosterStatement {
  readonly kind: 'roster'
  readonly envelope: Uint8Array
}

/** A head belongs to no log, but may prove that its publisher has forked. */
export interface HeadStatement {
  readonly kind: 'head'
  readonly head: Head
  readonly envelope: Uint8Array
}

/** A statement of a kind in the table of chained-kinds.ts. */
export interface FurtherStatement {
  readonly kind: 'chained'
  readonly statement: ChainedStatement
}

export type OpenedStatement =
  | ManifestStatement
  | WithdrawalStatement
  | RosterStatement
  | HeadStatement
  | FurtherStatement

/**
 * @param check whether the signer may sign for the publisher; default: only the publisher's own key may
 * @throws FormatError; VerificationError, `wrong-type` for what members do not exchange as statements.
 */
export function openStatementOfAnyKind(envelope: Uint8Array, check?: SignerCheck): OpenedStatement {
  const { payloadType } = readEnvelope(envelope)
  switch (payloadType) {
    case MEDIA_TYPES.manifest:
      return { kind: 'manifest', ...openManifest(envelope, check), envelope }
    case MEDIA_TYPES.withdrawal:
      return { kind: 'withdrawal', ...openWithdrawal(envelope, check), envelope }
    case MEDIA_TYPES.roster:
      return { kind: 'roster', envelope }
    case MEDIA_TYPES.head:
      return { kind: 'head', head: openHead(envelope, check).head, envelope }
    default: {
      const statement = openChained(payloadType, envelope, check)
      if (statement !== undefined) return { kind: 'chained', statement }
      throw new VerificationError('wrong-type', `no statement has the type ${payloadType}`)
    }
  }
}
