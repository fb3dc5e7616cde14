/**
 * Checkpoints of C2SP tlog-checkpoint v1.0.0: the origin, the size and the root of a log, as the text of a signed note.
 * Also the names under which logs and cosigners of a consortium sign. Verifies no signature.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { type Digest, fromBase64, toBase64 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { HASH_BYTES } from './merkle.ts'

export interface Checkpoint {
  /** Which log it is. */
  readonly origin: string
  /** Number of leaves. */
  readonly size: number
  /** Root over the leaves, 32 bytes. */
  readonly root: Uint8Array
}

const SIZE = /^(0|[1-9][0-9]{0,15})$/

/** Origin of the log of a member, also the name under which it signs its checkpoints. */
export function originOf(consortium: Digest, publisher: PeerIdString): string {
  return `flexmesh/${consortium.slice('sha256:'.length)}/${publisher}`
}

/** Name under which a member cosigns the checkpoints of others. */
export function cosignerName(consortium: Digest, member: PeerIdString): string {
  return `${originOf(consortium, member)}/witness`
}

/** The text of the note. */
export function encodeCheckpoint({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${toBase64(root)}\n`
}

/** Read the text of a note. @throws FormatError `bad-field`, also for extension lines, which this network does not use. */
export function decodeCheckpoint(text: string): Checkpoint {
  const [origin = '', sizeText = '', encodedRoot = '', end, ...more] = text.split('\n')
  if (end !== '' || more.length > 0) throw badField('three lines', text)
  if (origin === '') throw badField('an origin in line 1', origin)
  const size = decodeSize(sizeText)
  if (size === undefined) throw badField('a number in line 2', sizeText)
  const root = fromBase64(encodedRoot)
  if (root.length !== HASH_BYTES) throw badField('a hash of 32 bytes in line 3', encodedRoot)
  return { origin, size, root }
}

/** A decimal number without leading zeros, below 2^53; undefined for any other text. */
export function decodeSize(text: string): number | undefined {
  const size = SIZE.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(size) ? size : undefined
}

function badField(expected: string, got: string): FormatError {
  return new FormatError('bad-field', `checkpoint: expected ${expected}, got "${got.slice(0, 80)}"`)
}
