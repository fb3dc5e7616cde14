/**
 * A proposal: a member proposes a change of the consortium. Implements protocols/consortium-charter, section "Proposal".
 * Does not count support.
 */
import { type Chained, readChainLink, readValidity } from '../identity/statement.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { type ProposedChange, readChange, writeChange } from './change.ts'

export interface Proposal extends Chained {
  /** Version of the roster that the publisher knew. */
  readonly rosterVersion: number
  readonly change: ProposedChange
  /** Support that was signed later than this does not count. Unix seconds. */
  readonly expiresAt: number
}

const MAX_VERSION = 2 ** 31

/** @throws FormatError for a value that `decodeProposal` would refuse. */
export function encodeProposal(proposal: Proposal): Uint8Array {
  const bytes = encodeCanonical({ ...proposal, change: writeChange(proposal.change) })
  decodeProposal(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`; VerificationError `weak-key`. */
export function decodeProposal(bytes: Uint8Array): Proposal {
  const fields = new Fields(decodeCanonical(bytes), 'proposal')
  const proposal: Proposal = {
    ...readChainLink(fields, 'proposal'),
    consortium: fields.digest('consortium'),
    rosterVersion: fields.uint('rosterVersion', MAX_VERSION, 1),
    change: readChange(fields.object('change')),
    ...readValidity(fields, 'proposal', limit('proposalLifetime')),
  }
  fields.end()
  return proposal
}
