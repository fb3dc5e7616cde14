import fc from 'fast-check'
import nacl from 'tweetnacl'
import { describe, expect, it } from 'vitest'
import { isStrongPublicKey, sign, verifyStrict } from '../../src/identity/ed25519.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { fromHex, toHex, utf8 } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'

/** All encodings of points whose order divides 8, including non-canonical ones. */
const SMALL_ORDER = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0000000000000000000000000000000000000000000000000000000000000080',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000080',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
].map(fromHex)

const alice = createIdentity(new Uint8Array(32).fill(7))

describe('strict Ed25519', () => {
  it('refuses all 14 encodings of small-order keys, whatever the message', () => {
    expect(SMALL_ORDER).toHaveLength(14)
    const zeroS = new Uint8Array(64)
    for (const key of SMALL_ORDER) {
      expect(isStrongPublicKey(key)).toBe(false)
      for (const r of SMALL_ORDER) {
        zeroS.set(r)
        expect(verifyStrict(key, utf8('any'), zeroS)).toBe(false)
      }
    }
  })
  it('refuses a signature whose S was increased by the group order', () => {
    const signature = sign(alice.secretKey, utf8('hello'))
    expect(verifyStrict(alice.publicKey, utf8('hello'), signature)).toBe(true)
    const order = 2n ** 252n + 27742317777372353535851937790883648493n
    const s = BigInt(`0x${toHex(signature.slice(32).reverse())}`) + order
    const malleated = signature.slice()
    malleated.set(fromHex(s.toString(16).padStart(64, '0')).reverse(), 32)
    expect(nacl.sign.detached.verify(utf8('hello'), malleated, alice.publicKey)).toBe(true) // bare tweetnacl accepts it
    expect(verifyStrict(alice.publicKey, utf8('hello'), malleated)).toBe(false)
  })
  it('returns false for wrong lengths and never throws', () => {
    for (const length of [0, 31, 63, 65, 1000]) {
      expect(verifyStrict(alice.publicKey, utf8('m'), new Uint8Array(length))).toBe(false)
      expect(verifyStrict(new Uint8Array(length), utf8('m'), new Uint8Array(64).fill(1))).toBe(false)
    }
  })
  it('agrees with tweetnacl on honest signatures and refuses each with a flipped bit', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.uint8Array({ maxLength: 80 }),
        fc.nat(511),
        (seed, message, bit) => {
          const { publicKey, secretKey } = createIdentity(seed)
          const signature = sign(secretKey, message)
          expect(nacl.sign.detached.verify(message, signature, publicKey)).toBe(true)
          expect(verifyStrict(publicKey, message, signature)).toBe(true)
          signature[bit >> 3] = (signature[bit >> 3] as number) ^ (1 << (bit & 7))
          expect(verifyStrict(publicKey, message, signature)).toBe(false)
        },
      ),
      { seed: 1, numRuns: 40 },
    )
  })
  it('agrees with tweetnacl on every signature with S < L, for new and for cached keys', () => {
    const L = 2n ** 252n + 27742317777372353535851937790883648493n
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.uint8Array({ maxLength: 40 }),
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        fc.constantFrom('honest', 'random', 'other S', 'other R', 'other message'),
        (seed, message, noise, kind) => {
          const { publicKey, secretKey } = createIdentity(seed)
          const signature = kind === 'random' ? noise.slice() : sign(secretKey, message)
          if (kind === 'other S') signature.set(noise.subarray(32), 32)
          if (kind === 'other R') signature.set(noise.subarray(0, 32))
          const signed = kind === 'other message' ? noise : message
          const S = BigInt(`0x${toHex(signature.slice(32).reverse())}`)
          const oracle = S < L && nacl.sign.detached.verify(signed, signature, publicKey)
          expect(verifyStrict(publicKey, signed, signature)).toBe(oracle)
          expect(verifyStrict(publicKey, signed, signature)).toBe(oracle)
        },
      ),
      { seed: 2, numRuns: 100 },
    )
  })
  it('verifies with more keys than its cache holds', () => {
    const signers = Array.from({ length: 4 * limit('members') + 4 }, (_, i) =>
      createIdentity(new Uint8Array(32).fill(i & 0xff).fill(i >> 8, 16)),
    )
    const message = utf8('m')
    for (const { publicKey, secretKey } of [...signers, ...signers.slice(0, 20)]) {
      const signature = sign(secretKey, message)
      expect(verifyStrict(publicKey, message, signature)).toBe(true)
      expect(verifyStrict(alice.publicKey, message, signature)).toBe(
        publicKey.every((b, i) => b === alice.publicKey[i]),
      )
    }
  })
})
