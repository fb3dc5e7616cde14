/**
 * The node's side of the network: joins, pulls statements whenever a member connects or announces
 * something newer, and moves files. Implements protocols/package-exchange. It delivers bytes and
 * knows nothing of what statements mean: `handlers` do.
 */

import type { JoinStatus } from '../consortium/membership-request.ts'
import type { MemberAddresses } from '../network/mesh.ts'
import '../lib/node20.ts'
import { TopicValidatorResult } from '@libp2p/gossipsub'
import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { ExchangeError } from '../lib/errors.ts'
import type { FileRef } from '../lib/file-ref.ts'
import { limit } from '../lib/limits.ts'
import { answer, ask } from '../network/frames.ts'
import { membersGate } from '../network/gate.ts'
import { Mesh } from '../network/mesh.ts'
import { createTransport, type Encrypter, startError, type Transport } from '../network/transport.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { type Answer, answersOf, type ExchangeHandlers } from './answers.ts'
import { CatchUp } from './catch-up.ts'
import { type FetchProgress, fetchBlob } from './fetch-blob.ts'
import {
  decodeAddressesFrame,
  decodeBytesFrame,
  decodeStatusFrame,
  firstFrame,
  requireFrame,
} from './messages.ts'
import { headsTopic, PROTOCOL_NAMES, PROTOCOLS, type ProtocolName, Quota } from './protocols.ts'

export interface ExchangeComponents {
  readonly blobs: BlobStore
  readonly handlers: ExchangeHandlers
}

export interface ExchangeInit {
  readonly identity: Identity
  readonly consortium: Digest
  readonly listen: readonly string[]
  readonly bootstrap: readonly string[]
  readonly mdns: boolean
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** Peers that may be dialled although they are not members yet: the inviting ones. */
  readonly inviters?: readonly PeerIdString[]
  /** Where members were reached before. */
  readonly remembered?: readonly MemberAddresses[]
  readonly encrypter?: Encrypter
}

const VERDICTS = {
  accept: TopicValidatorResult.Accept,
  reject: TopicValidatorResult.Reject,
  ignore: TopicValidatorResult.Ignore,
}

export class Exchange {
  readonly #init: ExchangeInit
  readonly #blobs: BlobStore
  readonly #handlers: ExchangeHandlers
  readonly #quota: Quota
  readonly #syncing = new Map<PeerIdString, Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #catchUp: CatchUp
  readonly #mesh: Mesh
  #transport: Transport | undefined

