import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { Admission } from '../../src/network/admission.ts'
import { type GateInit, membersGate } from '../../src/network/gate.ts'
import { identityOf } from '../support/consortium.ts'

const [member, stranger, self] = [1, 2, 3].map((n) => identityOf(n).peerId) as [string, string, string]

function gateWith(init: Partial<GateInit>) {
  return membersGate({
    isMember: (peer) => peer === member,
    isVisitor: () => false,
    inviters: [],
    isRefused: () => false,
    mayConnect: () => true,
    isDialling: () => false,
    self,
    admission: new Admission({ clock: () => 0, isKnown: () => false }),
    ...init,
  })
}

/** Whether the gate lets a peer in and lets this node dial it. */
function passes(init: Partial<GateInit>, id: string): boolean {
  const gate = gateWith(init)
  const peer = peerIdFromString(id)
  const denied = [
    gate.denyDialPeer?.(peer),
    gate.denyInboundEncryptedConnection?.(peer, {} as never),
    gate.denyOutboundEncryptedConnection?.(peer, {} as never),
  ]
  expect(new Set(denied).size).toBe(1)
  return denied[0] === false
}

describe('the gate', () => {
  it('lets members pass, and no stranger', () => {
    expect(passes({}, member)).toBe(true)
    expect(passes({}, stranger)).toBe(false)
  })

  it('lets the peers pass that an invitation names', () => {
    expect(passes({ inviters: [stranger] }, stranger)).toBe(true)
  })

  it('lets visitors pass', () => {
    expect(passes({ isVisitor: () => true }, stranger)).toBe(true)
  })

  it('lets nobody pass who is refused for its faults, members included', () => {
    expect(passes({ isRefused: (peer) => peer === member }, member)).toBe(false)
  })

  it('closes a connection of a peer that connects too often', () => {
    const gate = gateWith({ mayConnect: () => false })
    expect(gate.denyInboundEncryptedConnection?.(peerIdFromString(member), {} as never)).toBe(true)
  })

  it('dials only what this node has chosen, and stores no addresses but its own', () => {
    const [one, two] = ['/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.2/tcp/1'].map((text) => multiaddr(text))
    const gate = gateWith({ isDialling: (address) => address === one })
    expect([one, two].map((address) => gate.denyDialMultiaddr?.(address as never))).toEqual([false, true])
    const stores = (peer: string) => gate.filterMultiaddrForPeer?.(peerIdFromString(peer), one as never)
    expect([member, self].map(stores)).toEqual([false, true])
  })
})
