import { describe, expect, it } from 'vitest'
import { openEnvelope, preAuthEncoding, seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { utf8 } from '../../src/lib/bytes.ts'

const alice = createIdentity(new Uint8Array(32).fill(7))
const bob = createIdentity(new Uint8Array(32).fill(8))

describe('an envelope', () => {
  const payload = utf8('{"a":1}')
  it('opens under its own type and under no other, for every pair of types', () => {
    const types = Object.values(MEDIA_TYPES)
    for (const sealed of types) {
      for (const expected of types) {
        const open = () => openEnvelope(seal(sealed, payload, [alice]), expected)
        if (sealed === expected) expect(open().signers).toEqual([alice.peerId])
        else expect(open).toThrow(/expected application/)
      }
    }
  })
  it('is refused with any single bit of its bytes flipped', () => {
    const bytes = seal(MEDIA_TYPES.head, payload, [alice, bob])
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const mutant = bytes.slice()
      mutant[bit >> 3] = (mutant[bit >> 3] as number) ^ (1 << (bit & 7))
      expect(() => openEnvelope(mutant, MEDIA_TYPES.head)).toThrow()
    }
  })
  it('has a pre-authentication encoding with which no libp2p signature begins', () => {
    const start = Buffer.from(preAuthEncoding(MEDIA_TYPES.head, payload)).toString('latin1')
    for (const prefix of ['noise-libp2p-static-key:', 'libp2p-pubsub:', 'libp2p-tls-handshake:']) {
      expect(start.startsWith(prefix)).toBe(false)
    }
    expect(start.startsWith('DSSEv1 ')).toBe(true)
  })
})
