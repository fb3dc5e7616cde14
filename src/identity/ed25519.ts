/**
 * Ed25519 with strict verification. Beyond RFC 8032 5.1.7 it checks the lengths, S < L, and that A and R are
 * canonical and not of small order, before the equation. Every signature of the product is verified here. Knows no
 * statement.
 */
import { createPrivateKey, createPublicKey, sign as cryptoSign, type KeyObject, verify } from 'node:crypto'
import { concatBytes, fromHex, toHex } from '../lib/bytes.ts'
import { limit } from '../lib/limits.ts'

export const PUBLIC_KEY_BYTES = 32
export const SECRET_KEY_BYTES = 64
export const SIGNATURE_BYTES = 64

/** 32 bytes, little-endian: comparing bytes is faster than comparing big integers. */
function littleEndian(value: bigint): Uint8Array {
  return fromHex(value.toString(16).padStart(2 * PUBLIC_KEY_BYTES, '0')).reverse()
}

const PRIME = 2n ** 255n - 19n
const P = littleEndian(PRIME)
/** Order of the prime subgroup, 2^252 + 27742317777372353535851937790883648493. */
const L = littleEndian(2n ** 252n + 27742317777372353535851937790883648493n)

/** y coordinates of the eight points whose order divides 8. */
const SMALL_ORDER_Y: readonly Uint8Array[] = [
  littleEndian(0n),
  littleEndian(1n),
  littleEndian(PRIME - 1n),
  fromHex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'),
  fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'),
]

const SPKI_PREFIX = fromHex('302a300506032b6570032100')
const PKCS8_PREFIX = fromHex('302e020100300506032b657004220420')
const SEED_BYTES = 32

/** Mask for the last byte of a point, whose top bit is the sign of x and whose other bits belong to y. */
const WITHOUT_SIGN = 0x7f

/** Negative, zero or positive if `a`, with its last byte masked, is less than, equal to or greater than `b`. */
function compare(a: Uint8Array, b: Uint8Array, lastByteMask = 0xff): number {
  const last = b.length - 1
  let difference = ((a[last] as number) & lastByteMask) - (b[last] as number)
  for (let i = last - 1; i >= 0 && difference === 0; i--) difference = (a[i] as number) - (b[i] as number)
  return difference
}

/** Cache of the public keys that passed `isStrongPublicKey`, by hex, oldest first. */
const KEYS = new Map<string, KeyObject>()
/** Enough for all members of four consortia; keys beyond that are checked again. */
const MAX_KEYS = 4 * limit('members')

/** Whether a point is canonical (y < p) and not of small order. */
function isStrongPoint(bytes: Uint8Array): boolean {
  if (compare(bytes, P, WITHOUT_SIGN) >= 0) return false
  return !SMALL_ORDER_Y.some((y) => compare(bytes, y, WITHOUT_SIGN) === 0)
}

/** Whether a public key has the right length, is canonical and is not of small order. */
export function isStrongPublicKey(publicKey: Uint8Array): boolean {
  return publicKey.length === PUBLIC_KEY_BYTES && isStrongPoint(publicKey)
}

/** Parsed secret keys, for as long as their bytes are in use. */
const SECRET_KEYS = new WeakMap<Uint8Array, KeyObject>()

/** @param secretKey 64 bytes: seed, then public key. The bytes must not change. */
export function sign(secretKey: Uint8Array, message: Uint8Array): Uint8Array {
  return new Uint8Array(cryptoSign(null, message, signingKey(secretKey)))
}

function signingKey(secretKey: Uint8Array): KeyObject {
  const known = SECRET_KEYS.get(secretKey)
  if (known !== undefined) return known
  const der = Buffer.from(concatBytes(PKCS8_PREFIX, secretKey.subarray(0, SEED_BYTES)))
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  der.fill(0)
  SECRET_KEYS.set(secretKey, key)
  return key
}

/** Whether `signature` is a valid strict signature. Never throws. */
export function verifyStrict(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES) return false
  if (compare(signature.subarray(32), L) >= 0) return false
  if (!isStrongPoint(signature.subarray(0, 32))) return false
  try {
    const key = verifyingKey(publicKey)
    return key !== undefined && verify(null, message, key, signature)
  } catch {
    return false
  }
}

/** Undefined for a key that is not strong. */
function verifyingKey(publicKey: Uint8Array): KeyObject | undefined {
  const name = toHex(publicKey)
  const known = KEYS.get(name)
  if (known !== undefined) return known
  if (!isStrongPublicKey(publicKey)) return undefined
  const key = createPublicKey({
    key: Buffer.from(concatBytes(SPKI_PREFIX, publicKey)),
    format: 'der',
    type: 'spki',
  })
  const oldest = KEYS.size >= MAX_KEYS ? KEYS.keys().next().value : undefined
  if (oldest !== undefined) KEYS.delete(oldest)
  KEYS.set(name, key)
  return key
}
