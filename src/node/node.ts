/**
 * Builds the parts of a node from its home folder, connects them, and starts and stops them. Each part is explained in
 * its own file; pipeline.ts shows the path of an expert through them.
 */
import '../lib/node20.ts'
import type { OpenedManifest } from '../acceptance/accept.ts'
import { type AcceptedExpert, AcceptedExperts } from '../acceptance/accepted-experts.ts'
import { type PackageState, PackageStates } from '../acceptance/package-states.ts'
import { policyWith } from '../acceptance/policy.ts'
import { AcceptanceQueue } from '../acceptance/queue.ts'
import { Standing } from '../acceptance/standing.ts'
import { Verdicts } from '../acceptance/verdicts.ts'
import { WithdrawnWeights } from '../acceptance/withdrawn-weights.ts'
import { loadPublicModel, type PublicModel } from '../checkpoint/public-model.ts'
import { DEFAULT_TOP_K } from '../composition/compose.ts'
import { Composer } from '../composition/composer.ts'
import { Exports } from '../composition/exports.ts'
import { seated } from '../composition/seats.ts'
import { UpstreamComposition } from '../composition/upstream-composition.ts'
import type { ProposedChange } from '../consortium/change.ts'
import type { Charter } from '../consortium/charter.ts'
import type { Answer } from '../consortium/endorsement.ts'
import type { ProposalState } from '../consortium/governance.ts'
import type { KeysStatement } from '../consortium/keys-statement.ts'
import type { RevocationReason } from '../consortium/member.ts'
import { Membership } from '../consortium/membership.ts'
import { PromptEncoder } from '../data/prompt-encoder.ts'
import { Exchange } from '../exchange/exchange.ts'
import { loadIdentity } from '../identity/key-file.ts'
import type { Identity } from '../identity/keys.ts'
import { NODE_JOBS } from '../jobs/table.ts'
import { JobThreads } from '../jobs/threads.ts'
import type { Digest } from '../lib/bytes.ts'
import { ExchangeError, InputError } from '../lib/errors.ts'
import { inlineJobs } from '../lib/jobs.ts'
import { Serial } from '../lib/serial.ts'
import { parseAddress } from '../network/address.ts'
import type { Derivation } from '../owner/pack-training.ts'
import { finishForgetting } from '../owner/private-data.ts'
import { type PublishRequest, type ReleaseSummary, summarizeRelease } from '../owner/release.ts'
import { Trainings } from '../owner/trainings.ts'
import {
  checkCaughtUp,
  isBehind,
  mustCatchUp,
  type Publication,
  type PublishOptions,
} from '../pipeline/before-signing.ts'
import { spreadNews } from '../pipeline/forks.ts'
import { packagesOf, unjudged } from '../pipeline/judging.ts'
import { acceptKeys, type KeyRequest, requestKeys } from '../pipeline/key-request.ts'
import { answer, leave, propose } from '../pipeline/own-decisions.ts'
import { announce } from '../pipeline/own-log.ts'
import { OwnLogClaims } from '../pipeline/own-log-claims.ts'
import type { Parts } from '../pipeline/parts.ts'
import { answerWithdrawals } from '../pipeline/receipts.ts'
import { type NextKeys, stateKeys } from '../pipeline/state-keys.ts'
import {
  ingest,
  prepare,
  previewPublication,
  publish,
  supersedeOlder,
  upkeep,
  withdraw,
} from '../pipeline.ts'
import { StatementLog } from '../statements/statement-log.ts'
import { WithdrawalLedger } from '../statements/withdrawal-ledger.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue, rosterKey } from '../store/catalogue.ts'
import { DiskQuota, folderBytes } from '../store/disk-quota.ts'
import { DiskSpace } from '../store/disk-space.ts'
import type { FileVerifier } from '../store/file-verifier.ts'
import { type HomePaths, homePaths, loadSettings, type Settings } from '../store/home.ts'
import { HomeMark } from '../store/home-mark.ts'
import { HOME_VERSION, upgradeHome } from '../store/home-version.ts'
import { SILENT } from '../telemetry/log.ts'
import type { Engine } from '../tensor/engine.ts'
import { CheckpointNotes } from '../transparency/checkpoint-notes.ts'
import type { CosignedLogs } from '../transparency/cosigned-logs.ts'
import { Activities } from './activities.ts'
import { rememberedAddresses } from './address-book.ts'
import { loadApplication } from './application.ts'
import { type Approval, approve } from './approval.ts'
import { type ExportedBundle, exportAudit } from './audit-export.ts'
import { ConsentWarnings, type EndingConsent, endingConsents } from './consent-warnings.ts'
import { type MemberLink, memberLinks } from './contacts.ts'
import { Cosigning, cosignedLogs } from './cosigning.ts'
import { NodeEgress } from './egress.ts'
import { exchangeHandlers } from './exchange-handlers.ts'
import { findGarbage, type Garbage, removeGarbage } from './garbage.ts'
import type { NodeInit } from './init.ts'
import { inviteAddresses } from './invite-addresses.ts'
import { LastSeen } from './last-seen.ts'
import { checkListenAddress } from './listen-address.ts'
import { connect, type MemberContact } from './moved-member.ts'
import { checkNoPendingKey } from './node-key.ts'
import { type NodeKeyEnd, NodeKeyWarnings, nodeKeyEnd } from './node-key-warnings.ts'
import { reconsider, refuse } from './operator.ts'
import { outcomesOf, type PackageReport, packageReports, standingPackages } from './packages.ts'
import { repairPublicModel } from './public-model-damage.ts'
import { restore } from './restore.ts'
import { SyncWatch } from './sync-watch.ts'
import { requeueValid } from './validity.ts'
import { verifierOf } from './verification.ts'
import { WithdrawalReminders } from './withdrawal-reminders.ts'
import { type WithdrawalReport, withdrawalReports } from './withdrawals.ts'

