/**
 * The keys that sign the checkpoints of a seat's log: those that sign its statements, under the origin of the log. A note
 * never begins like the bytes that a statement signs, so neither signature is valid for the other.
 */
import type { KeyHistory } from '../consortium/key-history.ts'
import { type PeerIdString, publicKeyFromPeerId } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { originOf } from './checkpoint.ts'
import {
  ED25519,
  isSignedBy,
  linesOf,
  type NoteSignature,
  type SignedNote,
  type VerifierKey,
} from './note.ts'

/** A log, its keys and the number of its statements that a checkpoint covers. */
export interface CheckpointPlace {
  readonly consortium: Digest
  /** The seat whose log it is. */
  readonly publisher: PeerIdString
  readonly history: KeyHistory
  readonly size: number
}

/** @param signer a key of the seat; default: its first one, which is its id */
export function logKeyOf(consortium: Digest, publisher: PeerIdString, signer = publisher): VerifierKey {
  return { name: originOf(consortium, publisher), type: ED25519, publicKey: publicKeyFromPeerId(signer) }
}

/**
 * The keys that may sign a checkpoint: those that may sign the statement after the last one that it covers.
 * @param now Unix seconds: without node keys that have ended; default: with them, because a checkpoint states no time
 */
export function logKeysOf(place: CheckpointPlace, now = 0): VerifierKey[] {
  const { consortium, publisher, history, size } = place
  const { key, node } = history.before(size + 1)
  const isNodeIn = node !== undefined && node.expiresAt + limit('clockSkew') >= now
  return (isNodeIn ? [key, node.key] : [key]).map((signer) => logKeyOf(consortium, publisher, signer))
}

/**
 * The line with which the log has signed a note; undefined if no key that may sign it has.
 * @throws VerificationError `bad-signature` if a line of such a key does not verify.
 */
export function logLineOf(note: SignedNote, place: CheckpointPlace): NoteSignature | undefined {
  const signers = logKeysOf(place).filter((key) => isSignedBy(note, key))
  return signers.flatMap((key) => linesOf(note.signatures, key))[0]
}

/** Whether one of some keys has signed a note. Lines that do not verify count for nobody. */
export function isSignedByAny(note: SignedNote, keys: readonly VerifierKey[]): boolean {
  return keys.some((key) => {
    try {
      return isSignedBy(note, key)
    } catch (error) {
      if (error instanceof VerificationError) return false
      throw error
    }
  })
}
