import { describe, expect, it } from 'vitest'
import { createIdentity, publicKeyFromPeerId } from '../../src/identity/keys.ts'
import { fromHex, toHex } from '../../src/lib/bytes.ts'

const alice = createIdentity(new Uint8Array(32).fill(7))

describe('a peer id', () => {
  it("matches the libp2p specification's Ed25519 vector and gives the key back", () => {
    const seed = fromHex('7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d')
    const identity = createIdentity(seed)
    expect(identity.peerId).toBe('12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq')
    expect(toHex(publicKeyFromPeerId(identity.peerId))).toBe(
      '1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e',
    )
  })
  it('returns a new copy of the key to every caller', () => {
    const { peerId, publicKey } = createIdentity(new Uint8Array(32).fill(9))
    publicKeyFromPeerId(peerId).fill(0)
    publicKeyFromPeerId(peerId).fill(0)
    expect(toHex(publicKeyFromPeerId(peerId))).toBe(toHex(publicKey))
  })
  it('is refused if it is not Ed25519 or not base58', () => {
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
