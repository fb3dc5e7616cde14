import type { PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/identity/keys.ts'
import { limit } from '../../src/lib/limits.ts'
import { type GateInit, membersGate } from '../../src/network/gate.ts'

const peers = Array.from({ length: limit('guestConnections') + 2 }, (_, i) => {
  return createIdentity(new Uint8Array(32).fill(i + 1)).peerId
})
const [member, stranger] = peers as [string, string]

/** Whether the gate lets a peer in and lets us dial it. */
function passes(init: Partial<GateInit>, id: string): boolean {
  const gate = membersGate({
    isMember: (peer) => peer === member,
    inviters: [],
    guestsOpen: () => false,
    connected: () => [],
    ...init,
  })
  const peer: PeerId = peerIdFromString(id)
  const denied = [gate.denyDialPeer?.(peer), gate.denyOutboundEncryptedConnection?.(peer, {} as never)]
  expect(new Set(denied).size).toBe(1)
  return denied[0] === false
}

describe('the gate', () => {
  it('lets members pass, and no stranger while no invitation is open', () => {
    expect(passes({}, member)).toBe(true)
    expect(passes({}, stranger)).toBe(false)
  })

  it('lets the peers pass that an invitation names', () => {
    expect(passes({ inviters: [stranger] }, stranger)).toBe(true)
  })

  it('lets a limited number of guests pass while an invitation is open', () => {
    const guests = peers.slice(1, 1 + limit('guestConnections'))
    const late = peers.at(-1) as string
    expect(passes({ guestsOpen: () => true, connected: () => [member, ...guests.slice(1)] }, late)).toBe(true)
    expect(passes({ guestsOpen: () => true, connected: () => [member, ...guests] }, late)).toBe(false)
    expect(
      passes({ guestsOpen: () => true, connected: () => [member, ...guests] }, guests[0] as string),
    ).toBe(true)
  })
})
