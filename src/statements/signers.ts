/**
 * Which scope a node key needs for each kind of statement, and the check that follows from it and from the histories of
 * keys. Implements protocols/consortium-charter, section "Keys". Verifies no signatures.
 */
import type { NodeScope } from '../consortium/key-history.ts'
import type { SeatKeys } from '../consortium/seat-keys.ts'
import { MEDIA_TYPES, type MediaType } from '../identity/media-types.ts'
import type { SignerCheck } from '../identity/statement.ts'
import { VerificationError } from '../lib/errors.ts'

export const SCOPES: Readonly<Record<MediaType, NodeScope | 'any' | 'institution'>> = {
  [MEDIA_TYPES.charter]: 'institution',
  [MEDIA_TYPES.charter2]: 'institution',
  [MEDIA_TYPES.roster]: 'institution',
  [MEDIA_TYPES.manifest]: 'packages',
  [MEDIA_TYPES.head]: 'any',
  [MEDIA_TYPES.keys]: 'institution',
  [MEDIA_TYPES.withdrawal]: 'packages',
  [MEDIA_TYPES.receipt]: 'packages',
  [MEDIA_TYPES.proposal]: 'governance',
  [MEDIA_TYPES.endorsement]: 'governance',
  [MEDIA_TYPES.leave]: 'governance',
  [MEDIA_TYPES.witnessKey]: 'witness',
  [MEDIA_TYPES.auditBundle]: 'any',
  [MEDIA_TYPES.egressHead]: 'any',
  [MEDIA_TYPES.egressSummary]: 'any',
  [MEDIA_TYPES.verdict]: 'packages',
  [MEDIA_TYPES.membershipRequest]: 'institution',
}

/**
 * The check of signers against the histories of keys.
 * @param lastSeq number of the last statement of a seat that is known, 0 if none is
 */
export function signerCheck(keys: SeatKeys, lastSeq: (seat: string) => number): SignerCheck {
  return ({ publisher, seq = Number.POSITIVE_INFINITY, issuedAt, type, signer }) => {
    const history = keys.historyOf(publisher)
    // A head names the latest statement, and is signed by a key that may sign the next one.
    const at = type === MEDIA_TYPES.head ? seq + 1 : seq
    const scope = SCOPES[type]
    try {
      history.checkSigner({ seq: at, signer, issuedAt, scope })
    } catch (error) {
      // The statement that names its signer may be among those that are missing.
      if (at <= lastSeq(publisher) + 1 || at === Number.POSITIVE_INFINITY) throw error
      throw new VerificationError('replayed', `statement ${seq} arrived before its predecessors`, {}, error)
    }
  }
}
