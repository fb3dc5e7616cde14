import fc from 'fast-check'
import nacl from 'tweetnacl'
import { describe, expect, it } from 'vitest'
import { isStrongPublicKey, sign, verifyStrict } from '../../src/identity/ed25519.ts'
import { openEnvelope, preAuthEncoding, seal } from '../../src/identity/envelope.ts'
import { createIdentity, publicKeyFromPeerId } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { fromHex, toHex, utf8 } from '../../src/lib/bytes.ts'

/** All encodings of points whose order divides 8, non-canonical ones included. */
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
const bob = createIdentity(new Uint8Array(32).fill(8))

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
  it('refuses a signature whose S was raised by the group order', () => {
    const signature = sign(alice.secretKey, utf8('hello'))
    expect(verifyStrict(alice.publicKey, utf8('hello'), signature)).toBe(true)
    const order = 2n ** 252n + 27742317777372353535851937790883648493n
    const s = BigInt(`0x${toHex(signature.slice(32).reverse())}`) + order
    const malleated = signature.slice()
    malleated.set(fromHex(s.toString(16).padStart(64, '0')).reverse(), 32)
    expect(nacl.sign.detached.verify(utf8('hello'), malleated, alice.publicKey)).toBe(true) // bare tweetnacl accepts it
    expect(verifyStrict(alice.publicKey, utf8('hello'), malleated)).toBe(false)
  })
  it('returns false, never throws, for lengths that are wrong', () => {
    for (const length of [0, 31, 63, 65, 1000]) {
      expect(verifyStrict(alice.publicKey, utf8('m'), new Uint8Array(length))).toBe(false)
      expect(verifyStrict(new Uint8Array(length), utf8('m'), new Uint8Array(64).fill(1))).toBe(false)
    }
  })
  it('agrees with tweetnacl on honest signatures and refuses every flipped bit', () => {
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
      { seed: 1, numRuns: 100 },
    )
  })
  it('agrees with tweetnacl on every signature that it may not refuse for its form, key known or not', () => {
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
      { seed: 2, numRuns: 200 },
    )
  })
  it('verifies under more keys than it remembers, each under its own', () => {
    const signers = Array.from({ length: 300 }, (_, i) =>
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

describe('peer id', () => {
  it("matches the libp2p specification's Ed25519 vector and gives the key back", () => {
    const seed = fromHex('7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d')
    const identity = createIdentity(seed)
    expect(identity.peerId).toBe('12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq')
    expect(toHex(publicKeyFromPeerId(identity.peerId))).toBe(
      '1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e',
    )
  })
  it('gives every reader a key of its own, so that none can change what the next one gets', () => {
    const { peerId, publicKey } = createIdentity(new Uint8Array(32).fill(9))
    publicKeyFromPeerId(peerId).fill(0)
    publicKeyFromPeerId(peerId).fill(0)
    expect(toHex(publicKeyFromPeerId(peerId))).toBe(toHex(publicKey))
  })
  it('refuses peer ids that are not Ed25519 or not base58', () => {
    for (const id of [
      '',
      'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
      '12D3KooWBtg3',
      alice.peerId.replace(/.$/, '0'),
    ]) {
      expect(() => publicKeyFromPeerId(id)).toThrow(/peer id/)
    }
  })
})

describe('envelope', () => {
  const payload = utf8('{"a":1}')
  it('opens under its own type and under no other: every pair of types', () => {
    const types = Object.values(MEDIA_TYPES)
    for (const sealed of types) {
      for (const expected of types) {
        const open = () => openEnvelope(seal(sealed, payload, [alice]), expected)
        if (sealed === expected) expect(open().signers).toEqual([alice.peerId])
        else expect(open).toThrow(/expected application/)
      }
    }
  })
  it('refuses every single-bit flip of its bytes', () => {
    const bytes = seal(MEDIA_TYPES.head, payload, [alice, bob])
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const mutant = bytes.slice()
      mutant[bit >> 3] = (mutant[bit >> 3] as number) ^ (1 << (bit & 7))
      expect(() => openEnvelope(mutant, MEDIA_TYPES.head)).toThrow()
    }
  })
  it('has a pre-authentication encoding that no libp2p signature begins with', () => {
    const start = Buffer.from(preAuthEncoding(MEDIA_TYPES.head, payload)).toString('latin1')
    for (const prefix of ['noise-libp2p-static-key:', 'libp2p-pubsub:', 'libp2p-tls-handshake:']) {
      expect(start.startsWith(prefix)).toBe(false)
    }
    expect(start.startsWith('DSSEv1 ')).toBe(true)
  })
})