/** Time between two checks for expired consent and for packages that wait for a retry, ms. */
const UPKEEP_MS = 3_600_000
/** Time between two verifications of all stored files, seconds. */
const VERIFIED_EVERY = 7 * 86_400
const EXAMPLE_ADDRESS = '/ip4/0.0.0.0/tcp/4001'

/** The parts that `open` reads from a home folder. */
interface Opened {
  readonly identity: Identity
  readonly settings: Settings
  readonly publicModel: PublicModel
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly membership: Membership
  readonly statements: StatementLog
  readonly notes: CheckpointNotes
  readonly mark: HomeMark
}

export class FlexMeshNode {
  readonly identity: Identity
  readonly settings: Settings
  readonly paths: HomePaths
  readonly publicModel: PublicModel
  /** Encodes prompts without holding the event loop. */
  readonly prompts: PromptEncoder
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly engine: Engine
  readonly membership: Membership
  /** Runs long computations, in threads if the node was opened with them, otherwise here; and tells which ones run. */
  readonly activities: Activities
  readonly trainings: Trainings
  readonly verdicts: Verdicts
  readonly states = new PackageStates()
  readonly accepted: AcceptedExperts
  readonly composer: Composer
  /** Models that this node has exported. */
  readonly exports: Exports
  /** The composition of the server that this node stands in front of. */
  readonly upstream = new UpstreamComposition()
  /** Unix seconds. */
  readonly now: () => number
  /** Reads the stored files again, slowly, while the node runs. */
  readonly verifier: FileVerifier
  /** Records what leaves the node. */
  readonly egress: NodeEgress
  /** What the home folder may take; undefined if only the disk limits it. */
  readonly quota: DiskQuota | undefined
  readonly #init: NodeInit
  readonly #parts: Parts
  readonly #lastSeen: LastSeen
  readonly #failure = Promise.withResolvers<never>()
  readonly #stopping = new AbortController()
  readonly #threads: JobThreads | undefined
  /** What members have told and received since the node started. */
  readonly #watch = new SyncWatch()
  readonly #consentWarnings = new ConsentWarnings()
  readonly #nodeKeyWarnings = new NodeKeyWarnings()
  readonly #withdrawalReminders = new WithdrawalReminders()
  #exchange: Exchange | undefined
  #cosigning: Cosigning | undefined
  #upkeep: ReturnType<typeof setInterval> | undefined
  /** When the latest verification of the stored files began, Unix seconds. */
  #verifiedSince = 0

