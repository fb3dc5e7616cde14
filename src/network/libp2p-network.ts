/**
 * A network of members over libp2p: starts and stops the transport, dials, applies membership and quotas to every
 * inbound request, and relays announcements. Does not know what requests and announcements mean.
 */
import '../lib/node20.ts'
import { TopicValidatorResult } from '@libp2p/gossipsub'
import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { dialWithin } from './dial.ts'
import { answer, ask } from './frames.ts'
import { membersGate } from './gate.ts'
import { type MemberAddresses, Mesh } from './mesh.ts'
import type { Answer, Network, NetworkInit } from './network.ts'
import type { ProtocolRow } from './protocol.ts'
import { Quota } from './quota.ts'
import { createTransport, startError, type Transport } from './transport.ts'

const VALIDATION = {
  accept: TopicValidatorResult.Accept,
  reject: TopicValidatorResult.Reject,
  ignore: TopicValidatorResult.Ignore,
}

export class Libp2pNetwork implements Network {
  readonly #init: NetworkInit
  readonly #answers = new Map<ProtocolRow, Answer>()
  readonly #quota: Quota
  readonly #mesh: Mesh
  #transport: Transport | undefined

  constructor(init: NetworkInit) {
    this.#init = init
    this.#quota = new Quota(init.clock)
    this.#mesh = new Mesh({
      transport: () => this.#node(),
      self: init.identity.peerId,
      isMember: (peer) => init.handlers.isMember(peer),
      signal: init.signal,
      log: init.log,
    })
  }

  handle(protocol: ProtocolRow, answer: Answer): void {
    this.#answers.set(protocol, answer)
  }

  async start(): Promise<void> {
    const { identity, topic, listen, bootstrap, mdns, encrypter, handlers, inviters, remembered } = this.#init
    const gate = membersGate({
      isMember: (peer) => handlers.isMember(peer),
      guestsOpen: () => handlers.guestsOpen(),
      inviters,
      connected: () => this.#transport?.getPeers().map(String) ?? [],
    })
    const transport = await createTransport({
      identity,
      listen,
      bootstrap,
      mdns,
      gate,
      topic,
      ...(encrypter === undefined ? {} : { encrypter }),
    })
    this.#transport = transport
    for (const [protocol, body] of this.#answers) await this.#register(transport, protocol, body)
    const { pubsub } = transport.services
    pubsub.topicValidators.set(topic, (_, { data }) => VALIDATION[handlers.judge(data)])
    pubsub.addEventListener('gossipsub:message', ({ detail }) => {
      handlers.onAnnouncement(detail.propagationSource.toString())
    })
    pubsub.subscribe(topic)
    transport.addEventListener('peer:identify', ({ detail }) =>
      handlers.onConnected(detail.peerId.toString()),
    )
    transport.addEventListener('peer:disconnect', ({ detail }) => this.#quota.forget(detail.toString()))
    // `dial` never rejects.
    transport.addEventListener('peer:discovery', ({ detail }) => void this.#mesh.dial(detail.id))
    try {
      await transport.start()
    } catch (error) {
      throw startError(error, listen)
    }
    this.#mesh.start()
    // Not awaited, because starting must not wait for members that are offline; `learn` never rejects.
    for (const member of remembered) void this.#mesh.learn(member)
  }

  async stop(): Promise<void> {
    this.#mesh.stop()
    await this.#transport?.stop()
  }

  addresses(): string[] {
    return this.#node().getMultiaddrs().map(String)
  }

  connectedPeers(): PeerIdString[] {
    return this.#node().getPeers().map(String)
  }

  async connect(address: string, signal: AbortSignal): Promise<PeerIdString> {
    const connection = await this.#dial(address, signal, async (inner) =>
      this.#node().dial(multiaddr(address), { signal: inner }),
    )
    return connection.remotePeer.toString()
  }

  async disconnect(peer: PeerIdString): Promise<void> {
    await this.#node().hangUp(peerIdFromString(peer))
  }

  async publish(announcement: Uint8Array): Promise<void> {
    await this.#node().services.pubsub.publish(this.#init.topic, announcement)
  }

  knownAddresses(): Promise<MemberAddresses[]> {
    return this.#mesh.known()
  }

  learn(member: MemberAddresses): Promise<void> {
    return this.#mesh.learn(member)
  }

  async *ask(
    peer: PeerIdString,
    protocol: ProtocolRow,
    request: unknown,
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): AsyncGenerator<unknown, void, void> {
    const stream = await this.#dial(`${peer} (${protocol.id})`, signal, async (inner) =>
      this.#node().dialProtocol(peerIdFromString(peer), protocol.id, { signal: inner }),
    )
    yield* ask(stream, protocol, request, AbortSignal.any([signal, this.#init.signal]), onBytes)
  }

  #node(): Transport {
    if (this.#transport === undefined) throw new Error('the network is not started')
    return this.#transport
  }

  #dial<T>(target: string, signal: AbortSignal, dial: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return dialWithin(target, limit('dialTimeout'), AbortSignal.any([signal, this.#init.signal]), dial)
  }

  async #register(transport: Transport, protocol: ProtocolRow, body: Answer): Promise<void> {
    const { handlers, log } = this.#init
    const quota = this.#quota
    const handler = async (stream: Stream, connection: Connection): Promise<void> => {
      const from = connection.remotePeer.toString()
      const isAllowed = protocol.guests || handlers.isMember(from)
      await answer(
        stream,
        protocol,
        async function* (request, signal) {
          if (!isAllowed) throw new ExchangeError('refused', `${from} is not a member`)
          if (!quota.take(from, protocol)) throw new ExchangeError('quota', `${from} asks too often`)
          yield* body(request, from, signal)
        },
        log,
      )
    }
    await transport.handle(protocol.id, handler, { maxInboundStreams: protocol.maxInboundStreams })
  }
}
