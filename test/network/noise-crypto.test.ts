import { pureJsCrypto } from '@chainsafe/libp2p-noise'
import fc from 'fast-check'
import { Uint8ArrayList } from 'uint8arraylist'
import { describe, expect, it } from 'vitest'
import { equalBytes, fromHex } from '../../src/lib/bytes.ts'
import { noiseCrypto } from '../../src/network/noise-crypto.ts'

type Text = Parameters<typeof noiseCrypto.chaCha20Poly1305Encrypt>[0]

const key = new Uint8Array(32).fill(1)
const nonce = new Uint8Array(12).fill(2)
const header = Uint8Array.of(3, 4)
const seal = (text: Text) => noiseCrypto.chaCha20Poly1305Encrypt(text, nonce, header, key)
const open = (sealed: Text) => noiseCrypto.chaCha20Poly1305Decrypt(sealed, nonce, header, key)
/** The bytes as a list of two parts, as a socket delivers them. */
function listed(bytes: Uint8Array, cut: number): Text {
  // An object to the compiler, because libp2p-noise declares the type with a version of its own.
  const list: object = new Uint8ArrayList(bytes.subarray(0, cut), bytes.subarray(cut))
  return list as Text
}

describe('the cryptography of noise', () => {
  it('encrypts and decrypts like the JavaScript implementation, in one piece and in parts', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat(3000), (text, at) => {
        const cut = Math.min(at, text.length)
        const expected = pureJsCrypto.chaCha20Poly1305Encrypt(text, nonce, header, key).subarray()
        for (const given of [text, listed(text, cut)]) {
          expect(equalBytes(seal(given).subarray(), expected)).toBe(true)
        }
        for (const given of [expected, listed(expected, cut)]) {
          expect(equalBytes(open(given).subarray(), text)).toBe(true)
        }
      }),
      { seed: 5, numRuns: 200 },
    )
  })

  it('decrypts nothing that was changed, cut, or encrypted with another nonce or header', () => {
    const sealed = seal(new Uint8Array(2000).fill(9)).subarray()
    for (const at of [0, 1999, 2000, 2015]) {
      const changed = sealed.slice()
      changed[at] = (changed[at] as number) ^ 1
      expect(() => open(changed)).toThrow()
      expect(() => open(listed(changed, 1000))).toThrow()
    }
    expect(() => open(sealed.subarray(1))).toThrow()
    expect(() => open(sealed.subarray(0, 3))).toThrow()
    expect(() => noiseCrypto.chaCha20Poly1305Decrypt(sealed, key.subarray(0, 12), header, key)).toThrow()
    expect(() => noiseCrypto.chaCha20Poly1305Decrypt(sealed, nonce, nonce, key)).toThrow()
  })

  it('computes the same hash of parts and of the whole', () => {
    const bytes = Uint8Array.of(1, 2, 3)
    const whole = pureJsCrypto.hashSHA256(bytes)
    expect(equalBytes(noiseCrypto.hashSHA256(bytes), whole)).toBe(true)
    expect(equalBytes(noiseCrypto.hashSHA256(listed(bytes, 1)), whole)).toBe(true)
  })

  it('agrees with the JavaScript implementation on key pairs and shared secrets', () => {
    const seed = fc.uint8Array({ minLength: 32, maxLength: 32 })
    fc.assert(
      fc.property(seed, seed, (first, second) => {
        const [ours, theirs] = [first, second].map((bytes) =>
          noiseCrypto.generateX25519KeyPairFromSeed(bytes),
        )
        const expected = pureJsCrypto.generateX25519KeyPairFromSeed(first)
        expect(equalBytes(ours?.publicKey as Uint8Array, expected.publicKey as Uint8Array)).toBe(true)
        const secret = noiseCrypto.generateX25519SharedKey(first, theirs?.publicKey as Uint8Array)
        const other = pureJsCrypto.generateX25519SharedKey(second, expected.publicKey)
        expect(equalBytes(secret, other)).toBe(true)
      }),
      { seed: 6, numRuns: 20 },
    )
  })

  it.each([
    '00'.repeat(32),
    `01${'00'.repeat(31)}`,
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    `ec${'ff'.repeat(30)}7f`,
    `ed${'ff'.repeat(30)}7f`,
    `ee${'ff'.repeat(30)}7f`,
  ])('shares no secret with a point of small order: %s', (point) => {
    expect(() => noiseCrypto.generateX25519SharedKey(key, fromHex(point))).toThrow()
  })
})
