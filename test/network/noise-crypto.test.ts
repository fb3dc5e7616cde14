import { pureJsCrypto } from '@chainsafe/libp2p-noise'
import fc from 'fast-check'
import { Uint8ArrayList } from 'uint8arraylist'
import { describe, expect, it } from 'vitest'
import { equalBytes } from '../../src/lib/bytes.ts'
import { noiseCrypto } from '../../src/network/noise-crypto.ts'

type Text = Parameters<typeof noiseCrypto.chaCha20Poly1305Encrypt>[0]

const key = new Uint8Array(32).fill(1)
const nonce = new Uint8Array(12).fill(2)
const header = Uint8Array.of(3, 4)
const seal = (text: Text) => noiseCrypto.chaCha20Poly1305Encrypt(text, nonce, header, key)
const open = (sealed: Text) => noiseCrypto.chaCha20Poly1305Decrypt(sealed, nonce, header, key)
/** The same bytes as a list of parts, as they come off a socket. */
function listed(bytes: Uint8Array, cut: number): Text {
  const list = new Uint8ArrayList()
  list.append(bytes.subarray(0, cut))
  list.append(bytes.subarray(cut))
  // Noise brings a version of its own of the same list.
  return list as unknown as Text
}

describe('what noise computes with', () => {
  it('seals and opens as the reference in JavaScript does, in one piece and in parts', () => {
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

  it('opens nothing that was changed, cut or sealed for another place', () => {
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

  it('hashes parts as the whole', () => {
    const bytes = Uint8Array.of(1, 2, 3)
    const whole = pureJsCrypto.hashSHA256(bytes)
    expect(equalBytes(noiseCrypto.hashSHA256(bytes), whole)).toBe(true)
    expect(equalBytes(noiseCrypto.hashSHA256(listed(bytes, 1)), whole)).toBe(true)
  })
})
