/**
 * The answer of a member to a proposal. Implements protocols/consortium-charter, section "Endorsement". Does not count
 * answers.
 */
import { type Chained, readChainLink } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { Fields } from '../lib/fields.ts'

const ANSWERS = ['endorse', 'reject'] as const
export type Answer = (typeof ANSWERS)[number]

export interface Endorsement extends Chained {
  /** Version of the roster that the publisher knew. */
  readonly rosterVersion: number
  /** Digest of the proposal's payload. */
  readonly proposal: Digest
  readonly answer: Answer
}

const MAX_VERSION = 2 ** 31

/** @throws FormatError for a value that `decodeEndorsement` would refuse. */
export function encodeEndorsement(endorsement: Endorsement): Uint8Array {
  const bytes = encodeCanonical({ ...endorsement })
  decodeEndorsement(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`. */
export function decodeEndorsement(bytes: Uint8Array): Endorsement {
  const fields = new Fields(decodeCanonical(bytes), 'endorsement')
  const endorsement: Endorsement = {
    ...readChainLink(fields, 'endorsement'),
    consortium: fields.digest('consortium'),
    rosterVersion: fields.uint('rosterVersion', MAX_VERSION, 1),
    proposal: fields.digest('proposal'),
    answer: fields.literal('answer', ...ANSWERS),
    issuedAt: fields.uint('issuedAt'),
  }
  fields.end()
  return endorsement
}
