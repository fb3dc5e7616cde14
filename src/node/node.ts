/**
 * A node as commands, tests and benchmarks see it: opened on a home folder, started with its network, closed. What it is
 * asked to do is a function over its parts in another file; this file starts and stops them, and does not know how they
 * work. pipeline.ts shows the path of an expert through the parts.
 */
import '../lib/node20.ts'
import type { AcceptedExperts } from '../acceptance/accepted-experts.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { Composer } from '../composition/composer.ts'
import type { ProposedChange } from '../consortium/change.ts'
import type { Charter } from '../consortium/charter.ts'
import type { Answer } from '../consortium/endorsement.ts'
import type { ProposalState } from '../consortium/governance.ts'
import type { RevocationReason } from '../consortium/member.ts'
import type { Membership } from '../consortium/membership.ts'
import type { PromptEncoder } from '../data/prompt-encoder.ts'
import type { Identity } from '../identity/keys.ts'
import type { JobThreads } from '../jobs/threads.ts'
import type { Digest } from '../lib/bytes.ts'
import { finishForgetting } from '../owner/private-data.ts'
import type { PublishRequest } from '../owner/release.ts'
import type { Trainings } from '../owner/trainings.ts'
import type { PublishOptions } from '../pipeline/before-signing.ts'
import { spreadNews } from '../pipeline/forks.ts'
import { answer, leave, propose } from '../pipeline/own-decisions.ts'
import { announce } from '../pipeline/own-log.ts'
import type { Parts } from '../pipeline/parts.ts'
import { answerWithdrawals } from '../pipeline/receipts.ts'
import { ingest, supersedeOlder, withdraw } from '../pipeline.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { DiskQuota } from '../store/disk-quota.ts'
import type { FileVerifier } from '../store/file-verifier.ts'
import type { HomePaths, Settings } from '../store/home.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import type { Engine } from '../tensor/engine.ts'
import type { CosignedLogs } from '../transparency/cosigned-logs.ts'
import type { Activities } from './activities.ts'
import { type Approval, approve } from './approval.ts'
import { buildParts } from './build-parts.ts'
import { type MemberLink, memberLinks } from './contacts.ts'
import { announcing, type Revocation, revoke } from './decisions.ts'
import type { NodeEgress } from './egress.ts'
import type { NodeInit } from './init.ts'
import { invite } from './invitation.ts'
import { LastSeen } from './last-seen.ts'
import { checkListenAddress } from './listen-address.ts'
import { connect, type MemberContact } from './moved-member.ts'
import { NodeNetwork } from './node-network.ts'
import { type OpenHome, openHome } from './open-home.ts'
import { type PackageReport, packageReports } from './packages.ts'
import { publish } from './publishing.ts'
import { restore } from './restore.ts'
import { SyncWatch } from './sync-watch.ts'
import { Upkeep } from './upkeep.ts'
import { verifierOf } from './verification.ts'
import { type WithdrawalReport, withdrawalReports } from './withdrawals.ts'

export class FlexMeshNode {
  /** The parts of the node, for the functions that take them. */
  readonly parts: Parts
  readonly identity: Identity
  readonly settings: Settings
  readonly paths: HomePaths
  /** Options that lead a command to this home, for commands in messages. */
  readonly homeOptions: readonly string[]
  readonly publicModel: PublicModel
  /** Encodes prompts without holding the event loop. */
  readonly prompts: PromptEncoder
  readonly catalogue: Catalogue
  readonly engine: Engine
  readonly membership: Membership
  /** Runs long computations and lists those that run. */
  readonly activities: Activities
  readonly trainings: Trainings
  readonly accepted: AcceptedExperts
  readonly composer: Composer
  /** Checkpoints of the logs of all members. */
  readonly logs: CosignedLogs
  /** Unix seconds. */
  readonly now: () => number
  /** Reads the stored files again, slowly, while the node runs. */
  readonly verifier: FileVerifier
  /** Records what leaves the node. */
  readonly egress: NodeEgress
  /** Limit on the size of the home folder; undefined if only the disk limits it. */
  readonly quota: DiskQuota | undefined
  /** What members have told and received since the node started. */
  readonly watch = new SyncWatch()
  readonly #encrypter: NodeInit['encrypter']
  readonly #log: Log
  readonly #network = new NodeNetwork()
  readonly #lastSeen: LastSeen
  readonly #upkeep: Upkeep
  readonly #failure = Promise.withResolvers<never>()
  readonly #stopping = new AbortController()
  readonly #threads: JobThreads | undefined

