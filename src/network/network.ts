/**
 * The interface between the protocols and the network: answer requests, ask a peer, publish an announcement.
 * `Libp2pNetwork` implements it over TCP. Does not know what requests and announcements mean.
 */
import type { Identity, PeerIdString } from '../identity/keys.ts'
import type { EgressSink } from '../lib/egress.ts'
import type { Log } from '../telemetry/log.ts'
import type { MemberAddresses } from './address-table.ts'
import type { ProtocolRow } from './protocol.ts'
import type { Encrypter } from './transport.ts'

/** Yields the frames of the answer to one request of the peer `from`. */
export type Answer = (request: unknown, from: PeerIdString, signal: AbortSignal) => AsyncIterable<unknown>

/** What happens to an announcement: it is relayed, counted against the peer that sent it, or dropped. */
export type Judgement = 'accept' | 'reject' | 'ignore'

/** What a network asks its owner and reports to it. */
export interface NetworkHandlers {
  isMember(peer: PeerIdString): boolean
  /** Whether peers that are not members may connect to join, because an invitation is open. */
  guestsOpen(): boolean
  /** Whether a peer was a member and was revoked: it may connect for a moment to learn so. */
  isRevoked(peer: PeerIdString): boolean
  /** Decide about an announcement before it is relayed. Must not throw. */
  judge(announcement: Uint8Array): Judgement
  /** A connection to `peer` is ready for requests. */
  onConnected(peer: PeerIdString): void
  /** An announcement was accepted; `from` relayed it to us and need not be its author. */
  onAnnouncement(from: PeerIdString): void
}

export interface NetworkInit {
  readonly identity: Identity
  /** Topic of the announcements. */
  readonly topic: string
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Multiaddrs of members to connect to, peer id included. */
  readonly bootstrap: readonly string[]
  readonly mdns: boolean
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** Peers that may be dialled although they are not members yet, because an invitation names them. */
  readonly inviters: readonly PeerIdString[]
  /** Addresses at which members were reached before. */
  readonly remembered: readonly MemberAddresses[]
  readonly encrypter?: Encrypter
  /** Receives everything that is sent. */
  readonly egress: EgressSink
  readonly handlers: NetworkHandlers
  /** Ends every dial and every request. */
  readonly signal: AbortSignal
  readonly log: Log
}

/** The part of a network that asking a peer needs. */
export interface Asker {
  /**
   * Send one request and yield the frames of the answer.
   * @param onBytes called with the number of bytes whenever some of the answer has arrived
   * @throws ExchangeError `unreachable`, `refused`, `timeout`, `aborted`, `protocol`.
   */
  ask(
    peer: PeerIdString,
    protocol: ProtocolRow,
    request: unknown,
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): AsyncGenerator<unknown, void, void>
}

/** An open connection. */
export interface Link {
  readonly peer: PeerIdString
  /** Multiaddr of the other side. */
  readonly address: string
  /** Whether the other side opened it. */
  readonly isInbound: boolean
  /** Unix seconds. */
  readonly since: number
}

export interface Network extends Asker {
  /** Answer the requests of one protocol. Call it before `start`. */
  handle(protocol: ProtocolRow, answer: Answer): void
  /** @throws InputError `port-in-use`. */
  start(): Promise<void>
  stop(): Promise<void>
  /** Multiaddrs at which others reach this node, peer id included. */
  addresses(): string[]
  connectedPeers(): PeerIdString[]
  /** All open connections. */
  links(): Link[]
  /** @throws ExchangeError `unreachable`, `aborted`. */
  connect(address: string, signal: AbortSignal): Promise<PeerIdString>
  disconnect(peer: PeerIdString): Promise<void>
  /** Send an announcement to every connected member. */
  publish(announcement: Uint8Array): Promise<void>
  /** Where this node reached members, and what they say about themselves. */
  knownAddresses(): Promise<MemberAddresses[]>
  /** Try addresses of a member that `from` has told, if it is not connected. Never rejects. */
  learn(member: MemberAddresses, from: PeerIdString): Promise<void>
  /**
   * A peer has shown the token of a valid invitation.
   * @returns false if too many guests have done so, or too many with this token.
   */
  admitGuest(peer: PeerIdString, token: string): boolean
}
