/**
 * The members-only gate. A peer is judged once noise has proved who it is and before a muxer exists;
 * guests pass only while an invitation is open. Knows no roster: it asks.
 */
import type { ConnectionGater, PeerId } from '@libp2p/interface'

export interface GateInit {
  isMember(peerId: string): boolean
  /** Whether a peer that is not a member may connect to join. */
  mayVisit(peerId: string): boolean
}

export function membersGate(init: GateInit): ConnectionGater {
  const isStranger = (peer: PeerId): boolean =>
    !init.isMember(peer.toString()) && !init.mayVisit(peer.toString())
  return {
    denyDialPeer: isStranger,
    denyDialMultiaddr: () => false,
    denyInboundEncryptedConnection: isStranger,
    denyOutboundEncryptedConnection: isStranger,
  }
}
