/**
 * What happens when a peer connects: its number of connections is bounded, a member is asked for its name and addresses,
 * anybody else is a guest. Repeated for peers whose membership has changed. Opens no connections.
 */
import type { Connection, IdentifyResult } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { AddressTable } from './address-table.ts'
import type { Guests } from './guests.ts'
import type { NetworkInit } from './network.ts'
import { sourceOf } from './source.ts'
import type { Transport } from './transport.ts'

interface ArrivalsInit extends Pick<NetworkInit, 'handlers' | 'log'> {
  readonly guests: Guests
  readonly addresses: AddressTable
}

/** Interval between two comparisons of the connected peers with the roster, ms. */
const REVIEW_MS = 500

export class Arrivals {
  readonly #init: ArrivalsInit
  #review: ReturnType<typeof setInterval> | undefined

  constructor(init: ArrivalsInit) {
    this.#init = init
  }

  /** Listen to the connections of a transport, which has not started yet. */
  listen(transport: Transport): void {
    const { handlers, guests, addresses, log } = this.#init
    transport.addEventListener('connection:open', ({ detail }) => this.#onOpen(transport, detail))
    transport.addEventListener('peer:identify', ({ detail }) => this.#onIdentified(detail))
    transport.addEventListener('peer:disconnect', ({ detail }) => {
      const peer = detail.toString()
      if (handlers.isMember(peer)) log.info(`${peer} has disconnected`)
      guests.gone(peer)
      addresses.disconnected(peer)
    })
  }

  /** Compare the connected peers with the roster from now on. */
  start(transport: Transport): void {
    const { handlers } = this.#init
    this.#review = setInterval(() => {
      for (const peer of transport.getPeers().map(String))
        this.#reviewPeer(transport, peer, handlers.isMember(peer))
    }, REVIEW_MS).unref()
  }

  stop(): void {
    clearInterval(this.#review)
  }

  #onOpen(transport: Transport, connection: Connection): void {
    const { handlers, guests, addresses } = this.#init
    const peer = connection.remotePeer.toString()
    const others = transport.getConnections(connection.remotePeer).filter((other) => other !== connection)
    if (others.length >= limit('connectionsPerPeer')) {
      const oldest = others.reduce((a, b) => (a.timeline.open <= b.timeline.open ? a : b))
      oldest.abort(new ExchangeError('refused', `${peer} has opened newer connections`))
    }
    if (!handlers.isMember(peer)) {
      guests.arrived(peer, sourceOf(connection.remoteAddr))
      return
    }
    if (connection.direction === 'inbound') addresses.connectedFrom(connection.remoteAddr)
    // `#identify` never rejects.
    void this.#identify(transport, connection)
  }

  /** Exchange names and protocols with a member. gossipsub starts with a peer that has answered. */
  async #identify(transport: Transport, connection: Connection): Promise<void> {
    const { handlers, log } = this.#init
    const peer = connection.remotePeer.toString()
    try {
      await transport.services.identify.identify(connection)
    } catch (error) {
      log.debug(`${peer} does not answer identify`, error)
    }
    if (connection.status !== 'open') return
    log.info(`${peer} is connected at ${connection.remoteAddr.toString()}`)
    handlers.onConnected(peer)
  }

  #onIdentified({ peerId, signedPeerRecord, listenAddrs, connection }: IdentifyResult): void {
    const addresses = signedPeerRecord?.addresses ?? listenAddrs
    this.#init.addresses.reported(peerId.toString(), addresses, connection.remoteAddr)
  }

  /** Treat a connected peer that has stopped to be a member as a guest, which has little time. */
  #reviewPeer(transport: Transport, peer: PeerIdString, isMember: boolean): void {
    const { guests } = this.#init
    if (isMember) {
      guests.gone(peer)
      return
    }
    const [connection] = transport.getConnections(peerIdFromString(peer))
    if (connection !== undefined) guests.arrived(peer, sourceOf(connection.remoteAddr))
  }
}
