/**
 * One node's exchange with the members of its consortium: joins, pulls statements when a member connects or
 * announces a head, and fetches files. Implements protocols/package-exchange. Delivers bytes to `handlers` and does
 * not know what statements mean.
 */
import type { JoinStatus } from '../consortium/membership-request.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import type { EgressSink } from '../lib/egress.ts'
import type { FileRef } from '../lib/file-ref.ts'
import type { MemberAddresses } from '../network/address-table.ts'
import { Libp2pNetwork } from '../network/libp2p-network.ts'
import type { Link, Network, NetworkInit } from '../network/network.ts'
import type { Encrypter } from '../network/transport.ts'
import type { StatementsRequest } from '../statements/log-answers.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { askAddresses } from './addresses.ts'
import { CatchUp } from './catch-up.ts'
import { askCosignature, pullCheckpoints } from './checkpoints.ts'
import type { FetchProgress } from './chunk-fetch.ts'
import { fetchBlob } from './fetch-blob.ts'
import type { ExchangeHandlers } from './handlers.ts'
import { headsTopic, judgeAnnouncement } from './heads.ts'
import { askCharter, askMembership } from './join.ts'
import { PROTOCOLS } from './protocols.ts'
import { Providers } from './providers.ts'
import { pullStatements } from './statements.ts'
import { SyncQueue } from './sync-queue.ts'
import { Turns } from './turns.ts'

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

/** Time between two pulls that nothing has asked for, ms. */
const REGULAR_PULL_MS = 20_000
/** Time that one member may take before the next one is asked as well, ms. */
const PATIENCE_MS = 2000
/**
 * When many members announce something at once, one pull brings what several of them have announced, if it is not too
 * early. Up to three others are asked without delay.
 */
const PULLS = { burst: 3, everyMs: 300 }
/** Syncs that may bring nothing leave time for the pulls: what one brings is mostly what the next would bring. */
const SYNCS = { burst: 3, everyMs: 1000 }
/** Time for which the addresses that a connected member has told are not asked for again, ms. */
const ADDRESSES_MS = 60_000

export class Exchange {
  #regular: ReturnType<typeof setInterval> | undefined
  /** The member of the last regular pull. */
  #pulledLast = ''
  readonly #blobs: BlobStore
  readonly #handlers: ExchangeHandlers
  readonly #network: Network
  /** Pulls of statements; each resolves with whether this node then holds everything that the member holds. */
  readonly #pulls: SyncQueue<boolean>
  /** Pulls of statements, checkpoints and addresses. */
  readonly #syncs: SyncQueue<void>
  /** Members that hold statements which this node lacks. */
  readonly #ahead: Turns
  /** What each of them has named in its last request. */
  readonly #named = new Map<PeerIdString, StatementsRequest>()
  /** Those that may hold statements of others, too, which they have relayed or nobody else had. */
  readonly #relays = new Set<PeerIdString>()
  /** Members that may have other news. */
  readonly #others: Turns
  /** When each member was asked for addresses last since it connected, ms. */
  readonly #toldAddresses = new Map<PeerIdString, number>()
  readonly #clock: () => number
  readonly #providers: Providers
  readonly #catchUp: CatchUp
  readonly #stopping = new AbortController()
  readonly #log: Log