  private constructor(init: NodeInit, opened: Opened) {
    const { identity, settings, publicModel, catalogue, blobs, membership, statements } = opened
    const { engine, now } = init
    const onEvent = init.onEvent ?? (() => undefined)
    const log = init.log ?? SILENT
    const { signal } = this.#stopping
    const policy = {
      ...policyWith(settings.maxEpsilonMicro, init.policy),
      requireFinal: init.requireFinal ?? init.policy?.requireFinal ?? false,
    }
    this.#init = init
    this.paths = homePaths(init.home)
    this.identity = identity
    this.settings = settings
    this.publicModel = publicModel
    this.prompts = new PromptEncoder(publicModel.tokenizer, publicModel.chatTemplate)
    this.catalogue = catalogue
    this.blobs = blobs
    this.engine = engine
    this.membership = membership
    this.now = now
    this.egress = new NodeEgress({
      dir: this.paths.egress,
      identity,
      wasOwnKey: (key) => membership.keys.seatEverOf(key) === membership.seat,
      catalogue,
      now,
      log: log.part('egress'),
    })
    const institutionOf = (publisher: string): string => membership.institutionOf(publisher)
    const { training, root } = this.paths
    this.#threads =
      init.jobThreads === undefined
        ? undefined
        : new JobThreads({ engine: init.jobThreads, publicModel: this.paths.publicModel, training, root })
    this.activities = new Activities({
      jobs: this.#threads ?? inlineJobs(NODE_JOBS, { engine, publicModel, training, blobs }),
      institutionOf,
      onEvent,
      now,
    })
    this.trainings = new Trainings(this.activities, publicModel, training, signal)
    this.verdicts = new Verdicts({
      catalogue,
      institutionOf,
      onVerdict: (verdict, institution) => onEvent({ event: 'verdict', institution, verdict }),
    })
    this.accepted = new AcceptedExperts({
      config: publicModel.config,
      catalogue,
      blobs,
      verdicts: this.verdicts,
      keep: new Set(membership.charter.publicModel.files.map(({ sha256 }) => sha256)),
      institutionOf,
      mayPublish: (publisher, seq) => membership.mayPublish(publisher, seq),
      isForked: (publisher) => statements.isForked(publisher),
      now,
      log: log.part('acceptance'),
    })
    const quota = init.maxDisk === undefined ? undefined : new DiskQuota(init.home, init.maxDisk)
    this.quota = quota
    const space = new DiskSpace(blobs.dir, undefined, quota)
    const publicStatistics = () => this.trainings.publicStatistics()
    const topK = init.topK ?? DEFAULT_TOP_K
    const router = init.router ?? 'auto'
    this.composer = new Composer({
      engine,
      publicModel,
      publicModelDigest: membership.charter.publicModel.digest,
      topK,
      router,
      weights: init.weights ?? 'auto',
      memory: init.memory,
      codes: blobs.codes,
      experts: () => seated(this.#usable()),
      publicStatistics,
      onComposed: ({ digest, experts, router, routerNote }) => {
        const institutions = experts.map(({ institution }) => institution)
        onEvent({ event: 'composed', digest, experts: institutions, router, routerNote })
      },
      log: log.part('composition'),
    })
    this.exports = new Exports(catalogue, log.part('exports'))
    this.#lastSeen = new LastSeen(catalogue, now)
    this.#parts = {
      catalogue,
      ledger: new WithdrawalLedger(),
      exports: this.exports,
      upstream: this.upstream,
      claims: new OwnLogClaims(),
      withdrawnWeights: new WithdrawnWeights({
        catalogue,
        arrivedAt: (id) => statements.arrivedAt(id),
        packagesOf: (publisher) => packagesOf(statements, publisher),
      }),
      identity,
      publicModel,
      blobs,
      membership,
      statements,
      ...cosignedLogs({
        ...opened,
        maySign: () => init.actAs === undefined && !mustCatchUp(this.#parts),
        now,
        onEvent,
        onFinal: (publisher) => {
          if (publisher === membership.seat) this.#cosigning?.spread()
          else if (policy.requireFinal) this.#parts.queue.retry()
        },
      }),
      trainings: this.trainings,
      mark: opened.mark,
      policy,
      jobs: this.activities,
      queue: new AcceptanceQueue({
        prepare: (queued, inner) => prepare(this.#parts, queued, inner),
        unjudged: (publisher, fromSeq, max) => unjudged(this.#parts, publisher, fromSeq, max),
        states: this.states,
        freeBytes: () => space.free(),
        log: log.part('acceptance'),
        signal,
      }),
      states: this.states,
      space,
      verdicts: this.verdicts,
      accepted: this.accepted,
      standing: new Standing(policy.maxPackagesPerPublisher, now),
      composer: this.composer,
      signing: new Serial(),
      fetch: (file, { signal: caller, onProgress }) =>
        this.#network().fetch(file, {
          signal: caller,
          onProgress: ({ doneChunks }) => onProgress(Math.min(doneChunks * file.chunkSize, file.size)),
        }),
      news: { isPending: false },
      sendHead: async (head) => this.#exchange?.announce(head),
      requestCosignatures: () => this.#cosigning?.request(),
      disconnect: async (peer) => this.#exchange?.disconnect(peer),
      log: log.part('pipeline'),
      onEvent,
      now,
      signal,
    }
    this.#failure.promise.catch(() => undefined)
    this.verifier = verifierOf({
      parts: this.#parts,
      catalogue,
      publicModel: this.paths.publicModel,
      onEnd: this.#failure.reject,
    })
  }

  /**
   * Never resolves; whoever keeps the node running waits for it.
   * @throws InputError `io` once the node must stop because its public model is damaged.
   */
  get failure(): Promise<never> {
    return this.#failure.promise
  }

  /** @throws InputError `no-home`, `home-in-use`, `not-a-member` if the home belongs to no consortium. */
  static async open(init: NodeInit): Promise<FlexMeshNode> {
    const paths = homePaths(init.home)
    const { now } = init
    const settings = await loadSettings(paths)
    // Before the key: whoever finds the home in use should not be asked for a passphrase.
    const catalogue = await Catalogue.open(paths.root, init.command)
    try {
      const home = await loadIdentity(paths.key, init.passphrase)
      const version = await upgradeHome(paths)
      if (version < HOME_VERSION)
        init.log?.info(`the home folder was upgraded from version ${version} to ${HOME_VERSION}`)
      const charterEnvelope = await catalogue.get('rosters', rosterKey(0))
      if (charterEnvelope === undefined) {
        const applied = await loadApplication(paths)
        throw new InputError(
          'not-a-member',
          applied === undefined
            ? `${init.home} belongs to no consortium; run "flexmesh consortium create" or "flexmesh join INVITE"`
            : `${init.home} has applied for membership in "${applied}", which a founder has not approved; run "flexmesh join" with the same invitation to go on waiting`,
        )
      }
      const onEvent = init.onEvent ?? (() => undefined)
      const openBooks = async (identity: Identity) => {
        const membership = await Membership.open({ identity, catalogue, charterEnvelope, now, onEvent })
        const statements = await StatementLog.open({ identity, catalogue, membership, now })
        return { identity, membership, statements }
      }
      let books = await openBooks(home)
      if (init.actAs === undefined) await checkNoPendingKey(paths, books.membership)
      else books = await openBooks(await init.actAs(books.membership, home))
      const { identity, membership, statements } = books
      const blobs = await BlobStore.open(paths.root)
      await repairPublicModel(catalogue, blobs, paths.publicModel, membership.charter.publicModel.files)
      const publicModel = await loadPublicModel(paths.publicModel)
      const mark = await HomeMark.open(paths.root, catalogue)
      const notes = await CheckpointNotes.open(catalogue, membership)
      if (init.actAs === undefined) await notes.stateWitnessKey(identity, now())
      const opened = {
        identity,
        settings,
        publicModel,
        catalogue,
        blobs,
        membership,
        statements,
        notes,
        mark,
      }
      const node = new FlexMeshNode(init, opened)
      await finishForgetting(node.paths.training)
      await restore(node.#parts)
      return node
    } catch (error) {
      await catalogue.close()
      throw error
    }
  }

  /** Start the network. @throws InputError `port-in-use`. */
  async start(listen: readonly string[] = this.settings.listen): Promise<void> {
    const { queue } = this.#parts
    const log = (this.#init.log ?? SILENT).part('node')
    for (const address of listen) checkListenAddress(address)
    const bootstrap = this.settings.bootstrap.filter((address) => parseAddress(address) !== undefined)
    if (bootstrap.length < this.settings.bootstrap.length)
      log.warn('settings.json: addresses under "bootstrap" that cannot be read are ignored')
    await supersedeOlder(this.#parts)
    const egress = await this.egress.start()
    await answerWithdrawals(this.#parts)
    const exchange = new Exchange(
      { blobs: this.blobs, handlers: exchangeHandlers(this.#parts, this.#lastSeen, this.#watch, log) },
      {
        identity: this.identity,
        consortium: this.consortium,
        listen,
        bootstrap,
        mdns: this.settings.mdns,
        remembered: await rememberedAddresses(this.catalogue, log),
        clock: () => performance.now(),
        egress,
        log,
        ...(this.#init.encrypter === undefined ? {} : { encrypter: this.#init.encrypter }),
      },
    )
    await exchange.start()
    this.#exchange = exchange
    this.#cosigning = new Cosigning({ parts: this.#parts, exchange, log: log.part('cosigning') })
    this.#cosigning.request()
    this.#warnOfEndings()
    await this.#remindOfWithdrawals()
    this.#verify()
    this.#upkeep = setInterval(() => {
      queue.retry()
      this.upkeep().catch((error: unknown) => log.error('expired consent was not acted on', error))
    }, UPKEEP_MS)
    this.#upkeep.unref()
  }

  /**
   * Ends expired consent, judges packages again that are valid now, and warns of consent and of a node key that end and of
   * members that have not answered a withdrawal. Called every hour.
   */
  async upkeep(): Promise<void> {
    await upkeep(this.#parts)
    await requeueValid(this.#parts)
    if (this.isRunning && this.now() - this.#verifiedSince > VERIFIED_EVERY) this.#verify()
    this.#warnOfEndings()
    await this.#remindOfWithdrawals()
  }

  #verify(): void {
    this.#verifiedSince = this.now()
    void this.verifier.run()
  }

  /** Packages in use, of this node and of others, whose consent ends within 30 days. */
  endingConsents(): EndingConsent[] {
    return endingConsents(this.accepted.manifests(), this.now())
  }

  /** See `nodeKeyEnd` of node-key-warnings.ts. */
  nodeKeyEnd(): NodeKeyEnd | undefined {
    return nodeKeyEnd(this.membership, this.now())
  }

  /** Warns of the end of consent and of the node key. */
  #warnOfEndings(): void {
    const end = this.#nodeKeyWarnings.due(this.membership, this.now())
    if (end !== undefined) {
      const { expiresAt, daysLeft } = end
      this.#init.onEvent?.({ event: 'node-key-ending', expiresAt, daysLeft })
    }
    const own = this.accepted
      .manifests()
      .filter(({ manifest }) => manifest.publisher === this.membership.seat)
    for (const ending of this.#consentWarnings.due(own, this.now())) {
      this.#init.onEvent?.({ event: 'consent-ending', ...ending })
    }
  }

  async #remindOfWithdrawals(): Promise<void> {
    for (const open of this.#withdrawalReminders.due(await this.withdrawals(), this.now())) {
      this.#init.onEvent?.({ event: 'withdrawal-open', ...open })
    }
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    clearInterval(this.#upkeep)
    try {
      this.#cosigning?.stop()
      await this.#exchange?.stop()
      await this.egress.close()
      await this.#cosigning?.settled()
      await this.settled()
      await this.verifier.stopped()
      await this.#parts.signing.idle()
      await this.composer.dispose()
      await this.prompts.close()
      await this.#threads?.close()
    } finally {
      await this.catalogue.close()
    }
  }

  /** Whether the home was copied or restored and no member has been reached since, so that nothing is signed. */
  get isCopied(): boolean {
    return this.#parts.mark.isCopied
  }

  /**
   * The accepted experts, without those of others while a copied or restored home may not know of their withdrawal.
   */
  #usable(): readonly AcceptedExpert[] {
    const all = this.accepted.list()
    if (this.#parts === undefined || !isBehind(this.#parts)) return all
    return all.filter(({ peerId }) => peerId === this.membership.seat)
  }

  get charter(): Charter {
    return this.membership.charter
  }

  get consortium(): Digest {
    return this.membership.consortium
  }

  /** Whether the node has a network. Commands also open nodes without one. */
  get isRunning(): boolean {
    return this.#exchange !== undefined
  }

  /** Whether `close` was called. */
  get isStopping(): boolean {
    return this.#stopping.signal.aborted
  }

  /** Multiaddrs at which others reach this node; empty before `start`. */
  addresses(): string[] {
    return this.#exchange?.addresses() ?? []
  }

  /** The seats of the connected members. */
  connectedMembers(): string[] {
    const peers = this.#exchange?.connectedMembers() ?? []
    return [...new Set(peers.map((peer) => this.membership.keys.seatOf(peer) ?? peer))]
  }

  /** See `memberLinks` of contacts.ts. */
  memberLinks(): Promise<Map<string, MemberLink>> {
    return memberLinks(this.membership, this.#exchange?.links() ?? [], this.#lastSeen)
  }

  /** See `connect` of moved-member.ts. */
  connect(address: string, signal: AbortSignal): Promise<MemberContact> {
    const { paths, membership, identity } = this
    const dial = this.#exchange?.connect.bind(this.#exchange)
    return connect({ paths, membership, self: identity.peerId, dial }, address, signal)
  }

  /** Checkpoints of the logs of all members. */
  get logs(): CosignedLogs {
    return this.#parts.logs
  }

  /** See `exportAudit` of audit-export.ts. */
  exportAudit(file: string): Promise<ExportedBundle> {
    return exportAudit(this.#parts, this.catalogue, file)
  }

  /** Resolves when every package received so far is judged or waits for a retry. */
  settled(): Promise<void> {
    return this.#parts.queue.settled()
  }

  /**
   * Invite one more institution.
   * @param lifetime seconds; default and maximum: `inviteLifetime`.
   * @returns the invitation, one line of text.
   * @throws InputError `not-a-member` if this node has no vote on admissions; `not-running` if it does not listen, because
   * nobody could use the invitation.
   */
  async invite(lifetime?: number): Promise<string> {
    const admission = { kind: 'admit', institution: '', peerId: '' } as const
    if (!this.membership.mayVoteOn(admission)) {
      const names = this.membership.votersOn(admission).join(' or ')
      throw new InputError(
        'not-a-member',
        `this node has no vote on admissions; ask ${names} to run flexmesh invite`,
      )
    }
    const addresses = inviteAddresses(this.addresses())
    if (addresses.length === 0) {
      throw new InputError(
        'not-running',
        this.isRunning
          ? `others cannot reach any address of this node; choose one with "flexmesh start --listen", as in ${EXAMPLE_ADDRESS}`
          : 'an invitation names the addresses of the running node; start it first with "flexmesh start"',
      )
    }
    return this.membership.invitations.invite(addresses, lifetime)
  }

  /** See `approve` of approval.ts. */
  approve(who?: string): Promise<Approval> {
    return this.#announcing(() => approve(this.#parts, who))
  }

  /** See `propose` of pipeline/own-decisions.ts. */
  propose(change: ProposedChange, lifetime?: number): Promise<ProposalState> {
    return this.#announcing(() => propose(this.#parts, change, lifetime))
  }

  /** See `answer` of pipeline/own-decisions.ts. */
  answer(proposal: string, given: Answer): Promise<ProposalState> {
    return this.#announcing(() => answer(this.#parts, proposal, given))
  }

  /** See `leave` of pipeline/own-decisions.ts. */
  leave(validThroughSeq?: number): Promise<Digest> {
    return this.#announcing(() => leave(this.#parts, validThroughSeq))
  }

  /**
   * Propose to revoke a member, or to let fewer statements of one that was revoked stay valid.
   * @param who name or peer id.
   * @param validThroughSeq the number of its last statement that stays valid; default: the last one that this node holds.
   * @returns the proposal, and the experts of the member that are in use here.
   * @throws InputError `not-found`, `not-a-member`, `usage`.
   */
  async revoke(
    who: string,
    reason: RevocationReason,
    validThroughSeq?: number,
  ): Promise<{ proposal: ProposalState; validThroughSeq: number; experts: string[] }> {
    const member = this.membership.findByName(who)
    if (member === undefined) throw new InputError('not-found', `${who} is not a member`)
    const { peerId: seat } = member
    if (seat === this.membership.seat)
      throw new InputError(
        'usage',
        'an institution does not revoke itself; "flexmesh leave" ends its membership',
      )
    const tip = await this.catalogue.tip(seat)
    const through = validThroughSeq ?? member.revoked?.validThroughSeq ?? tip?.seq ?? 0
    const proposal = await this.propose({ kind: 'revoke', seat, reason, validThroughSeq: through })
    if (proposal.state === 'applied') await this.#exchange?.disconnect(seat)
    const stay = this.accepted.list().filter(({ peerId }) => peerId === seat)
    return { proposal, validThroughSeq: through, experts: stay.map(({ name }) => name) }
  }

  /** Carry out a decision, and announce what it has signed even if it failed half-way. */
  async #announcing<T>(decide: () => Promise<T>): Promise<T> {
    try {
      return await decide()
    } finally {
      await this.announce()
    }
  }

  /** Sign a new head and announce it to connected members. */
  announce(): Promise<void> {
    return announce(this.#parts)
  }

  /** Number of other institutions that belong to the consortium. */
  get otherMembers(): number {
    const { members } = this.membership.roster()
    return members.filter(({ peerId, revoked }) => revoked === undefined && peerId !== this.membership.seat)
      .length
  }

  /** Number of our own latest statement that this node holds; 0 without statements. */
  get lastOwnSeq(): number {
    return this.#parts.statements.ownSeq()
  }

  /**
   * Resolves once `count` members have told everything that they hold, and this home holds what they know of it.
   * @throws the reason of the signal.
   */
  untilCaughtUp(count: number, signal: AbortSignal): Promise<void> {
    return this.#watch.until(() => this.#watch.tellers >= count && !mustCatchUp(this.#parts), signal)
  }

  /** Resolves once some member has received our own statement `seq`. @throws the reason of the signal. */
  untilSent(seq: number, signal: AbortSignal): Promise<void> {
    return this.#watch.untilSent(seq, signal)
  }

  /** See `stateKeys` of pipeline/state-keys.ts. */
  stateKeys(keys: NextKeys): Promise<KeysStatement> {
    checkCaughtUp(this.#parts)
    return stateKeys(this.#parts, keys)
  }

  /** See `requestKeys` of pipeline/key-request.ts. */
  requestKeys(wanted: Parameters<typeof requestKeys>[1]): Promise<KeyRequest> {
    return requestKeys(this.#parts, wanted)
  }

  /** See `acceptKeys` of pipeline/key-request.ts. */
  acceptKeys(envelope: Uint8Array): Promise<KeysStatement> {
    return acceptKeys(this.#parts, envelope)
  }

  /** See `ingest` of pipeline.ts. */
  async ingest(envelope: Uint8Array): Promise<boolean> {
    const isNew = await ingest(this.#parts, envelope)
    await answerWithdrawals(this.#parts)
    await spreadNews(this.#parts)
    return isNew
  }

  /** See `publish` of pipeline.ts. */
  publish(
    request: PublishRequest,
    options?: PublishOptions,
  ): Promise<{ id: Digest; summary: ReleaseSummary; derivation: Derivation | undefined }> {
    return publish(this.#parts, request, options).then((published) => ({
      id: published.id,
      summary: this.#summary(published),
      derivation: published.derivation,
    }))
  }

  /** What `publish` would release. Changes nothing. */
  async previewPublication(
    request: PublishRequest,
    options?: PublishOptions,
  ): Promise<{ summary: ReleaseSummary; derivation: Derivation | undefined }> {
    const preview = await previewPublication(this.#parts, request, options)
    return { summary: this.#summary(preview), derivation: preview.derivation }
  }

  #summary({ manifest, replaces }: Publication): ReleaseSummary {
    const recipients = this.membership
      .roster()
      .members.filter(({ peerId, revoked }) => peerId !== this.membership.seat && revoked === undefined)
      .map(({ institution }) => institution)
    return summarizeRelease(manifest, recipients, replaces)
  }

  /** See `withdraw` of pipeline.ts. */
  withdraw(name: string, alone = false): Promise<Digest[]> {
    return withdraw(this.#parts, name, alone)
  }

  /** Whether a member has signed two different histories, so that none of its packages is used. */
  isForked(peerId: string): boolean {
    return this.#parts.statements.isForked(peerId)
  }

  /** See `standingPackages` of packages.ts. */
  standingPackages(name: string): Promise<OpenedManifest[]> {
    return standingPackages(this.#parts, name)
  }

  /** See `withdrawalReports` of withdrawals.ts. */
  withdrawals(): Promise<WithdrawalReport[]> {
    const connected = new Set(this.connectedMembers())
    return withdrawalReports(this.#parts, { connected, lastSeen: this.#lastSeen })
  }

  /** See `refuse` of operator.ts. */
  refuse(name: string): Promise<Digest[]> {
    return refuse(this.#parts, name)
  }

  /** Files of the home folder that the node can do without, or those of them that were removed. See garbage.ts. */
  async garbage({ remove }: { readonly remove: boolean }): Promise<Garbage[]> {
    const found = await findGarbage(this.#parts, this.paths, this.now())
    return remove ? removeGarbage(this.paths, found) : found
  }

  /** Bytes that the home folder takes on the disk. */
  homeBytes(): Promise<number> {
    return folderBytes(this.paths.root)
  }

  /** See `reconsider` of operator.ts. */
  reconsider(name: string): Promise<Digest[]> {
    return reconsider(this.#parts, name)
  }

  /** See `packageReports` of packages.ts. */
  packages(): Promise<PackageReport[]> {
    return packageReports(this.#parts)
  }

  /** See `outcomesOf` of packages.ts. */
  outcomesOf(
    ids: readonly Digest[],
    signal: AbortSignal,
    onChange: (id: Digest, state: PackageState) => void,
  ): Promise<PackageReport[]> {
    return outcomesOf(this.#parts, ids, signal, onChange)
  }

  #network(): Exchange {
    if (this.#exchange === undefined) {
      throw new ExchangeError('unreachable', 'the node does not run; "flexmesh start" fetches packages')
    }
    return this.#exchange
  }
}
