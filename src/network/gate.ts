/**
 * Decides which connections come about. A socket needs a place for its handshake (admission.ts). After noise has proved
 * the identity of a peer and before a multiplexer exists, members pass, and others only if they may join. Does not hold
 * the roster: it asks.
 */
import type { ConnectionGater, MultiaddrConnection, PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { limit } from '../lib/limits.ts'
import type { Admission } from './admission.ts'

export interface GateInit {
  isMember(peer: string): boolean
  /** Whether a peer that is not a member may connect: to join, or because it has to learn that it was revoked. */
  isVisitor(peer: string): boolean
  /** Peers that an invitation names: a joining node connects to them before it knows a roster. */
  readonly inviters: readonly string[]
  /** Whether a peer is refused because of its faults. */
  isRefused(peer: string): boolean
  /** Count a new inbound connection of a peer. Returns false when it connects too often. */
  mayConnect(peer: string): boolean
  /** Whether this node has chosen to dial an address. */
  isDialling(address: Multiaddr): boolean
  readonly self: string
  readonly admission: Admission
}

export function membersGate(init: GateInit): ConnectionGater {
  const { admission } = init
  const isDenied = (peer: PeerId): boolean => {
    const id = peer.toString()
    if (init.isRefused(id)) return true
    return !init.isMember(id) && !init.inviters.includes(id) && !init.isVisitor(id)
  }
  const bounded = (connection: MultiaddrConnection): void => {
    connection.maxWriteBufferLength = limit('unsentBytes')
  }
  return {
    denyDialPeer: isDenied,
    denyDialMultiaddr: (address) => !init.isDialling(address),
    denyInboundConnection: (connection) => {
      bounded(connection)
      return !admission.enter(connection)
    },
    denyInboundEncryptedConnection: (peer) => isDenied(peer) || !init.mayConnect(peer.toString()),
    denyInboundUpgradedConnection: (_, connection) => {
      admission.leave(connection)
      return false
    },
    denyOutboundConnection: (_, connection) => {
      bounded(connection)
      return false
    },
    denyOutboundEncryptedConnection: isDenied,
    // The addresses of peers are in address-table.ts, which limits them.
    filterMultiaddrForPeer: (peer) => peer.toString() === init.self,
  }
}
