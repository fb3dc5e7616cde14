/**
 * The composition root: builds every part of a node from its home folder and connects them. What a
 * part does is in its own file; read pipeline.ts for the path of an expert.
 */
import '../lib/node20.ts'
import type { AcceptanceContext, Verdict } from '../acceptance/accept.ts'
import { type AcceptancePolicy, DEFAULT_POLICY } from '../acceptance/policy.ts'
import { Judging } from '../acceptance/queue.ts'
import { loadPublicModel, type PublicModel } from '../checkpoint/public-model.ts'
import { type AcceptedExpert, type Composition, compose, DEFAULT_TOP_K } from '../composition/compose.ts'
import { Inference } from '../composition/composed-model.ts'
import { composeExperts } from '../composition/composer.ts'
import { ServedComposition } from '../composition/served-composition.ts'
import type { Charter } from '../consortium/charter.ts'
import type { RevocationReason } from '../consortium/member.ts'
import { Membership } from '../consortium/membership.ts'
import type { Roster } from '../consortium/roster.ts'
import { Exchange } from '../exchange/exchange.ts'
import { readEnvelope } from '../identity/envelope.ts'
import { loadIdentity } from '../identity/key-file.ts'
import type { Identity } from '../identity/keys.ts'
import type { WeightFormat } from '../inference/weight-format.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { ExchangeError, InputError } from '../lib/errors.ts'
import type { HeldOutDocument } from '../model/evaluate.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { Expert } from '../model/params.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { Encrypter } from '../network/transport.ts'
import { publicHeldOut } from '../owner/held-out.ts'
import { publicStatistics } from '../owner/statistics.ts'
import { loadTrained, type TrainResult } from '../owner/training-folder.ts'
import { allHeldOut, finishedTrainings, unpublishedExperts } from '../owner/trainings.ts'
import { type PublishRequest, publish, withdraw } from '../pipeline.ts'
import { StatementLog } from '../statements/statement-log.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue, rosterKey } from '../store/catalogue.ts'
import { type HomePaths, homePaths, loadSettings, type Settings } from '../store/home.ts'
import type { Engine } from '../tensor/engine.ts'
import { rememberAddresses, rememberedAddresses } from './address-book.ts'
import type { OnNodeEvent } from './events.ts'
import type { NodeInit } from './init.ts'
import type { NodeState } from './node-state.ts'

/** What `open` reads from a home folder. */
interface Parts {
  readonly identity: Identity
  readonly settings: Settings
  readonly publicModel: PublicModel
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly membership: Membership
  readonly log: StatementLog
}

/** Held-out text of each kind that a foreign expert is measured on: enough to see a percent. */
const ACCEPTANCE_BYTES = 16_384
/** Between two looks for consent that has ended. */
const EXPIRY_CHECK_MS = 3_600_000

export class FlexMeshNode implements NodeState {
  readonly identity: Identity
  readonly settings: Settings
  readonly paths: HomePaths
  readonly publicModel: PublicModel
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly engine: Engine
  readonly topK: number
  readonly router: RouterChoice
  readonly now: () => number
  readonly membership: Membership
  readonly judging: Judging
  readonly #log: StatementLog
  readonly #policy: AcceptancePolicy
  readonly #emit: OnNodeEvent
  readonly #encrypter: Encrypter | undefined
  readonly #stopping = new AbortController()
  #exchange: Exchange | undefined
  #expiry: ReturnType<typeof setInterval> | undefined
  readonly #weights: WeightFormat
  readonly #served: ServedComposition
  #publicStatistics: RouterStatistics | undefined

  private constructor(init: NodeInit, parts: Parts) {
    this.paths = homePaths(init.home)
    this.identity = parts.identity
    this.settings = parts.settings
    this.publicModel = parts.publicModel
    this.catalogue = parts.catalogue
    this.blobs = parts.blobs
    this.membership = parts.membership
    this.#log = parts.log
    this.engine = init.engine
    this.topK = init.topK ?? DEFAULT_TOP_K
    this.router = init.router ?? 'auto'
    this.now = init.now
    this.#weights = init.weights ?? 'fp32'
    this.#policy = init.policy ?? DEFAULT_POLICY
    this.#emit = init.onEvent ?? (() => undefined)
    this.#encrypter = init.encrypter
    this.judging = new Judging({
      state: this,
      membership: this.membership,
      log: this.#log,
      fetch: (file) => this.#network().fetch(file, { signal: this.#stopping.signal }),
      onEvent: this.#emit,
      onChange: () => this.#recompose(),
      signal: this.#stopping.signal,
    })
    const { digest } = this.charter.publicModel
    const { config, params } = this.publicModel
    this.#served = new ServedComposition(this.serving(compose(config, { digest, params }, [], this.topK)))
  }

