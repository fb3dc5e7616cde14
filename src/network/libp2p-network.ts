/**
 * A network of members over libp2p: starts and stops the transport, applies membership, quotas and the rules for guests
 * to every connection and request, and relays announcements. Does not know what requests and announcements mean.
 */
import '../lib/node20.ts'
import { TopicValidatorResult } from '@libp2p/gossipsub'
import type { Connection, IdentifyResult, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError, FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { AddressTable, type MemberAddresses } from './address-table.ts'
import { Admission } from './admission.ts'
import { Conduct } from './conduct.ts'
import { dialWithin } from './dial.ts'
import { EgressMeter } from './egress.ts'
import { answer, ask } from './frames.ts'
import { membersGate } from './gate.ts'
import { Guests } from './guests.ts'
import { Mesh } from './mesh.ts'
import type { Answer, Link, Network, NetworkInit } from './network.ts'
import type { ProtocolRow } from './protocol.ts'
import { Quota } from './quota.ts'
import { Rate } from './rate.ts'
import { Slots } from './slots.ts'
import { scopeOf, sourceOf } from './source.ts'
import { createTransport, startError, type Transport } from './transport.ts'

const VALIDATION = {
  accept: TopicValidatorResult.Accept,
  reject: TopicValidatorResult.Reject,
  ignore: TopicValidatorResult.Ignore,
}

/** Interval between two comparisons of the connected peers with the roster, ms. */
const REVIEW_MS = 500

export class Libp2pNetwork implements Network {
  readonly #init: NetworkInit
  readonly #answers = new Map<ProtocolRow, Answer>()
  readonly #quota: Quota
  readonly #connects: Rate
  readonly #conduct: Conduct
  readonly #guests: Guests
  readonly #addresses: AddressTable
  readonly #mesh: Mesh
  readonly #egress: EgressMeter
  readonly #smallAnswers = new Slots(limit('requestsPerPeer'), limit('smallAnswers'))
  readonly #largeAnswers = new Slots(limit('requestsPerPeer'), limit('largeAnswers'))
  #review: ReturnType<typeof setInterval> | undefined
  #transport: Transport | undefined

  constructor(init: NetworkInit) {
    const { identity, clock, handlers, signal, log, bootstrap, remembered } = init
    this.#init = init
    this.#quota = new Quota(clock)
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
    this.#addresses = new AddressTable({ self: identity.peerId, clock, isMember })
    this.#addresses.configure(bootstrap)
    this.#addresses.remember(remembered)
    this.#mesh = new Mesh({
      transport: () => this.#node(),
      addresses: this.#addresses,
      isMember,
      signal,
      log,
    })
  }

  handle(protocol: ProtocolRow, answer: Answer): void {
    this.#answers.set(protocol, answer)
  }

  async start(): Promise<void> {
    const { listen, handlers } = this.#init
    const transport = await this.#createTransport()
    this.#transport = transport
    for (const [protocol, body] of this.#answers) await this.#register(transport, protocol, body)
    this.#subscribe(transport)
    transport.addEventListener('connection:open', ({ detail }) => this.#onOpen(detail))
    transport.addEventListener('peer:identify', ({ detail }) => this.#onIdentified(detail))
    transport.addEventListener('peer:disconnect', ({ detail }) => {
      const peer = detail.toString()
      if (handlers.isMember(peer)) this.#init.log.info(`${peer} has disconnected`)
      this.#guests.gone(peer)
      this.#addresses.disconnected(peer)
    })
    try {
      await transport.start()
    } catch (error) {
      throw startError(error, listen)
    }
    this.#mesh.start()
    this.#review = setInterval(() => {
      for (const peer of this.connectedPeers()) this.#reviewPeer(peer, handlers.isMember(peer))
    }, REVIEW_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#review)
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
    const either = AbortSignal.any([signal, this.#init.signal])
    const isLarge = protocol.maxResponseBytes > limit('frameBytes')
    const slots = isLarge ? this.#largeAnswers : this.#smallAnswers
    const free = await this.#slot(slots, peer, protocol, either)
    try {
      const stream = await this.#dial(`${peer} (${protocol.id})`, signal, async (inner) => {
        return this.#openStream(await this.#connectionTo(peer), protocol, inner)
      })
      yield* ask(stream, protocol, request, either, { onBytes, account: this.#egress.of(stream) })
    } catch (error) {
      if (error instanceof FormatError) this.#conduct.fault(peer, 'frame')
      throw error
    } finally {
      free()
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
        protocolsFor: (peer) =>
          isMember(peer)
            ? undefined
            : [...this.#answers.keys()].filter((row) => this.#mayUse(peer, row)).map(({ id }) => id),
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

  #subscribe(transport: Transport): void {
    const { handlers, topic } = this.#init
    const { pubsub } = transport.services
    pubsub.topicValidators.set(topic, (from, { data }) => {
      const peer = from.toString()
      if (!handlers.isMember(peer) || this.#conduct.isRefused(peer)) return VALIDATION.ignore
      const judgement = handlers.judge(data)
      if (judgement === 'reject') this.#conduct.fault(peer, 'announcement')
      return VALIDATION[judgement]
    })
    pubsub.addEventListener('gossipsub:message', ({ detail }) => {
      handlers.onAnnouncement(detail.propagationSource.toString())
    })
    pubsub.subscribe(topic)
  }

  #onOpen(connection: Connection): void {
    const { handlers } = this.#init
    const peer = connection.remotePeer.toString()
    const others = this.#node()
      .getConnections(connection.remotePeer)
      .filter((other) => other !== connection)
    if (others.length >= limit('connectionsPerPeer')) {
      const oldest = others.reduce((a, b) => (a.timeline.open <= b.timeline.open ? a : b))
      oldest.abort(new ExchangeError('refused', `${peer} has opened newer connections`))
    }
    if (!handlers.isMember(peer)) {
      this.#guests.arrived(peer, sourceOf(connection.remoteAddr))
      return
    }
    if (connection.direction === 'inbound') this.#addresses.connectedFrom(connection.remoteAddr)
    // `#identify` never rejects.
    void this.#identify(connection)
  }

  /** Exchange names and protocols with a member. gossipsub starts with a peer that has answered. */
  async #identify(connection: Connection): Promise<void> {
    const peer = connection.remotePeer.toString()
    try {
      await this.#node().services.identify.identify(connection)
    } catch (error) {
      this.#init.log.debug(`${peer} does not answer identify`, error)
    }
    if (connection.status !== 'open') return
    this.#init.log.info(`${peer} is connected at ${connection.remoteAddr.toString()}`)
    this.#init.handlers.onConnected(peer)
  }

  #onIdentified({ peerId, signedPeerRecord, listenAddrs, connection }: IdentifyResult): void {
    const addresses = signedPeerRecord?.addresses ?? listenAddrs
    this.#addresses.reported(peerId.toString(), addresses, connection.remoteAddr)
  }

  /** Treat a connected peer that has stopped to be a member as a guest, which has little time. */
  #reviewPeer(peer: PeerIdString, isMember: boolean): void {
    if (isMember) {
      this.#guests.gone(peer)
      return
    }
    const [connection] = this.#node().getConnections(peerIdFromString(peer))
    if (connection !== undefined) this.#guests.arrived(peer, sourceOf(connection.remoteAddr))
  }

  #mayUse(peer: PeerIdString, { guests }: ProtocolRow): boolean {
    const { handlers } = this.#init
    if (handlers.isMember(peer)) return true
    if (guests === 'revoked') return handlers.isRevoked(peer)
    if (guests === 'all') return handlers.guestsOpen()
    return guests === 'proven' && this.#guests.isProven(peer)
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

  #dial<T>(target: string, signal: AbortSignal, dial: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return dialWithin(target, limit('dialTimeout'), AbortSignal.any([signal, this.#init.signal]), dial)
  }

  async #register(transport: Transport, protocol: ProtocolRow, body: Answer): Promise<void> {
    const { handlers, log } = this.#init
    await transport.handle(
      protocol.id,
      async (stream, connection) => {
        const from = connection.remotePeer.toString()
        this.#guests.active(from)
        await answer(stream, protocol, (request, signal) => body(request, from, signal), {
          log,
          account: this.#egress.of(stream),
          refuse: () => this.#refusal(from, protocol),
          onFault: () => this.#conduct.fault(from, 'frame'),
        })
        if (!handlers.isMember(from) && protocol.guests === 'all') this.#guests.answered(from)
      },
      { maxInboundStreams: protocol.maxInboundStreams },
    )
  }

  /** Why a peer may not send a request now. Counts the request. */
  #refusal(from: PeerIdString, protocol: ProtocolRow): ExchangeError | undefined {
    if (!this.#mayUse(from, protocol)) return new ExchangeError('refused', `${from} is not a member`)
    if (this.#quota.take(from, protocol)) return undefined
    // An institution that waits for its approval asks again and again.
    if (protocol.guests !== 'all') this.#conduct.fault(from, 'quota')
    return new ExchangeError('quota', `${from} asks too often`)
  }
}
