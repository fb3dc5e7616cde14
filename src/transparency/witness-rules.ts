/**
 * The rules by which a witness cosigns a checkpoint, and the bytes of the request: C2SP tlog-witness v1.0.0,
 * add-checkpoint. Pure: the caller keeps the record of what was cosigned, and writes it to disk before it answers.
 */
import { equalBytes, fromBase64, fromUtf8, toBase64, utf8 } from '../lib/bytes.ts'
import { FlexMeshError, FormatError } from '../lib/errors.ts'
import { type Checkpoint, decodeCheckpoint, decodeSize } from './checkpoint.ts'
import { EMPTY_ROOT, HASH_BYTES, MAX_PROOF_HASHES, verifyConsistency } from './merkle.ts'
import { decodeNote, encodeNote, isSignedBy, type SignedNote, type VerifierKey } from './note.ts'

/** The meanings that HTTP gives to these numbers; tlog-witness defines when each is used. */
export const STATUS = {
  cosigned: 200,
  malformed: 400,
  forbidden: 403,
  unknownLog: 404,
  conflict: 409,
  inconsistent: 422,
} as const
export type WitnessStatus = (typeof STATUS)[keyof typeof STATUS]

export interface AddCheckpoint {
  /** Size of the checkpoint that the witness cosigned last, as the asking side believes. */
  readonly oldSize: number
  /** Consistency proof from `oldSize` to the size of the checkpoint. */
  readonly proof: readonly Uint8Array[]
  readonly note: SignedNote
}

/** `old N`, one line for each hash, an empty line, the note. */
export function encodeAddCheckpoint({ oldSize, proof, note }: AddCheckpoint): Uint8Array {
  const lines = [`old ${oldSize}`, ...proof.map(toBase64), '', fromUtf8(encodeNote(note))]
  return utf8(lines.join('\n'))
}

/** @throws FormatError `bad-field`, `too-large`. */
export function decodeAddCheckpoint(bytes: Uint8Array): AddCheckpoint {
  const text = fromUtf8(bytes)
  const end = text.indexOf('\n\n')
  const [first = '', ...hashes] = text.slice(0, Math.max(0, end)).split('\n')
  const oldSize = first.startsWith('old ') ? decodeSize(first.slice('old '.length)) : undefined
  if (oldSize === undefined) throw badField('"old N" in line 1', first)
  if (hashes.length > MAX_PROOF_HASHES) throw badField(`at most ${MAX_PROOF_HASHES} hashes`, 'more')
  const proof = hashes.map((line) => {
    const hash = fromBase64(line)
    if (hash.length !== HASH_BYTES) throw badField('a hash of 32 bytes', line)
    return hash
  })
  return { oldSize, proof, note: decodeNote(utf8(text.slice(end + 2))) }
}

function badField(expected: string, got: string): FormatError {
  return new FormatError('bad-field', `add-checkpoint: expected ${expected}, got "${got.slice(0, 80)}"`)
}

/** What a witness has cosigned last of a log; size 0 before the first time. */
export interface Witnessed {
  readonly size: number
  readonly root: Uint8Array
}

export type WitnessDecision =
  /** Write this down, then cosign. */
  | { readonly status: typeof STATUS.cosigned; readonly checkpoint: Checkpoint; readonly note: SignedNote }
  | { readonly status: typeof STATUS.conflict; readonly size: number }
  | {
      readonly status: Exclude<WitnessStatus, typeof STATUS.cosigned | typeof STATUS.conflict>
      readonly reason: string
    }

/** What the rules need to know about the log that a checkpoint names. */
export interface KnownLog {
  /** Keys of which one must have signed. */
  readonly keys: readonly VerifierKey[]
  readonly last: Witnessed
}

/**
 * Decide whether to cosign. Checks in the order of tlog-witness. Never throws.
 * @param find the log that a checkpoint names; undefined if this witness does not know it
 */
export async function decideCheckpoint(
  body: Uint8Array,
  find: (checkpoint: Checkpoint) => Promise<KnownLog | undefined>,
): Promise<WitnessDecision> {
  let request: AddCheckpoint
  let checkpoint: Checkpoint
  try {
    request = decodeAddCheckpoint(body)
    checkpoint = decodeCheckpoint(request.note.text)
  } catch (error) {
    if (!(error instanceof FlexMeshError)) throw error
    return { status: STATUS.malformed, reason: error.message }
  }
  const log = await find(checkpoint)
  if (log === undefined) return { status: STATUS.unknownLog, reason: `no log ${checkpoint.origin}` }
  if (!isTrusted(request.note, log.keys)) {
    return { status: STATUS.forbidden, reason: 'no valid signature of the log' }
  }
  const { oldSize, proof } = request
  const { size, root } = checkpoint
  if (oldSize > size) return { status: STATUS.malformed, reason: `old size ${oldSize} is above ${size}` }
  if (oldSize !== log.last.size) return { status: STATUS.conflict, size: log.last.size }
  if (size === 0 && !equalBytes(root, EMPTY_ROOT)) {
    return { status: STATUS.inconsistent, reason: 'not the root of the empty tree' }
  }
  const isConsistent =
    oldSize === 0
      ? proof.length === 0
      : verifyConsistency({ oldSize, size, oldRoot: log.last.root, root, proof })
  if (!isConsistent) return { status: STATUS.inconsistent, reason: `not consistent with size ${oldSize}` }
  return { status: STATUS.cosigned, checkpoint, note: request.note }
}

/** Whether a known key has signed, and no line of a known key is wrong. */
function isTrusted(note: SignedNote, keys: readonly VerifierKey[]): boolean {
  try {
    return keys.map((key) => isSignedBy(note, key)).includes(true)
  } catch (error) {
    if (error instanceof FlexMeshError) return false
    throw error
  }
}
