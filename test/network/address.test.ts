import { describe, expect, it } from 'vitest'
import { peerIdOf } from '../../src/network/address.ts'

const RELAY = '12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz'
const PEER = '12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust'

describe('the peer id of an address', () => {
  it('is the one that the address ends with', () => {
    expect(peerIdOf(`/ip4/192.0.2.1/tcp/4001/p2p/${PEER}`)).toBe(PEER)
    expect(peerIdOf(`/ip4/192.0.2.1/tcp/4001/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`)).toBe(PEER)
  })

  it('is undefined for an address without one and for text that is not an address', () => {
    for (const text of ['/ip4/192.0.2.1/tcp/4001', 'http://192.0.2.1', '', '/ip4/1'])
      expect(peerIdOf(text)).toBe(undefined)
  })
})