  /** @throws InputError `no-home`, `home-in-use`, `not-a-member` before a consortium was joined. */
  static async open(init: NodeInit): Promise<FlexMeshNode> {
    const paths = homePaths(init.home)
    const { now } = init
    const settings = await loadSettings(paths)
    const identity = await loadIdentity(paths.key, init.passphrase)
    const catalogue = await Catalogue.open(paths.root)
    try {
      const charterEnvelope = await catalogue.get('rosters', rosterKey(0))
      if (charterEnvelope === undefined) {
        throw new InputError(
          'not-a-member',
          `${init.home} belongs to no consortium; run "flexmesh consortium create" or "flexmesh join INVITE"`,
        )
      }
      const onEvent = init.onEvent ?? (() => undefined)
      const membership = await Membership.open({ identity, catalogue, charterEnvelope, now, onEvent })
      const log = await StatementLog.open({ identity, catalogue, membership, now })
      const blobs = await BlobStore.open(paths.root)
      const publicModel = await loadPublicModel(paths.publicModel)
      const parts = { identity, settings, publicModel, catalogue, blobs, membership, log }
      const node = new FlexMeshNode(init, parts)
      await node.judging.restore()
      node.#served.replace(node.serving(await composeExperts(node)))
      return node
    } catch (error) {
      await catalogue.close()
      throw error
    }
  }

