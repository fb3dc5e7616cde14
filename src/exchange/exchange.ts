/**
 * One node's exchange with the members of its consortium: joins, syncs (syncs.ts says when) and fetches files. Implements
 * protocols/package-exchange. Delivers bytes to `handlers` and does not know what statements mean.
 */
import type { JoinStatus } from '../consortium/membership-request.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import type { EgressSink } from '../lib/egress.ts'
import type { FileRef } from '../lib/file-ref.ts'
import { linkSignals } from '../lib/linked-signal.ts'
import type { MemberAddresses } from '../network/address-table.ts'
import { Libp2pNetwork } from '../network/libp2p-network.ts'
import type { Link, Network, NetworkInit } from '../network/network.ts'
import type { Encrypter } from '../network/transport.ts'
import type { StatementsRequest } from '../statements/log-answers.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { askCosignature } from './checkpoints.ts'
import type { FetchProgress } from './chunk-fetch.ts'
import { fetchBlob } from './fetch-blob.ts'
import type { ExchangeHandlers } from './handlers.ts'
import { headsTopic, judgeAnnouncement } from './heads.ts'
import { askCharter, askMembership } from './join.ts'
import { PROTOCOLS } from './protocols.ts'
import { Providers } from './providers.ts'
import { Syncs } from './syncs.ts'

export interface ExchangeComponents {
  readonly blobs: BlobStore
  readonly handlers: ExchangeHandlers
}

export interface ExchangeInit {
  readonly identity: Identity
  readonly consortium: Digest
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Multiaddrs of members to connect to, peer id included. */
  readonly bootstrap: readonly string[]
  readonly mdns: boolean
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** Peers that may be dialled although they are not members yet, because an invitation names them. */
  readonly inviters?: readonly PeerIdString[]
  /** Addresses at which members were reached before. */
  readonly remembered?: readonly MemberAddresses[]
  readonly encrypter?: Encrypter
  /** Receives everything that is sent to others. */
  readonly egress: EgressSink
  /** Default: drops everything. */
  readonly log?: Log
  /** Default: libp2p over TCP. */
  readonly createNetwork?: (init: NetworkInit) => Network
}

export class Exchange {
  readonly #blobs: BlobStore
  readonly #handlers: ExchangeHandlers
  readonly #network: Network
  readonly #providers: Providers
  readonly #syncs: Syncs
  readonly #stopping = new AbortController()

  constructor(components: ExchangeComponents, init: ExchangeInit) {
    const { blobs, handlers } = components
    const log = (init.log ?? SILENT).part('exchange')
    this.#blobs = blobs
    this.#handlers = handlers
    this.#providers = new Providers(init.clock)
    this.#syncs = new Syncs({
      network: () => this.#network,
      handlers,
      clock: init.clock,
      signal: this.#stopping.signal,
      log,
    })
    const { identity, consortium, listen, bootstrap, mdns, clock, encrypter, egress } = init
    const createNetwork = init.createNetwork ?? ((networkInit) => new Libp2pNetwork(networkInit))
    this.#network = createNetwork({
      identity,
      topic: headsTopic(consortium),
      listen,
      bootstrap,
      mdns,
      clock,
      inviters: init.inviters ?? [],
      remembered: init.remembered ?? [],
      egress,
      ...(encrypter === undefined ? {} : { encrypter }),
      handlers: {
        isMember: (peer) => handlers.isMember(peer),
        guestsOpen: () => handlers.guestsOpen(),
        isRevoked: (peer) => handlers.isRevoked(peer),
        judge: (announcement) => judgeAnnouncement(handlers, announcement, log),
        onConnected: (peer) => this.#syncs.onConnected(peer),
        onAnnouncement: (from) => this.#syncs.onAnnouncement(from),
      },
      signal: this.#stopping.signal,
      log: (init.log ?? SILENT).part('network'),
    })
    for (const { row, serve } of PROTOCOLS) {
      const pullFrom = (peer: PeerIdString, request: StatementsRequest): void =>
        this.#syncs.onRequest(peer, request)
      this.#network.handle(row, serve({ handlers, blobs, network: this.#network, pullFrom }))
    }
  }

  /** @throws InputError `port-in-use`. */
  async start(): Promise<void> {
    await this.#network.start()
    this.#syncs.start()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#syncs.stop()
    await this.#network.stop()
  }

  /** Multiaddrs at which others reach this node, peer id included. */
  addresses(): string[] {
    return this.#network.addresses()
  }

  connectedMembers(): PeerIdString[] {
    return this.#network.connectedPeers().filter((peer) => this.#handlers.isMember(peer))
  }

  /** All open connections. */
  links(): Link[] {
    return this.#network.links()
  }

  /** @throws ExchangeError `unreachable`, `aborted`. */
  connect(address: string, signal: AbortSignal): Promise<PeerIdString> {
    return this.#network.connect(address, signal)
  }

  disconnect(peer: PeerIdString): Promise<void> {
    return this.#network.disconnect(peer)
  }

  /** Publish the signed head of this node to every connected member. */
  announce(head: Uint8Array): Promise<void> {
    return this.#network.publish(head)
  }

  /**
   * Pull the statements that `peer` has and this node lacks. Resolves with a sync that started after the call; at
   * most one sync with a peer runs and one waits. @throws ExchangeError, FormatError of the failed request.
   */
  syncWith(peer: PeerIdString): Promise<void> {
    return this.#syncs.syncWith(peer)
  }

  /** Fetch a file from `providers`; default: from every connected member. */
  async fetch(
    ref: FileRef,
    options: {
      signal: AbortSignal
      providers?: readonly PeerIdString[]
      onProgress?: (progress: FetchProgress) => void
    },
  ): Promise<void> {
    const peers = options.providers ?? this.connectedMembers()
    const { signal, release } = linkSignals(options.signal, this.#stopping.signal)
    const { onProgress } = options
    try {
      await fetchBlob(this.#network, this.#blobs, ref, peers, {
        signal,
        providers: this.#providers,
        ...(onProgress === undefined ? {} : { onProgress }),
      })
    } finally {
      release()
    }
  }

  /** Whether this node knows of statements that it has not received yet. */
  get isCatchingUp(): boolean {
    return this.#syncs.isCatchingUp
  }

  /** Ask a member for the charter and the rosters. @throws ExchangeError `refused` for a wrong token. */
  requestCharter(peer: PeerIdString, token: string, signal: AbortSignal): Promise<Uint8Array[]> {
    return askCharter(this.#network, peer, token, signal)
  }

  requestMembership(peer: PeerIdString, envelope: Uint8Array, signal: AbortSignal): Promise<JoinStatus> {
    return askMembership(this.#network, peer, envelope, signal)
  }

  /** See `askCosignature`. */
  askCosignature(
    peer: PeerIdString,
    requestFor: (oldSize: number) => Promise<Uint8Array | undefined>,
    oldSize: number,
  ): Promise<string | undefined> {
    return askCosignature(this.#network, peer, requestFor, oldSize, this.#stopping.signal)
  }
}
