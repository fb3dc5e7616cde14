/**
 * The node's Ed25519 key, which is both its libp2p peer id and its signing key. The public key is read from the peer
 * id, so the two cannot disagree. Knows no files.
 */

import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey as libp2pPeerId, peerIdFromString } from '@libp2p/peer-id'
import nacl from 'tweetnacl'
import { equalBytes } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { isStrongPublicKey, SECRET_KEY_BYTES } from './ed25519.ts'

/** Base58 text of an Ed25519 peer id: 12D3KooW... */
export type PeerIdString = string

export interface Identity {
  readonly peerId: PeerIdString
  readonly publicKey: Uint8Array
  /** 64 bytes: seed, then public key. Also the raw libp2p private key. */
  readonly secretKey: Uint8Array
}

const PEER_ID_PATTERN = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/

/** A new random key, or the key of a 32-byte seed. */
export function createIdentity(seed?: Uint8Array): Identity {
  const pair = seed === undefined ? nacl.sign.keyPair() : nacl.sign.keyPair.fromSeed(seed)
  return identityOf(pair.secretKey)
}

/** @throws VerificationError `weak-key` if the public key does not belong to the seed. */
export function identityFromSecretKey(secretKey: Uint8Array): Identity {
  const derived =
    secretKey.length === SECRET_KEY_BYTES
      ? nacl.sign.keyPair.fromSeed(secretKey.subarray(0, 32)).secretKey
      : undefined
  if (derived === undefined || !equalBytes(derived, secretKey)) {
    throw new VerificationError('weak-key', 'secret key: its public key does not belong to its seed')
  }
  return identityOf(secretKey)
}

function identityOf(secretKey: Uint8Array): Identity {
  const publicKey = secretKey.subarray(32)
  return { peerId: peerIdFromPublicKey(publicKey), publicKey, secretKey }
}

export function peerIdFromPublicKey(publicKey: Uint8Array): PeerIdString {
  return libp2pPeerId(publicKeyFromRaw(publicKey)).toString()
}

/** Cache of the keys of peer ids, oldest first: statements name the same few members again and again. */
const READ_KEYS = new Map<PeerIdString, Uint8Array>()
/** Enough for all members of four consortia; peer ids beyond that are parsed again. */
const MAX_READ_KEYS = 4 * limit('members')

/**
 * The Ed25519 key inside a peer id.
 * @throws FormatError `bad-field` for another kind of peer id; VerificationError `weak-key`.
 */
export function publicKeyFromPeerId(peerId: PeerIdString): Uint8Array {
  const known = READ_KEYS.get(peerId)
  if (known !== undefined) return known.slice()
  const key = readPublicKey(peerId)
  const oldest = READ_KEYS.size >= MAX_READ_KEYS ? READ_KEYS.keys().next().value : undefined
  if (oldest !== undefined) READ_KEYS.delete(oldest)
  READ_KEYS.set(peerId, key.slice())
  return key
}

function readPublicKey(peerId: PeerIdString): Uint8Array {
  if (!PEER_ID_PATTERN.test(peerId)) {
    throw new FormatError(
      'bad-field',
      `peer id: expected an Ed25519 peer id (12D3KooW...), got "${peerId.slice(0, 60)}"`,
    )
  }
  let raw: Uint8Array | undefined
  try {
    const parsed = peerIdFromString(peerId)
    raw = parsed.type === 'Ed25519' && parsed.toString() === peerId ? parsed.publicKey.raw : undefined
  } catch (cause) {
    throw new FormatError('bad-field', `peer id: "${peerId}" is not valid`, {}, cause)
  }
  if (raw === undefined) throw new FormatError('bad-field', `peer id: "${peerId}" is not an Ed25519 peer id`)
  if (!isStrongPublicKey(raw))
    throw new VerificationError('weak-key', `peer id ${peerId}: its key is of small order`)
  return raw
}