  /** Bring up the network. @throws InputError `port-in-use`. */
  async start(listen: readonly string[] = this.settings.listen): Promise<void> {
    const { membership, judging } = this
    const exchange = new Exchange(
      {
        blobs: this.blobs,
        handlers: {
          isMember: (peer) => membership.isMember(peer),
          guestsOpen: () => membership.guestsOpen(),
          charterFor: (token) => membership.charterFor(token),
          onMembershipRequest: (envelope) => membership.onRequest(envelope),
          wanted: () => this.#log.request(),
          statementsSince: (request) => this.#log.since(request),
          onStatement: (envelope) => judging.onStatement(envelope),
          judgeHead: (envelope) => this.#log.judgeHead(envelope),
          isBehind: () => this.#log.isBehind(),
          onSynced: (_, addresses) => {
            judging.retry()
            void rememberAddresses(this.catalogue, addresses)
          },
          mayRead: (peer, digest) =>
            membership.isMember(peer) ||
            this.charter.publicModel.files.some(({ sha256 }) => sha256 === digest),
        },
      },
      {
        identity: this.identity,
        consortium: this.consortium,
        listen,
        bootstrap: this.settings.bootstrap,
        mdns: this.settings.mdns,
        remembered: await rememberedAddresses(this.catalogue),
        clock: () => performance.now(),
        ...(this.#encrypter === undefined ? {} : { encrypter: this.#encrypter }),
      },
    )
    await exchange.start()
    this.#exchange = exchange
    this.#expiry = setInterval(() => void this.judging.dropExpired(), EXPIRY_CHECK_MS)
    this.#expiry.unref()
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    clearInterval(this.#expiry)
    await this.#exchange?.stop()
    await this.judging.settled()
    await this.#served.dispose()
    await this.catalogue.close()
  }

  get charter(): Charter {
    return this.membership.charter
  }

  get consortium(): Digest {
    return this.membership.consortium
  }

  addresses(): string[] {
    return this.#exchange?.addresses() ?? []
  }

  connectedMembers(): string[] {
    return this.#exchange?.connectedMembers() ?? []
  }

  inference(): Inference {
    return this.#served.current
  }

  roster(): Roster {
    return this.membership.roster()
  }

  composed(): readonly AcceptedExpert[] {
    return this.judging.composed()
  }

  async baseline(): Promise<readonly Expert[]> {
    const composed = this.composed()
    const published = composed.filter(({ peerId }) => peerId === this.identity.peerId).map(({ name }) => name)
    const own = await unpublishedExperts(this.publicModel, this.paths.training, published)
    return [...composed.map(({ expert }) => expert), ...own]
  }

  acceptanceContext(): AcceptanceContext {
    const { digest, tokenizerDigest, config } = this.charter.publicModel
    return {
      consortium: this.consortium,
      roster: this.roster(),
      publicModel: { digest, tokenizerDigest, shape: config, params: this.publicModel.params },
      policy: this.#policy,
      withdrawn: this.judging.withdrawn(),
      now: this.now(),
    }
  }

  ownText(): Promise<readonly HeldOutDocument[]> {
    return allHeldOut(this.publicModel, this.paths.training, ACCEPTANCE_BYTES)
  }

  publicText(): Promise<readonly HeldOutDocument[]> {
    return publicHeldOut(this.publicModel, this.paths.training, this.#stopping.signal, ACCEPTANCE_BYTES)
  }

  /** Counted once: the public text does not change while a node is open, and every verdict and composition asks. */
  async publicStatistics(): Promise<RouterStatistics> {
    const { publicModel, paths } = this
    this.#publicStatistics ??= await publicStatistics(publicModel, paths.training, this.#stopping.signal)
    return this.#publicStatistics
  }

  /** Names of finished trainings. */
  trainings(): Promise<string[]> {
    return finishedTrainings(this.paths.training)
  }

  /** Invite one more institution. */
  invite(): Promise<string> {
    const listening = this.addresses()
    const configured = this.settings.listen.map((address) => `${address}/p2p/${this.identity.peerId}`)
    return this.membership.invite(listening.length > 0 ? listening : configured)
  }

  async approve(who?: string): Promise<string[]> {
    const approved = await this.membership.approve(who)
    await this.#announce()
    return approved
  }

  async revoke(who: string, reason: RevocationReason): Promise<void> {
    const member = this.roster().members.find(
      ({ institution, peerId }) => who === institution || who === peerId,
    )
    const tip = member === undefined ? undefined : await this.catalogue.tip(member.peerId)
    const peer = await this.membership.revoke(who, reason, tip?.seq ?? 0)
    await this.#announce()
    await this.#exchange?.disconnect(peer)
  }

  /**
   * Publish a finished training, or what was made of it. @throws InputError `not-found`, `not-acceptable`.
   */
  async publish(
    request: PublishRequest,
    made?: { readonly expert: Expert; readonly result: TrainResult },
  ): Promise<Digest> {
    const trained = made ?? (await loadTrained(this.publicModel, this.paths.training, request.name))
    const { id, envelope, manifest } = await publish(this, trained, request, await this.#log.next())
    await this.judging.admit(envelope, () => this.#log.append(manifest, id, envelope))
    this.#emit({ event: 'published', id, expert: request.name })
    await this.#announce()
    return id
  }

  /** Withdraw own packages of one name. @throws InputError `not-found`. */
  async withdraw(name: string): Promise<Digest[]> {
    const ids = this.composed()
      .filter((expert) => expert.peerId === this.identity.peerId && expert.name === name)
      .map(({ id }) => id)
    if (ids.length === 0) throw new InputError('not-found', `no published expert named ${name}`)
    const { id, envelope, withdrawal } = withdraw(this, ids, await this.#log.next())
    await this.#log.append(withdrawal, id, envelope)
    await this.judging.leaveOut(ids)
    await this.#announce()
    return ids
  }

  verdicts(): Promise<Verdict[]> {
    return this.judging.verdicts()
  }

  /** Demo and tests only: put an envelope into our own log as it is and announce it. */
  async offerUnchecked(envelope: Uint8Array): Promise<void> {
    const { publisher, seq } = await this.#log.next()
    const digest = digestOf(readEnvelope(envelope).payload)
    await this.#log.appendUnchecked({ publisher, seq, digest, envelope })
    await this.#announce()
  }

  #network(): Exchange {
    if (this.#exchange === undefined) throw new ExchangeError('unreachable', 'the node has no network yet')
    return this.#exchange
  }

  /** Answers with a composition of ours, which need not be the one that we serve. */
  serving(composition: Composition): Inference {
    return new Inference(this.engine, this.publicModel, composition, this.#weights)
  }

  async #recompose(): Promise<void> {
    const composition = await composeExperts(this)
    this.#served.replace(this.serving(composition))
    const { digest, experts, router, routerNote } = composition
    const institutions = experts.map(({ institution }) => institution)
    this.#emit({ event: 'composed', digest, experts: institutions, router, routerNote })
  }

  async #announce(): Promise<void> {
    const own = this.composed().filter(({ peerId }) => peerId === this.identity.peerId)
    const head = await this.#log.renewHead(own.map(({ id }) => id))
    await this.#exchange?.announce(head)
  }
}
