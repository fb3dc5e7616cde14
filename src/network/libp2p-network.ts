/**
 * A network of members over libp2p: starts and stops the transport, applies the rules for members and guests, dials and
 * asks. What happens when a peer connects is in arrivals.ts; requests of others are answered in request-server.ts;
 * announcements are relayed in announcements.ts. Does not know what requests and announcements mean.
 */
import '../lib/node20.ts'
import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError, FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { linkSignals } from '../lib/linked-signal.ts'
import { AddressTable, type MemberAddresses } from './address-table.ts'
import { Admission } from './admission.ts'
import { subscribe } from './announcements.ts'
import { Arrivals } from './arrivals.ts'
import { Conduct } from './conduct.ts'
import { dialWithin } from './dial.ts'
import { EgressMeter } from './egress.ts'
import { ask } from './frames.ts'
import { membersGate } from './gate.ts'
import { Guests } from './guests.ts'
import { Mesh } from './mesh.ts'
import type { Answer, Link, Network, NetworkInit } from './network.ts'
import type { ProtocolRow } from './protocol.ts'
import { Rate } from './rate.ts'
import { isLarge, RequestServer } from './request-server.ts'
import { Slots } from './slots.ts'
import { scopeOf } from './source.ts'
import { createTransport, startError, type Transport } from './transport.ts'

export class Libp2pNetwork implements Network {
  readonly #init: NetworkInit
  readonly #connects: Rate
  readonly #conduct: Conduct
  readonly #guests: Guests
  readonly #addresses: AddressTable
  readonly #mesh: Mesh
  readonly #egress: EgressMeter
  readonly #server: RequestServer
  readonly #arrivals: Arrivals
  readonly #smallAnswers = new Slots({ perKey: limit('requestsPerPeer'), total: limit('smallAnswers') })
  readonly #largeAnswers = new Slots({ perKey: limit('requestsPerPeer'), total: limit('largeAnswers') })
  #transport: Transport | undefined

