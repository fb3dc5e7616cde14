/**
 * Cosignatures of C2SP tlog-cosignature v1.0.0 with Ed25519 (type 0x04): a witness states that at a time, a checkpoint
 * was the largest that it had seen of a log and consistent with all before. Does not know which witnesses count.
 */
import { SIGNATURE_BYTES, sign, verifyStrict } from '../identity/ed25519.ts'
import type { Identity } from '../identity/keys.ts'
import { concatBytes, utf8 } from '../lib/bytes.ts'
import {
  badSignature,
  COSIGNATURE,
  keyIdOf,
  linesOf,
  type NoteSignature,
  type SignedNote,
  type VerifierKey,
} from './note.ts'

const TIME_BYTES = 8

/**
 * @param text text of the checkpoint
 * @param time Unix seconds
 */
export function cosign(name: string, witness: Identity, text: string, time: number): NoteSignature {
  const keyId = keyIdOf({ name, type: COSIGNATURE, publicKey: witness.publicKey })
  const stamp = new Uint8Array(TIME_BYTES)
  new DataView(stamp.buffer).setBigUint64(0, BigInt(time))
  return { name, keyId, signature: concatBytes(stamp, sign(witness.secretKey, signedMessage(text, time))) }
}

/** The bytes that a witness signs. */
function signedMessage(text: string, time: number): Uint8Array {
  return utf8(`cosignature/v1\ntime ${time}\n${text}`)
}

/** Time of a cosignature, Unix seconds; undefined for a line of another length or a time above 2^53. */
export function timeOf({ signature }: NoteSignature): number | undefined {
  if (signature.length !== TIME_BYTES + SIGNATURE_BYTES) return undefined
  const time = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0)
  return time <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(time) : undefined
}

/**
 * Time of the latest cosignature of a witness on a note, Unix seconds; undefined without one.
 * @throws VerificationError `bad-signature` if a line of the witness does not verify.
 */
export function cosignedAt({ text, signatures }: SignedNote, witness: VerifierKey): number | undefined {
  let latest: number | undefined
  for (const line of linesOf(signatures, witness)) {
    const time = timeOf(line)
    const isValid =
      time !== undefined &&
      verifyStrict(witness.publicKey, signedMessage(text, time), line.signature.subarray(TIME_BYTES))
    if (!isValid) throw badSignature(witness)
    latest = Math.max(latest ?? 0, time)
  }
  return latest
}
