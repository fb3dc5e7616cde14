/**
 * The statement with which a member leaves the consortium, which needs nobody's consent. Implements
 * protocols/consortium-charter, section "Leave".
 */
import { type Chained, readChainLink } from '../identity/statement.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { Fields } from '../lib/fields.ts'

export interface Leave extends Chained {
  /** Version of the roster that the publisher knew. */
  readonly rosterVersion: number
  /** Statements with a sequence number up to this one stay valid; at most that of the leave itself. */
  readonly validThroughSeq: number
}

const MAX_VERSION = 2 ** 31

/** @throws FormatError for a value that `decodeLeave` would refuse. */
export function encodeLeave(leave: Leave): Uint8Array {
  const bytes = encodeCanonical({ ...leave })
  decodeLeave(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`. */
export function decodeLeave(bytes: Uint8Array): Leave {
  const fields = new Fields(decodeCanonical(bytes), 'leave')
  const link = readChainLink(fields, 'leave')
  const leave: Leave = {
    ...link,
    consortium: fields.digest('consortium'),
    rosterVersion: fields.uint('rosterVersion', MAX_VERSION, 1),
    validThroughSeq: fields.uint('validThroughSeq', link.seq),
    issuedAt: fields.uint('issuedAt'),
  }
  fields.end()
  return leave
}
