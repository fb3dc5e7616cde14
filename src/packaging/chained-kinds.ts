/**
 * The table of the kinds of statements that belong to their publisher's chain, besides manifests and withdrawals. A new
 * kind is a media type, a codec, one row here, and one row in pipeline/chained-effects.ts, which says what a node does
 * with a statement of this kind. Opening, logging, sending and proofs of forks work for all kinds in the same way.
 */
import { decodeEndorsement, type Endorsement, encodeEndorsement } from '../consortium/endorsement.ts'
import { decodeKeys, encodeKeys, type KeysStatement, openKeys } from '../consortium/keys-statement.ts'
import { decodeLeave, encodeLeave, type Leave } from '../consortium/leave.ts'
import { decodeProposal, encodeProposal, type Proposal } from '../consortium/proposal.ts'
import { MEDIA_TYPES, type MediaType } from '../identity/media-types.ts'
import { type Chained, openStatement, type SignerCheck } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeReceipt, encodeReceipt, type Receipt } from '../statements/receipt.ts'

interface ChainedKind<T extends Chained> {
  readonly mediaType: MediaType
  /** @throws FormatError for a value that `decode` would refuse. */
  readonly encode: (value: T) => Uint8Array
  /** @throws FormatError, VerificationError. */
  readonly decode: (payload: Uint8Array) => T
  /** Present if other keys sign than those of the publisher's seat. @throws FormatError, VerificationError. */
  readonly open?: (envelope: Uint8Array) => { readonly value: T; readonly id: Digest }
}

/** The value of each kind. */
export interface ChainedValues {
  readonly proposal: Proposal
  readonly endorsement: Endorsement
  readonly leave: Leave
  readonly receipt: Receipt
  readonly keys: KeysStatement
}
export type ChainedKindName = keyof ChainedValues

export const CHAINED_KINDS: { readonly [K in ChainedKindName]: ChainedKind<ChainedValues[K]> } = {
  proposal: { mediaType: MEDIA_TYPES.proposal, encode: encodeProposal, decode: decodeProposal },
  endorsement: { mediaType: MEDIA_TYPES.endorsement, encode: encodeEndorsement, decode: decodeEndorsement },
  leave: { mediaType: MEDIA_TYPES.leave, encode: encodeLeave, decode: decodeLeave },
  receipt: { mediaType: MEDIA_TYPES.receipt, encode: encodeReceipt, decode: decodeReceipt },
  keys: { mediaType: MEDIA_TYPES.keys, encode: encodeKeys, decode: decodeKeys, open: openKeys },
}

const KINDS = Object.keys(CHAINED_KINDS) as ChainedKindName[]

/** A statement of one of these kinds whose signature was verified. */
export interface ChainedStatement<K extends ChainedKindName = ChainedKindName> {
  readonly kind: K
  readonly value: ChainedValues[K]
  /** Digest of the payload. */
  readonly id: Digest
  readonly envelope: Uint8Array
}

/**
 * Open an envelope of a kind in this table.
 * @param check whether the signer may sign for the publisher; default: only the publisher's own key may
 * @returns undefined if its payload type is of another kind. @throws FormatError, VerificationError.
 */
export function openChained(
  payloadType: string,
  envelope: Uint8Array,
  check?: SignerCheck,
): ChainedStatement | undefined {
  const kind = kindOf(payloadType)
  return kind === undefined ? undefined : openOf(kind, envelope, check)
}

/**
 * Read a statement from a log, whose signature was verified before it was logged.
 * @returns undefined if its payload type is of another kind. @throws FormatError, VerificationError.
 */
export function readLoggedChained(
  payloadType: string,
  payload: Uint8Array,
  { id, envelope }: Pick<ChainedStatement, 'id' | 'envelope'>,
): ChainedStatement | undefined {
  const kind = kindOf(payloadType)
  return kind === undefined ? undefined : { kind, value: CHAINED_KINDS[kind].decode(payload), id, envelope }
}

function kindOf(payloadType: string): ChainedKindName | undefined {
  return KINDS.find((kind) => CHAINED_KINDS[kind].mediaType === payloadType)
}

function openOf<K extends ChainedKindName>(
  kind: K,
  envelope: Uint8Array,
  check: SignerCheck | undefined,
): ChainedStatement<K> {
  const { mediaType, decode, open } = CHAINED_KINDS[kind]
  const { value, id } =
    open?.(envelope) ?? openStatement<ChainedValues[K]>(envelope, mediaType, decode, check)
  return { kind, value, id, envelope }
}
