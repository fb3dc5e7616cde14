/**
 * The key that signs the checkpoints of a member's log: the key that signs its statements, under the origin of the log.
 * A note never begins like the bytes that a statement signs, so neither signature is valid for the other.
 */
import { type PeerIdString, publicKeyFromPeerId } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { originOf } from './checkpoint.ts'
import { ED25519, type VerifierKey } from './note.ts'

export function logKeyOf(consortium: Digest, publisher: PeerIdString): VerifierKey {
  return { name: originOf(consortium, publisher), type: ED25519, publicKey: publicKeyFromPeerId(publisher) }
}
