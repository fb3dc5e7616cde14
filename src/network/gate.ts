/**
 * The members-only gate. It judges a peer after noise has proved the peer's identity and before a multiplexer
 * exists. Does not hold the roster: it asks.
 */
import type { ConnectionGater, PeerId } from '@libp2p/interface'
import { limit } from '../lib/limits.ts'

export interface GateInit {
  isMember(peer: string): boolean
  /** Peers that an invitation names: a joining node connects to them before it knows a roster. */
  readonly inviters: readonly string[]
  /** Whether an invitation of ours is open, so that peers that are not members may connect to join. */
  guestsOpen(): boolean
  /** Peers that are connected now, guests included. */
  connected(): readonly string[]
}

export function membersGate(init: GateInit): ConnectionGater {
  const isDenied = (peer: PeerId): boolean => {
    const id = peer.toString()
    return !init.isMember(id) && !init.inviters.includes(id) && !isWelcomeGuest(init, id)
  }
  return {
    denyDialPeer: isDenied,
    denyDialMultiaddr: () => false,
    denyInboundEncryptedConnection: isDenied,
    denyOutboundEncryptedConnection: isDenied,
  }
}

function isWelcomeGuest({ isMember, guestsOpen, connected }: GateInit, peer: string): boolean {
  if (!guestsOpen()) return false
  const guests = new Set(connected().filter((other) => !isMember(other)))
  return guests.has(peer) || guests.size < limit('guestConnections')
}
