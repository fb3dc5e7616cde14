/**
 * What noise computes with, by Node's OpenSSL: ChaCha20-Poly1305 without the copies that put a message, its
 * tag and its parts together. Memory outside V8's heap is what the garbage collector runs after, and every
 * such copy is as long as the message.
 */
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto'
import { type ICryptoInterface, pureJsCrypto } from '@chainsafe/libp2p-noise'

const CIPHER = 'chacha20-poly1305'
const TAG_BYTES = 16
const OPTIONS = { authTagLength: TAG_BYTES }

type Bytes = Parameters<ICryptoInterface['chaCha20Poly1305Encrypt']>[0]

const partsOf = (bytes: Bytes): Iterable<Uint8Array> => (bytes instanceof Uint8Array ? [bytes] : bytes)

/** What `update` makes of each part; one piece for a message in one piece, which are those of the handshake. */
function eachPart(bytes: Bytes, update: (part: Uint8Array) => Uint8Array): Bytes {
  if (bytes instanceof Uint8Array) return update(bytes)
  const updated = bytes.sublist(0, 0)
  for (const part of bytes) updated.append(update(part))
  return updated
}

/** X25519 and HKDF, computed a few times a connection, are those of libp2p-noise. */
export const noiseCrypto: ICryptoInterface = {
  ...pureJsCrypto,

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

  /** @throws Error when the tag is wrong; no plaintext leaves before it is checked. */
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