  private constructor(init: NodeInit, home: OpenHome) {
    const { identity, settings, paths, publicModel, catalogue, membership } = home
    const { now, onEvent = () => undefined } = init
    const log = init.log ?? SILENT
    const { signal } = this.#stopping
    const built = buildParts({ init, home, network: this.#network, signal })
    const { parts } = built
    this.parts = parts
    this.identity = identity
    this.settings = settings
    this.paths = paths
    this.homeOptions = init.homeOptions ?? []
    this.publicModel = publicModel
    this.prompts = built.prompts
    this.catalogue = catalogue
    this.engine = init.engine
    this.membership = membership
    this.activities = built.activities
    this.trainings = parts.trainings
    this.accepted = parts.accepted
    this.composer = parts.composer
    this.logs = parts.logs
    this.now = now
    this.egress = built.egress
    this.quota = built.quota
    this.#encrypter = init.encrypter
    this.#log = log.part('node')
    this.#threads = built.threads
    this.#lastSeen = new LastSeen(catalogue, now)
    this.#failure.promise.catch(() => undefined)
    const onEnd = this.#failure.reject
    this.verifier = verifierOf({ parts, catalogue, publicModel: paths.publicModel, onEnd })
    this.#upkeep = new Upkeep({
      parts,
      verifier: this.verifier,
      withdrawals: () => this.withdrawals(),
      onEvent,
      log: this.#log,
    })
  }

  /** @throws InputError `no-home`, `home-in-use`, `not-a-member` if the home belongs to no consortium. */
  static async open(init: NodeInit): Promise<FlexMeshNode> {
    const home = await openHome(init)
    try {
      const node = new FlexMeshNode(init, home)
      await finishForgetting(node.paths.training)
      await restore(node.parts)
      return node
    } catch (error) {
      await home.catalogue.close()
      throw error
    }
  }

