/**
 * Decides which member is asked when: after it has connected, announced something or asked for something itself, and one
 * after the other when nothing has happened. Does not know what statements mean.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { Network } from '../network/network.ts'
import type { StatementsRequest } from '../statements/log-answers.ts'
import type { Log } from '../telemetry/log.ts'
import { askAddresses } from './addresses.ts'
import { CatchUp } from './catch-up.ts'
import { pullCheckpoints } from './checkpoints.ts'
import type { ExchangeHandlers } from './handlers.ts'
import { pullStatements } from './statements.ts'
import { SyncQueue } from './sync-queue.ts'
import { Turns } from './turns.ts'

export interface SyncsInit {
  readonly network: () => Pick<Network, 'ask' | 'connectedPeers' | 'knownAddresses' | 'learn'>
  readonly handlers: ExchangeHandlers
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** Ends everything. */
  readonly signal: AbortSignal
  readonly log: Log
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

export class Syncs {
  readonly #init: SyncsInit
  readonly #handlers: ExchangeHandlers
  #regular: ReturnType<typeof setInterval> | undefined
  /** The member of the last regular sync. */
  #askedLast = ''
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
  readonly #catchUp: CatchUp

  constructor(init: SyncsInit) {
    const { handlers } = init
    this.#init = init
    this.#handlers = handlers
    this.#pulls = new SyncQueue((peer) => this.#pull(peer))
    this.#syncs = new SyncQueue((peer) => this.#sync(peer))
    this.#catchUp = new CatchUp({
      ask: (peer) => {
        this.#relays.add(peer)
        this.#ahead.add(peer)
      },
      peers: () => this.#connectedMembers(),
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
  }

  start(): void {
    this.#regular = setInterval(() => this.#syncWithNext(), REGULAR_PULL_MS)
    this.#regular.unref()
  }

  /** Call this once the signal has aborted. Resolves when nothing is asked any more. */
  async stop(): Promise<void> {
    clearInterval(this.#regular)
    this.#catchUp.stop()
    this.#ahead.stop()
    this.#others.stop()
    await this.#syncs.settled()
    await this.#pulls.settled()
  }

  /** Whether this node knows of statements that it has not received yet. */
  get isCatchingUp(): boolean {
    return this.#ahead.isWaiting || this.#handlers.isBehind()
  }

  /** See `Exchange.syncWith`. */
  syncWith(peer: PeerIdString): Promise<void> {
    return this.#syncs.run(peer)
  }

  onConnected(peer: PeerIdString): void {
    if (!this.#mayAsk(peer)) return
    this.#catchUp.restart()
    this.#toldAddresses.delete(peer)
    // Never rejects.
    void this.#try(peer, this.syncWith(peer))
  }

  /** A member has asked, and named what this node lacked. */
  onRequest(peer: PeerIdString, request: StatementsRequest): void {
    if (!this.#mayAsk(peer)) return
    this.#named.set(peer, request)
    this.#ahead.add(peer)
  }

  async #pull(peer: PeerIdString): Promise<boolean> {
    try {
      return await pullStatements(this.#init.network(), peer, this.#handlers, this.#init.signal)
    } finally {
      this.#handlers.onPulled(peer)
    }
  }

  async #sync(peer: PeerIdString): Promise<void> {
    const isComplete = await this.#pulls.run(peer)
    if (!this.#handlers.isMember(peer)) return // Revoked: it may have withdrawn its experts, and that is all.
    await this.#learnCheckpoints(peer)
    await this.#learnAddresses(peer)
    this.#handlers.onSynced(peer, await this.#init.network().knownAddresses(), isComplete)
  }

  /** Nothing but finality depends on checkpoints, so a sync is complete without them. Rejects only after `stop`. */
  async #learnCheckpoints(peer: PeerIdString): Promise<void> {
    const { signal } = this.#init
    try {
      await pullCheckpoints(this.#init.network(), peer, this.#handlers, signal)
    } catch (error) {
      if (signal.aborted) throw error
      this.#init.log.debug(`the checkpoints that ${peer} knows were not learned`, error)
    }
  }

  /** Addresses are hints, so a sync is complete without those that `peer` knows. Rejects only after `stop`. */
  async #learnAddresses(peer: PeerIdString): Promise<void> {
    const { signal } = this.#init
    const last = this.#toldAddresses.get(peer)
    if (last !== undefined && this.#init.clock() - last < ADDRESSES_MS) return
    try {
      const others = await askAddresses(this.#init.network(), peer, signal)
      await Promise.all(others.map((other) => this.#init.network().learn(other, peer)))
      this.#toldAddresses.set(peer, this.#init.clock())
    } catch (error) {
      if (signal.aborted) throw error
      this.#init.log.debug(`the addresses that ${peer} knows were not learned`, error)
    }
  }

  /** Sync with each connected member in turn: an announcement may be lost. */
  #syncWithNext(): void {
    const members = this.#connectedMembers().sort()
    const next = members.find((peer) => peer > this.#askedLast) ?? members[0]
    if (next === undefined) return
    this.#askedLast = next
    this.#others.add(next)
  }

  onAnnouncement(from: PeerIdString): void {
    if (!this.#mayAsk(from)) return
    this.#catchUp.restart()
    const { isBehind } = this.#handlers
    // A head that names no statement which this node lacks may announce a roster, a fork or a checkpoint.
    if (!isBehind(from)) this.#others.add(from)
    if (!isBehind()) return
    // It may also be the head of another member, which this one has relayed.
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
      this.#init.log.debug(`the sync with ${peer} failed`, error)
    }
    this.#catchUp.asked()
  }

  /** Members, and those that were revoked: their withdrawals count whenever they are signed. */
  #mayAsk(peer: PeerIdString): boolean {
    const { isMember, isRevoked } = this.#handlers
    return !this.#init.signal.aborted && (isMember(peer) || isRevoked(peer))
  }

  #connectedMembers(): PeerIdString[] {
    return this.#init
      .network()
      .connectedPeers()
      .filter((peer) => this.#handlers.isMember(peer))
  }
}
