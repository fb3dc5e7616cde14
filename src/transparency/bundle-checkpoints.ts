/**
 * The checkpoints of one log in an audit bundle: their form, who has signed them, and the proofs that lead to them. Does not
 * know which members have to cosign.
 */
import type { KeyHistory } from '../consortium/key-history.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { type Digest, fromBase64, utf8 } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import type { RecordOf } from './bundle.ts'
import { type Checkpoint, decodeCheckpoint, originOf } from './checkpoint.ts'
import { logLineOf } from './log-key.ts'
import { verifyConsistency, verifyInclusion } from './merkle.ts'
import { decodeNote, type SignedNote } from './note.ts'

export interface OpenedCheckpoint {
  readonly checkpoint: Checkpoint
  readonly note: SignedNote
}

/** @throws VerificationError if the note is not a checkpoint of the log. */
export function openCheckpoint(
  consortium: Digest,
  publisher: PeerIdString,
  text: string | undefined,
): OpenedCheckpoint | undefined {
  if (text === undefined) return undefined
  const note = decodeNote(utf8(text))
  const checkpoint = decodeCheckpoint(note.text)
  if (checkpoint.origin === originOf(consortium, publisher)) return { checkpoint, note }
  throw new VerificationError('wrong-signer', `bundle: a checkpoint of ${checkpoint.origin} in another log`)
}

/** @throws VerificationError `unsigned`, `bad-signature` unless a key that ruled the seat at this place has signed. */
export function checkSigned(
  consortium: Digest,
  publisher: PeerIdString,
  history: KeyHistory,
  opened: OpenedCheckpoint | undefined,
): void {
  if (opened === undefined) return
  const { checkpoint, note } = opened
  if (logLineOf(note, { consortium, publisher, history, size: checkpoint.size }) !== undefined) return
  throw new VerificationError(
    'unsigned',
    `bundle: no key that ruled the seat ${publisher} has signed its checkpoint of ${checkpoint.size} statements`,
  )
}

/** A statement that the latest checkpoint covers has a proof, and no other one has. @throws VerificationError `bad-proof`. */
export function checkInclusion(
  publisher: PeerIdString,
  { index, leaf, proof }: { index: number; leaf: Uint8Array; proof: readonly string[] | undefined },
  latest: Checkpoint | undefined,
): void {
  const isCovered = latest !== undefined && index < latest.size
  const hashes = proof?.map(fromBase64)
  const isProved =
    isCovered &&
    hashes !== undefined &&
    verifyInclusion({ index, size: latest.size, leaf, root: latest.root, proof: hashes })
  if (isCovered ? isProved : proof === undefined) return
  throw new VerificationError('bad-proof', `bundle: statement ${index + 1} of ${publisher} is not proved`)
}

/** The final checkpoint is an earlier state of the latest one. @throws VerificationError `bad-proof`. */
export function checkConsistency(
  { publisher, consistency }: RecordOf<'log'>,
  latest: Checkpoint | undefined,
  final: Checkpoint | undefined,
): void {
  const isNeeded = latest !== undefined && final !== undefined && final.size > 0
  const isProved =
    isNeeded &&
    consistency !== undefined &&
    verifyConsistency({
      oldSize: final.size,
      size: latest.size,
      oldRoot: final.root,
      root: latest.root,
      proof: consistency.map(fromBase64),
    })
  if (isNeeded ? isProved : consistency === undefined && (final === undefined || latest !== undefined)) return
  throw new VerificationError('bad-proof', `bundle: the checkpoints of ${publisher} are not consistent`)
}