  /** Start the network. @throws InputError `port-in-use`. */
  async start(listen: readonly string[] = this.settings.listen): Promise<void> {
    const { parts, settings, watch } = this
    for (const address of listen) checkListenAddress(address)
    await supersedeOlder(parts)
    const egress = await this.egress.start()
    await answerWithdrawals(parts)
    await this.#network.start({
      parts,
      settings,
      listen,
      lastSeen: this.#lastSeen,
      watch,
      egress,
      encrypter: this.#encrypter,
      log: this.#log,
    })
    await this.#upkeep.start()
  }

  /** What is due every hour: see `Upkeep`. */
  upkeep(): Promise<void> {
    return this.#upkeep.run()
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    this.#upkeep.stop()
    try {
      await this.#network.stop()
      await this.egress.close()
      await this.#network.settled()
      await this.settled()
      await this.verifier.stopped()
      await this.parts.signing.idle()
      await this.composer.dispose()
      await this.prompts.close()
      await this.#threads?.close()
    } finally {
      await this.catalogue.close()
    }
  }

  /**
   * Never resolves; whoever keeps the node running waits for it.
   * @throws InputError `io` once the node must stop because its public model is damaged.
   */
  get failure(): Promise<never> {
    return this.#failure.promise
  }

  /** Whether the home was copied or restored and no member has been reached since, so that nothing is signed. */
  get isCopied(): boolean {
    return this.parts.mark.isCopied
  }

  get charter(): Charter {
    return this.membership.charter
  }

  get consortium(): Digest {
    return this.membership.consortium
  }

  /** Whether the node has a network. Commands also open nodes without one. */
  get isRunning(): boolean {
    return this.#network.isRunning
  }

  /** Whether `close` was called. */
  get isStopping(): boolean {
    return this.#stopping.signal.aborted
  }

  /** Multiaddrs at which others reach this node; empty before `start`. */
  addresses(): string[] {
    return this.#network.addresses()
  }

  /** The seats of the connected members. */
  connectedMembers(): string[] {
    const { keys } = this.membership
    return [...new Set(this.#network.connectedMembers().map((peer) => keys.seatOf(peer) ?? peer))]
  }

  /** See `memberLinks` of contacts.ts. */
  memberLinks(): Promise<Map<string, MemberLink>> {
    return memberLinks(this.membership, this.#network.links(), this.#lastSeen)
  }

  /** See `connect` of moved-member.ts. */
  connect(address: string, signal: AbortSignal): Promise<MemberContact> {
    const { paths, membership, identity } = this
    return connect({ paths, membership, self: identity.peerId, dial: this.#network.dial }, address, signal)
  }

  /** Resolves when every package received so far is judged or waits for a retry. */
  settled(): Promise<void> {
    return this.parts.queue.settled()
  }

  /** See `invite` of invitation.ts. */
  invite(lifetime?: number): Promise<string> {
    return invite(this, lifetime)
  }

  /** See `approve` of approval.ts. */
  approve(who?: string): Promise<Approval> {
    return announcing(this.parts, () => approve(this.parts, who))
  }

  /** See `propose` of pipeline/own-decisions.ts. */
  propose(change: ProposedChange, lifetime?: number): Promise<ProposalState> {
    return announcing(this.parts, () => propose(this.parts, change, lifetime))
  }

  /** See `answer` of pipeline/own-decisions.ts. */
  answer(proposal: string, given: Answer): Promise<ProposalState> {
    return announcing(this.parts, () => answer(this.parts, proposal, given))
  }

  /** See `leave` of pipeline/own-decisions.ts. */
  leave(validThroughSeq?: number): Promise<Digest> {
    return announcing(this.parts, () => leave(this.parts, validThroughSeq))
  }

  /** See `revoke` of decisions.ts. */
  revoke(who: string, reason: RevocationReason, validThroughSeq?: number): Promise<Revocation> {
    return revoke(this.parts, who, reason, validThroughSeq)
  }

  /** Sign a new head and announce it to connected members. */
  announce(): Promise<void> {
    return announce(this.parts)
  }

  /** Ingest a statement as `ingest` of pipeline.ts, and act on what it has changed. */
  async ingest(envelope: Uint8Array): Promise<boolean> {
    const isNew = await ingest(this.parts, envelope)
    await answerWithdrawals(this.parts)
    await spreadNews(this.parts)
    return isNew
  }

  /** See `publish` of publishing.ts. */
  publish(request: PublishRequest, options?: PublishOptions): ReturnType<typeof publish> {
    return publish(this.parts, request, options)
  }

  /** See `withdraw` of pipeline.ts. */
  withdraw(name: string, alone = false): Promise<Digest[]> {
    return withdraw(this.parts, name, alone)
  }

  /** Whether a member has signed two different histories, so that none of its packages is used. */
  isForked(peerId: string): boolean {
    return this.parts.statements.isForked(peerId)
  }

  /** See `withdrawalReports` of withdrawals.ts. */
  withdrawals(): Promise<WithdrawalReport[]> {
    const connected = new Set(this.connectedMembers())
    return withdrawalReports(this.parts, { connected, lastSeen: this.#lastSeen })
  }

  /** See `packageReports` of packages.ts. */
  packages(): Promise<PackageReport[]> {
    return packageReports(this.parts)
  }
}
