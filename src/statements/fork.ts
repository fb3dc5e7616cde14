/**
 * The proof that a publisher has forked: two envelopes that it signed and that state different digests for one place of
 * its log. Implements protocols/package-exchange, section "Forks": how a proof is encoded. Does not verify it: see
 * packaging/fork-proof.ts.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { encodeCbor } from '../lib/cbor.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'

/** Envelopes of two statements, of a statement and a head, or of two heads. */
export type ForkEnvelopes = readonly [Uint8Array, Uint8Array]

/** A proof whose signatures were verified. */
export interface Fork {
  readonly publisher: PeerIdString
  readonly envelopes: ForkEnvelopes
}

export function encodeFork(envelopes: ForkEnvelopes): Uint8Array {
  return encodeCbor(forkFrame(envelopes))
}

/** The frame in which a proof travels. */
export function forkFrame(envelopes: ForkEnvelopes): { fork: Uint8Array[] } {
  return { fork: [...envelopes] }
}

/** @throws FormatError `bad-field`. */
export function decodeForkFrame(value: unknown): ForkEnvelopes {
  const fields = new Fields(value, 'fork')
  const read = (item: unknown, title: string): Uint8Array => {
    if (item instanceof Uint8Array && item.length <= limit('envelopeBytes')) return item
    throw new FormatError('bad-field', `${title}: expected at most ${limit('envelopeBytes')} bytes`)
  }
  const [first, second] = fields.list('fork', 2, read, 2)
  fields.end()
  return [first as Uint8Array, second as Uint8Array]
}
