/**
 * Noise's cryptography on Node's OpenSSL. Encrypts and decrypts part by part, because each copy of a message is
 * off-heap memory that triggers garbage collection.
 */
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto'
import type { ICryptoInterface } from '@chainsafe/libp2p-noise'
import { defaultCrypto } from '@chainsafe/libp2p-noise/crypto'

const CIPHER = 'chacha20-poly1305'
const TAG_BYTES = 16
const OPTIONS = { authTagLength: TAG_BYTES }

type Bytes = Parameters<ICryptoInterface['chaCha20Poly1305Encrypt']>[0]

const partsOf = (bytes: Bytes): Iterable<Uint8Array> => (bytes instanceof Uint8Array ? [bytes] : bytes)

/** Apply `update` to each part. A message in one piece, as in the handshake, stays in one piece. */
function eachPart(bytes: Bytes, update: (part: Uint8Array) => Uint8Array): Bytes {
  if (bytes instanceof Uint8Array) return update(bytes)
  const updated = bytes.sublist(0, 0)
  for (const part of bytes) updated.append(update(part))
  return updated
}

/**
 * X25519 is that of libp2p-noise for Node, on OpenSSL, which takes half the time of its JavaScript: strangers can make a node
 * compute it `handshakesFromOtherSources` times a second. HKDF is in JavaScript.
 */
export const noiseCrypto: ICryptoInterface = {
  ...defaultCrypto,

  hashSHA256(data) {
    const hash = createHash('sha256')
    for (const part of partsOf(data)) hash.update(part)
    return hash.digest()
  },

  chaCha20Poly1305Encrypt(plaintext, nonce, ad, key) {
    const cipher = createCipheriv(CIPHER, key, nonce, OPTIONS)
    cipher.setAAD(ad, { plaintextLength: plaintext.byteLength })
    const sealed = eachPart(plaintext, (part) => cipher.update(part))
    cipher.final()
    if (sealed instanceof Uint8Array) return Buffer.concat([sealed, cipher.getAuthTag()])
    sealed.append(cipher.getAuthTag())
    return sealed
  },

  /** Returns plaintext only after the tag was verified. @throws Error when the tag is wrong. */
  chaCha20Poly1305Decrypt(sealed, nonce, ad, key) {
    const length = sealed.byteLength - TAG_BYTES
    const decipher = createDecipheriv(CIPHER, key, nonce, OPTIONS)
    decipher.setAAD(ad, { plaintextLength: length })
    decipher.setAuthTag(sealed.subarray(length))
    const text = sealed instanceof Uint8Array ? sealed.subarray(0, length) : sealed.sublist(0, length)
    const plaintext = eachPart(text, (part) => decipher.update(part))
    decipher.final()
    return plaintext
  },
}