  constructor(components: ExchangeComponents, init: ExchangeInit) {
    const { blobs, handlers } = components
    const log = (init.log ?? SILENT).part('exchange')
    this.#log = log
    this.#blobs = blobs
    this.#handlers = handlers
    this.#providers = new Providers(init.clock)
    this.#clock = init.clock
    this.#pulls = new SyncQueue((peer) => this.#pull(peer))
    this.#syncs = new SyncQueue((peer) => this.#sync(peer))
    this.#catchUp = new CatchUp({
      ask: (peer) => {
        this.#relays.add(peer)
        this.#ahead.add(peer)
      },
      peers: () => this.connectedMembers(),
      isBehind: () => handlers.isBehind(),
      isWaiting: () => this.#ahead.isWaiting,
    })
    this.#ahead = new Turns({
      visit: (peer) => this.#try(peer, this.#pulls.run(peer)),
      isDue: (peer) => this.#isAhead(peer),
      patienceMs: PATIENCE_MS,
      ...PULLS,
    })
    this.#others = new Turns({
      visit: (peer) => this.#try(peer, this.syncWith(peer)),
      isDue: () => true,
      patienceMs: PATIENCE_MS,
      ...SYNCS,
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
        onConnected: (peer) => {
          if (!this.#mayPullFrom(peer)) return
          this.#catchUp.restart()
          this.#toldAddresses.delete(peer)
          // Never rejects.
          void this.#try(peer, this.syncWith(peer))
        },
        onAnnouncement: (from) => this.#onAnnouncement(from),
      },
      signal: this.#stopping.signal,
      log: (init.log ?? SILENT).part('network'),
    })
    for (const { row, serve } of PROTOCOLS) {
      const pullFrom = (peer: PeerIdString, request: StatementsRequest): void => {
        if (!this.#mayPullFrom(peer)) return
        this.#named.set(peer, request)
        this.#ahead.add(peer)
      }
      this.#network.handle(row, serve({ handlers, blobs, network: this.#network, pullFrom }))
    }
  }

  /** @throws InputError `port-in-use`. */
  async start(): Promise<void> {
    await this.#network.start()
    this.#regular = setInterval(() => this.#pullFromNext(), REGULAR_PULL_MS)
    this.#regular.unref()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    clearInterval(this.#regular)
    this.#catchUp.stop()
    this.#ahead.stop()
    this.#others.stop()
    await this.#syncs.settled()
    await this.#pulls.settled()
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
    return this.#syncs.run(peer)
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
    const signal = AbortSignal.any([options.signal, this.#stopping.signal])
    const { onProgress } = options
    await fetchBlob(this.#network, this.#blobs, ref, peers, {
      signal,
      providers: this.#providers,
      ...(onProgress === undefined ? {} : { onProgress }),
    })
  }

  /** Whether this node knows of statements that it has not received yet. */
  get isCatchingUp(): boolean {
    return this.#ahead.isWaiting || this.#handlers.isBehind()
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

  async #pull(peer: PeerIdString): Promise<boolean> {
    try {
      return await pullStatements(this.#network, peer, this.#handlers, this.#stopping.signal)
    } finally {
      this.#handlers.onPulled(peer)
    }
  }

  async #sync(peer: PeerIdString): Promise<void> {
    const isComplete = await this.#pulls.run(peer)
    if (!this.#handlers.isMember(peer)) return // Revoked: it may have withdrawn its experts, and that is all.
    await this.#learnCheckpoints(peer)
    await this.#learnAddresses(peer)
    this.#handlers.onSynced(peer, await this.#network.knownAddresses(), isComplete)
  }

  /** Nothing but finality depends on checkpoints, so a sync is complete without them. Rejects only after `stop`. */
  async #learnCheckpoints(peer: PeerIdString): Promise<void> {
    const { signal } = this.#stopping
    try {
      await pullCheckpoints(this.#network, peer, this.#handlers, signal)
    } catch (error) {
      if (signal.aborted) throw error
      this.#log.debug(`the checkpoints that ${peer} knows were not learned`, error)
    }
  }

  /** Addresses are hints, so a sync is complete without those that `peer` knows. Rejects only after `stop`. */
  async #learnAddresses(peer: PeerIdString): Promise<void> {
    const { signal } = this.#stopping
    const last = this.#toldAddresses.get(peer)
    if (last !== undefined && this.#clock() - last < ADDRESSES_MS) return
    try {
      const others = await askAddresses(this.#network, peer, signal)
      await Promise.all(others.map((other) => this.#network.learn(other, peer)))
      this.#toldAddresses.set(peer, this.#clock())
    } catch (error) {
      if (signal.aborted) throw error
      this.#log.debug(`the addresses that ${peer} knows were not learned`, error)
    }
  }

  /** Sync with each connected member in turn: an announcement may be lost. */
  #pullFromNext(): void {
    const members = this.connectedMembers().sort()
    const next = members.find((peer) => peer > this.#pulledLast) ?? members[0]
    if (next === undefined) return
    this.#pulledLast = next
    this.#others.add(next)
  }

  /** A head that names no statement which this node lacks may announce a roster, a fork or a checkpoint. */
  #onAnnouncement(from: PeerIdString): void {
    if (!this.#mayPullFrom(from)) return
    this.#catchUp.restart()
    const { isBehind } = this.#handlers
    if (!isBehind()) {
      this.#others.add(from)
      return
    }
    if (!isBehind(from)) this.#relays.add(from)
    this.#ahead.add(from)
  }

  /** Whether this node lacks something that it expects of a member whose turn has come. */
  #isAhead(peer: PeerIdString): boolean {
    const { isBehind, isAhead } = this.#handlers
    const request = this.#named.get(peer)
    this.#named.delete(peer)
    const isRelay = this.#relays.delete(peer)
    return isBehind(isRelay ? undefined : peer) || (request !== undefined && isAhead(request, peer))
  }

  /** Never rejects: what fails is tried again later, or with the next connection. */
  async #try(peer: PeerIdString, pull: Promise<unknown>): Promise<void> {
    try {
      await pull
    } catch (error) {
      this.#log.debug(`the sync with ${peer} failed`, error)
    }
    this.#catchUp.asked()
  }

  /** Members, and those that were revoked: their withdrawals count whenever they are signed. */
  #mayPullFrom(peer: PeerIdString): boolean {
    const { isMember, isRevoked } = this.#handlers
    return !this.#stopping.signal.aborted && (isMember(peer) || isRevoked(peer))
  }
}