  constructor(init: NetworkInit) {
    const { identity, clock, handlers, signal, log, bootstrap, remembered } = init
    this.#init = init
    const connects = limit('connectsPerMinute')
    this.#connects = new Rate(clock, { burst: connects, everyMs: 60_000 / connects })
    this.#conduct = new Conduct({
      clock,
      onRefused: (peer) => {
        log.warn(`${peer} broke the protocol repeatedly and is refused for ${limit('refusalTime')} ms`)
        this.#abort(peer, 'too many faults')
      },
    })
    this.#guests = new Guests((peer) => {
      if (!handlers.isMember(peer)) void this.disconnect(peer)
    })
    const isMember = (peer: PeerIdString): boolean => handlers.isMember(peer)
    this.#egress = new EgressMeter(init.egress, isMember)
    this.#server = new RequestServer({
      clock,
      handlers,
      guests: this.#guests,
      conduct: this.#conduct,
      egress: this.#egress,
      log,
    })
    this.#addresses = new AddressTable({ self: identity.peerId, clock, isMember })
    this.#addresses.configure(bootstrap)
    this.#addresses.remember(remembered)
    this.#arrivals = new Arrivals({ handlers, log, guests: this.#guests, addresses: this.#addresses })
    this.#mesh = new Mesh({
      transport: () => this.#node(),
      addresses: this.#addresses,
      isMember,
      signal,
      log,
    })
  }

  handle(protocol: ProtocolRow, answer: Answer): void {
    this.#server.handle(protocol, answer)
  }

  async start(): Promise<void> {
    const { listen } = this.#init
    const transport = await this.#createTransport()
    this.#transport = transport
    await this.#server.register(transport)
    subscribe(transport, this.#init, this.#conduct)
    this.#arrivals.listen(transport)
    try {
      await transport.start()
    } catch (error) {
      throw startError(error, listen)
    }
    this.#mesh.start()
    this.#arrivals.start(transport)
  }

  async stop(): Promise<void> {
    this.#arrivals.stop()
    this.#mesh.stop()
    this.#guests.stop()
    await this.#transport?.stop()
  }

  addresses(): string[] {
    return this.#node().getMultiaddrs().map(String)
  }

  connectedPeers(): PeerIdString[] {
    return this.#node().getPeers().map(String)
  }

  links(): Link[] {
    return this.#node()
      .getConnections()
      .map(({ remotePeer, remoteAddr, direction, timeline }) => ({
        peer: remotePeer.toString(),
        address: remoteAddr.toString(),
        isInbound: direction === 'inbound',
        since: Math.floor(timeline.open / 1000),
      }))
  }

  async connect(address: string, signal: AbortSignal): Promise<PeerIdString> {
    this.#addresses.configure([address])
    const connection = await this.#dial(address, signal, async (inner) =>
      this.#mesh.dial([multiaddr(address)], inner),
    )
    return connection.remotePeer.toString()
  }

  async disconnect(peer: PeerIdString): Promise<void> {
    await this.#node().hangUp(peerIdFromString(peer))
  }

  async publish(announcement: Uint8Array): Promise<void> {
    await this.#node().services.pubsub.publish(this.#init.topic, announcement)
  }

  async knownAddresses(): Promise<MemberAddresses[]> {
    return this.#addresses.known()
  }

  async learn(member: MemberAddresses, from: PeerIdString): Promise<void> {
    const [connection] = this.#node().getConnections(peerIdFromString(from))
    if (connection === undefined || this.connectedPeers().includes(member.peerId)) return
    this.#addresses.hint(member, scopeOf(connection.remoteAddr))
    await this.#mesh.connect(member.peerId)
  }

  admitGuest(peer: PeerIdString, token: string): boolean {
    return this.#init.handlers.isMember(peer) || this.#guests.proved(peer, token)
  }

  async *ask(
    peer: PeerIdString,
    protocol: ProtocolRow,
    request: unknown,
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): AsyncGenerator<unknown, void, void> {
    const either = linkSignals(signal, this.#init.signal)
    const slots = isLarge(protocol) ? this.#largeAnswers : this.#smallAnswers
    let free = (): void => undefined
    try {
      free = await this.#slot(slots, peer, protocol, either.signal)
      const stream = await this.#dial(`${peer} (${protocol.id})`, signal, async (inner) => {
        return this.#openStream(await this.#connectionTo(peer), protocol, inner)
      })
      yield* ask(stream, protocol, request, either.signal, { onBytes, account: this.#egress.of(stream) })
    } catch (error) {
      if (error instanceof FormatError) this.#conduct.fault(peer, 'frame')
      throw error
    } finally {
      free()
      either.release()
    }
  }

  #createTransport(): Promise<Transport> {
    const { identity, topic, listen, mdns, encrypter, handlers, inviters, clock } = this.#init
    const isMember = (peer: PeerIdString): boolean => handlers.isMember(peer)
    return createTransport({
      identity,
      listen,
      gate: membersGate({
        isMember,
        isVisitor: (peer) => handlers.guestsOpen() || handlers.isRevoked(peer),
        inviters,
        isRefused: (peer) => this.#conduct.isRefused(peer),
        mayConnect: (peer) => this.#connects.take(peer),
        isDialling: (address) => this.#mesh.isDialling(address),
        self: identity.peerId,
        admission: new Admission({ clock, isKnown: (source) => this.#addresses.isKnownSource(source) }),
      }),
      streams: {
        clock,
        protocolsFor: (peer) => this.#server.protocolsFor(peer),
        onFlood: (peer) => this.#conduct.fault(peer, 'flood'),
        onTooManyStreams: (peer) => this.#conduct.fault(peer, 'quota'),
      },
      topic,
      egress: this.#egress,
      ...(encrypter === undefined ? {} : { encrypter }),
      ...(mdns
        ? {
            onDiscovered: ({ id, multiaddrs }) => {
              // mDNS reaches the local network only, and any host in it can send it.
              this.#addresses.hint({ peerId: id.toString(), addresses: multiaddrs.map(String) }, 'loopback')
            },
          }
        : {}),
    })
  }

  #node(): Transport {
    if (this.#transport === undefined) throw new Error('the network is not started')
    return this.#transport
  }

  #abort(peer: PeerIdString, reason: string): void {
    for (const connection of this.#node().getConnections(peerIdFromString(peer))) {
      connection.abort(new ExchangeError('refused', `${peer}: ${reason}`))
    }
  }

  /** @throws ExchangeError `refused` if the other side does not speak the protocol with this node. */
  async #openStream(connection: Connection, { id }: ProtocolRow, signal: AbortSignal): Promise<Stream> {
    try {
      return await connection.newStream(id, { signal })
    } catch (error) {
      if (!(error instanceof Error && error.name === 'UnsupportedProtocolError')) throw error
      throw new ExchangeError('refused', `${id}: the other side refused`, { remote: 'refused' }, error)
    }
  }

  /** An open connection to a peer; dials a member that is not connected. @throws ExchangeError `unreachable`. */
  async #connectionTo(peer: PeerIdString): Promise<Connection> {
    const id = peerIdFromString(peer)
    const find = () =>
      this.#node()
        .getConnections(id)
        .find(({ status }) => status === 'open')
    const open = find()
    if (open !== undefined) return open
    await this.#mesh.connect(peer)
    const dialled = find()
    if (dialled === undefined) throw new ExchangeError('unreachable', 'it is not connected')
    return dialled
  }

  /** Wait until a request may begin. @throws ExchangeError `aborted`. */
  async #slot(
    slots: Slots,
    peer: PeerIdString,
    { id }: ProtocolRow,
    signal: AbortSignal,
  ): Promise<() => void> {
    try {
      return await slots.take(peer, signal)
    } catch (error) {
      throw new ExchangeError(
        'aborted',
        `${id}: the request was aborted before it began`,
        { protocol: id },
        error,
      )
    }
  }

  async #dial<T>(target: string, signal: AbortSignal, dial: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const either = linkSignals(signal, this.#init.signal)
    try {
      return await dialWithin(target, limit('dialTimeout'), either.signal, dial)
    } finally {
      either.release()
    }
  }
}