  constructor(components: ExchangeComponents, init: ExchangeInit) {
    const { handlers } = components
    this.#init = init
    this.#blobs = components.blobs
    this.#handlers = handlers
    this.#quota = new Quota(init.clock)
    this.#catchUp = new CatchUp({
      pull: (peer) => this.syncWith(peer),
      peers: () => this.connectedMembers(),
      isBehind: () => handlers.isBehind(),
    })
    this.#mesh = new Mesh({
      transport: () => this.#node(),
      self: init.identity.peerId,
      isMember: (peer) => handlers.isMember(peer),
      signal: this.#stopping.signal,
    })
  }

  /** @throws InputError `port-in-use`. */
  async start(): Promise<void> {
    const { identity, consortium, listen, bootstrap, mdns, encrypter } = this.#init
    const topic = headsTopic(consortium)
    const gate = membersGate({
      isMember: (peer) => this.#handlers.isMember(peer),
      mayVisit: (peer) => this.#mayVisit(peer),
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
    const answers = answersOf(this.#handlers, this.#blobs, this.#mesh)
    for (const name of PROTOCOL_NAMES) await this.#handle(name, answers[name])
    const { pubsub } = transport.services
    pubsub.topicValidators.set(topic, (_, message) => VERDICTS[this.#judge(message.data)])
    pubsub.addEventListener('gossipsub:message', (event) => {
      const from = event.detail.propagationSource.toString()
      this.#catchUpWith(from)
    })
    pubsub.subscribe(topic)
    transport.addEventListener('peer:identify', (event) => this.#catchUpWith(event.detail.peerId.toString()))
    transport.addEventListener('peer:disconnect', (event) => this.#quota.forget(event.detail.toString()))
    transport.addEventListener('peer:discovery', (event) => void this.#mesh.dial(event.detail.id))
    try {
      await transport.start()
    } catch (error) {
      throw startError(error, listen)
    }
    for (const member of this.#init.remembered ?? []) void this.#mesh.learn(member)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#catchUp.stop()
    this.#mesh.stop()
    await Promise.allSettled(this.#syncing.values())
    await this.#transport?.stop()
  }

  /** Multiaddrs on which others reach us, peer id included. */
  addresses(): string[] {
    return this.#node().getMultiaddrs().map(String)
  }

  connectedMembers(): PeerIdString[] {
    return this.#node()
      .getPeers()
      .map(String)
      .filter((peer) => this.#handlers.isMember(peer))
  }

  /** @throws ExchangeError `unreachable`. */
  async connect(address: string, signal: AbortSignal): Promise<PeerIdString> {
    try {
      const connection = await this.#node().dial(multiaddr(address), {
        signal: this.#bounded(signal, limit('dialTimeout')),
      })
      return connection.remotePeer.toString()
    } catch (error) {
      throw new ExchangeError(
        'unreachable',
        `${address} cannot be reached: ${(error as Error).message}`,
        {},
        error,
      )
    }
  }

  async disconnect(peer: PeerIdString): Promise<void> {
    await this.#node().hangUp(peerIdFromString(peer))
  }

  /** Publish our signed head to everyone connected. */
  async announce(head: Uint8Array): Promise<void> {
    await this.#node().services.pubsub.publish(headsTopic(this.#init.consortium), head)
  }

  /** Pull what `peer` has and we lack; one sync a peer at a time. */
  async syncWith(peer: PeerIdString): Promise<void> {
    const running = this.#syncing.get(peer)
    if (running !== undefined) await running.catch(() => undefined)
    const sync = this.#pull(peer).finally(() => {
      if (this.#syncing.get(peer) === sync) this.#syncing.delete(peer)
    })
    this.#syncing.set(peer, sync)
    await sync
  }

  /** Fetch a file from `providers`, or from every connected member. */
  async fetch(
    ref: FileRef,
    options: {
      signal: AbortSignal
      providers?: readonly PeerIdString[]
      onProgress?: (progress: FetchProgress) => void
    },
  ): Promise<void> {
    const providers = options.providers ?? this.connectedMembers()
    const signal = AbortSignal.any([options.signal, this.#stopping.signal])
    await fetchBlob(
      (peer, request, inner) => this.#ask(peer, 'blob', request, inner),
      this.#blobs,
      ref,
      providers,
      {
        ...options,
        signal,
      },
    )
  }

  /** Ask a member for the charter and rosters. @throws ExchangeError `refused` for a bad token. */
  async requestCharter(peer: PeerIdString, token: string, signal: AbortSignal): Promise<Uint8Array[]> {
    const envelopes: Uint8Array[] = []
    for await (const frame of this.#ask(peer, 'join', { kind: 'charter', token }, signal)) {
      envelopes.push(decodeBytesFrame(frame, limit('envelopeBytes')))
    }
    return envelopes
  }

  async requestMembership(
    peer: PeerIdString,
    envelope: Uint8Array,
    signal: AbortSignal,
  ): Promise<JoinStatus> {
    const frame = await firstFrame(this.#ask(peer, 'join', { kind: 'membership', envelope }, signal))
    return decodeStatusFrame(requireFrame(frame, 'join answer'))
  }

  #node(): Transport {
    if (this.#transport === undefined) throw new Error('the exchange is not started')
    return this.#transport
  }

  #mayVisit(peer: PeerIdString): boolean {
    if (this.#init.inviters?.includes(peer) === true) return true
    if (!this.#handlers.guestsOpen()) return false
    const guests = new Set(
      this.#transport
        ?.getPeers()
        .map(String)
        .filter((p) => !this.#handlers.isMember(p)),
    )
    return guests.has(peer) || guests.size < limit('guestConnections')
  }

  async #handle(name: ProtocolName, body: Answer): Promise<void> {
    const protocol = PROTOCOLS[name]
    const handler = async (stream: Stream, connection: Connection): Promise<void> => {
      const from = connection.remotePeer.toString()
      const quota = this.#quota
      const allowed = protocol.guests || this.#handlers.isMember(from)
      await answer(stream, protocol, async function* (request, signal) {
        if (!allowed) throw new ExchangeError('refused', `${from} is not a member`)
        if (!quota.take(from, name)) throw new ExchangeError('quota', `${from} asks too often`)
        yield* body(request, from, signal)
      })
    }
    await this.#node().handle(protocol.id, handler, { maxInboundStreams: protocol.maxInboundStreams })
  }

  async *#ask(
    peer: PeerIdString,
    name: ProtocolName,
    request: unknown,
    signal: AbortSignal,
  ): AsyncGenerator<unknown, void, void> {
    const protocol = PROTOCOLS[name]
    let stream: Stream
    try {
      stream = await this.#node().dialProtocol(peerIdFromString(peer), protocol.id, {
        signal: this.#bounded(signal, limit('dialTimeout')),
      })
    } catch (error) {
      throw new ExchangeError('unreachable', `${peer} cannot be reached for ${protocol.id}`, {}, error)
    }
    yield* ask(stream, protocol, request, AbortSignal.any([signal, this.#stopping.signal]))
  }

  async #pull(peer: PeerIdString): Promise<void> {
    const signal = this.#bounded(this.#stopping.signal, PROTOCOLS.statements.timeoutMs)
    for await (const frame of this.#ask(peer, 'statements', this.#handlers.wanted(), signal)) {
      await this.#handlers.onStatement(decodeBytesFrame(frame, limit('envelopeBytes')), peer)
    }
    const others: MemberAddresses[] = []
    for await (const frame of this.#ask(peer, 'addresses', {}, signal))
      others.push(decodeAddressesFrame(frame))
    await Promise.all(others.map((other) => this.#mesh.learn(other)))
    this.#handlers.onSynced(peer, await this.#mesh.known())
  }

  #judge(data: Uint8Array): 'accept' | 'reject' | 'ignore' {
    if (data.length > limit('announcementBytes')) return 'reject'
    try {
      return this.#handlers.judgeHead(data)
    } catch {
      return 'reject'
    }
  }

  #catchUpWith(peer: PeerIdString): void {
    if (!this.#stopping.signal.aborted && this.#handlers.isMember(peer)) void this.#catchUp.start(peer)
  }

  #bounded(signal: AbortSignal, ms: number): AbortSignal {
    return AbortSignal.any([signal, this.#stopping.signal, AbortSignal.timeout(ms)])
  }
}
