/**
 * Ed25519 with strict verification (RFC 8032 5.1.7 and what it leaves open): lengths, S < L,
 * canonical and not small-order A and R, then the equation. Every signature in the product comes
 * through here. Knows no statement.
 */
import { createPublicKey, verify } from 'node:crypto'
import nacl from 'tweetnacl'
import { concatBytes, fromHex, toHex } from '../lib/bytes.ts'

export const PUBLIC_KEY_BYTES = 32
export const SECRET_KEY_BYTES = 64
export const SIGNATURE_BYTES = 64

/** Order of the prime subgroup, 2^252 + 27742317777372353535851937790883648493. */
const L = 2n ** 252n + 27742317777372353535851937790883648493n
const P = 2n ** 255n - 19n
const SIGN_BIT = 1n << 255n

/** y coordinates of the eight points whose order divides 8. */
const SMALL_ORDER_Y: ReadonlySet<bigint> = new Set([
  0n,
  1n,
  P - 1n,
  littleEndian(fromHex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a')),
  littleEndian(fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05')),
])

const SPKI_PREFIX = fromHex('302a300506032b6570032100')

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${toHex(bytes.slice().reverse())}`)
}

/** Canonical (y < p) and not of small order. */
function isStrongPoint(bytes: Uint8Array): boolean {
  const y = littleEndian(bytes) & ~SIGN_BIT
  return y < P && !SMALL_ORDER_Y.has(y)
}

/** Whether a public key may be enrolled at all. */
export function isStrongPublicKey(publicKey: Uint8Array): boolean {
  return publicKey.length === PUBLIC_KEY_BYTES && isStrongPoint(publicKey)
}

/** @param secretKey 64 bytes, seed and public key. */
export function sign(secretKey: Uint8Array, message: Uint8Array): Uint8Array {
  return nacl.sign.detached(message, secretKey)
}

/** Never throws: anything that is not one valid strict signature is false. */
export function verifyStrict(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES || !isStrongPublicKey(publicKey)) return false
  if (littleEndian(signature.subarray(32)) >= L) return false
  if (!isStrongPoint(signature.subarray(0, 32))) return false
  try {
    const key = createPublicKey({
      key: Buffer.from(concatBytes(SPKI_PREFIX, publicKey)),
      format: 'der',
      type: 'spki',
    })
    return verify(null, message, key, signature)
  } catch {
    return false
  }
}
