/**
 * The key with which a member cosigns the checkpoints of others, and the statement that binds it to the member.
 * Implements protocols/transparency-log, section "Witness keys". The key is derived from the member's signing key and is
 * used for nothing else, because an Ed25519 cosignature does not name its cosigner. Does not know networks and disks.
 */
import { hkdfSync } from 'node:crypto'
import type { KeyHistory } from '../consortium/key-history.ts'
import { seal } from '../identity/envelope.ts'
import { createIdentity, type Identity, type PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { openStatement, readPeerId, type SignerCheck } from '../identity/statement.ts'
import { type Digest, digestBytes } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { cosignerName } from './checkpoint.ts'
import { COSIGNATURE, decodeVerifierKey, encodeVerifierKey, type VerifierKey } from './note.ts'

export interface WitnessKey {
  readonly consortium: Digest
  readonly publisher: PeerIdString
  readonly key: VerifierKey
  /** Unix seconds. Of two statements of one member, the later one counts. */
  readonly issuedAt: number
}

/** A statement about a witness key, and the key that has signed it. */
export interface OpenedWitnessKey extends WitnessKey {
  readonly signer: PeerIdString
}

const MAX_KEY_LENGTH = 256
const SEED_BYTES = 32
const CONTEXT = 'flexmesh/v1/witness-key'

/** The key of a member for one consortium: HKDF-SHA256 of its seed, with the id of the consortium as salt. */
export function deriveWitness({ secretKey }: Identity, consortium: Digest): Identity {
  const seed = secretKey.subarray(0, SEED_BYTES)
  return createIdentity(
    new Uint8Array(hkdfSync('sha256', seed, digestBytes(consortium), CONTEXT, SEED_BYTES)),
  )
}

/**
 * The statement of a member about its own witness key.
 * @param publisher the seat; default: the key of a seat that has no other one
 */
export function sealWitnessKey(
  identity: Identity,
  consortium: Digest,
  issuedAt: number,
  publisher: PeerIdString = identity.peerId,
): Uint8Array {
  const { publicKey } = deriveWitness(identity, consortium)
  const name = cosignerName(consortium, publisher)
  const key = { name, type: COSIGNATURE, publicKey }
  const payload = encodeWitnessKey({ consortium, publisher, key, issuedAt })
  return seal(MEDIA_TYPES.witnessKey, payload, [identity])
}

/** @throws FormatError for a value that `decodeWitnessKey` would refuse. */
export function encodeWitnessKey(witnessKey: WitnessKey): Uint8Array {
  const bytes = encodeCanonical({ ...witnessKey, key: encodeVerifierKey(witnessKey.key) })
  decodeWitnessKey(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`, also for a key of another name or type. */
export function decodeWitnessKey(bytes: Uint8Array): WitnessKey {
  const fields = new Fields(decodeCanonical(bytes), 'witness key')
  const consortium = fields.digest('consortium')
  const publisher = readPeerId(fields, 'publisher')
  const key = decodeVerifierKey(fields.text('key', MAX_KEY_LENGTH))
  const issuedAt = fields.uint('issuedAt')
  fields.end()
  const name = cosignerName(consortium, publisher)
  if (key.name !== name || key.type !== COSIGNATURE) {
    throw new FormatError('bad-field', `witness key.key: expected ${name} and type 4, got ${key.name}`)
  }
  return { consortium, publisher, key, issuedAt }
}

/**
 * Open an envelope that has one signature. Whether its key may sign for the member depends on the keys that rule the
 * member's seat: see `maySignWitnessKey`.
 * @throws FormatError, VerificationError.
 */
export function openWitnessKey(envelope: Uint8Array): OpenedWitnessKey {
  const { value, signer } = openStatement(envelope, MEDIA_TYPES.witnessKey, decodeWitnessKey, anySigner)
  return { ...value, signer }
}

const anySigner: SignerCheck = () => undefined

/**
 * Whether a statement about a witness key counts: its signer rules the seat now, with the scope for it. A key that was
 * replaced may be in the hands of a thief, who can state any time.
 */
export function maySignWitnessKey(
  history: KeyHistory,
  { signer, issuedAt }: Pick<OpenedWitnessKey, 'signer' | 'issuedAt'>,
): boolean {
  return history.allowsNow({ signer, issuedAt, scope: 'witness' })
}
