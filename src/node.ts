/**
 * The composition root: builds every part of a node from its home folder, keeps what it knows, and
 * turns statements from the network into verdicts and verdicts into a composition.
 */
import './lib/node20.ts'
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import type { AcceptanceContext, Verdict } from './acceptance/accept.ts'
import { type AcceptancePolicy, DEFAULT_POLICY } from './acceptance/policy.ts'
import { type AcceptedExpert, compose, DEFAULT_TOP_K } from './composition/compose.ts'
import { type Charter, openCharter } from './consortium/charter.ts'
import { decodeInvite, encodeInvite, type Invite } from './consortium/invite.ts'
import { openMembershipRequest } from './consortium/membership.ts'
import {
  addMember,
  encodeRoster,
  findMember,
  isMember,
  openRoster,
  type Roster,
  rosterFromCharter,
} from './consortium/roster.ts'
import { Exchange } from './exchange/exchange.ts'
import type { StatementsRequest } from './exchange/messages.ts'
import { type HomePaths, homePaths, loadSettings, type Settings } from './home.ts'
import { readEnvelope, seal } from './identity/envelope.ts'
import { loadIdentity } from './identity/key-file.ts'
import type { Identity, PeerIdString } from './identity/keys.ts'
import { MEDIA_TYPES } from './identity/media-types.ts'
import { Inference } from './inference.ts'
import { type Digest, digestOf, fromUtf8, toBase64, toHex, utf8 } from './lib/bytes.ts'
import { encodeCanonical } from './lib/canonical-json.ts'
import { FlexMeshError, InputError, VerificationError } from './lib/errors.ts'
import { pathExists } from './lib/files.ts'
import { limit } from './lib/limits.ts'
import type { HeldOutDocument } from './model/evaluate.ts'
import type { NodeState } from './node-state.ts'
import { encodeHead, openHead } from './packaging/head.ts'
import { openManifest } from './packaging/manifest.ts'
import { unpackExpert } from './packaging/package.ts'
import { NO_STATEMENT } from './packaging/statement.ts'
import { encodeWithdrawal, openWithdrawal } from './packaging/withdrawal.ts'
import { expertOfTensors, ingest, type PublishRequest, publish } from './pipeline.ts'
import { loadPublicModel, type PublicModel } from './public-model.ts'
import { BlobStore } from './store/blob-store.ts'
import { Catalogue, type NewStatement, rosterKey } from './store/catalogue.ts'
import type { Engine } from './tensor/engine.ts'
import { loadTrained, ownHeldOut, publicHeldOut } from './train-expert.ts'

export interface NodeInit {
  readonly home: string
  readonly engine: Engine
  readonly passphrase?: string
  readonly policy?: AcceptancePolicy
  readonly topK?: number
  /** Unix seconds. */
  readonly now: () => number
  /** What happens, for people and logs. */
  readonly onEvent?: (event: NodeEvent) => void
}

export type NodeEvent =
  | { readonly event: 'member'; readonly institution: string }
  | { readonly event: 'request'; readonly institution: string; readonly peerId: string }
  | { readonly event: 'published'; readonly id: Digest; readonly expert: string }
  | {
      readonly event: 'fetching'
      readonly expert: string
      readonly institution: string
      readonly bytes: number
    }
  | { readonly event: 'verdict'; readonly institution: string; readonly verdict: Verdict }
  | { readonly event: 'withdrawn'; readonly institution: string; readonly id: Digest }
  | { readonly event: 'composed'; readonly digest: Digest; readonly experts: readonly string[] }

const STATEMENTS_PER_PUBLISHER = 1024

export class FlexMeshNode implements NodeState {
  readonly identity: Identity
  readonly settings: Settings
  readonly paths: HomePaths
  readonly consortium: Digest
  readonly charter: Charter
  readonly publicModel: PublicModel
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly engine: Engine
  readonly topK: number
  readonly now: () => number
  readonly #policy: AcceptancePolicy
  readonly #emit: (event: NodeEvent) => void
  readonly #charterEnvelope: Uint8Array
  readonly #rosters: { envelope: Uint8Array; roster: Roster }[] = []
  readonly #experts = new Map<Digest, AcceptedExpert>()
  readonly #withdrawn = new Set<Digest>()
  readonly #stopping = new AbortController()
  readonly #known = new Map<PeerIdString, number>()
  #invites = new Map<string, Invite>()
  /** Used ones: their holder may still fetch the roster that lists it. */
  readonly #spent = new Map<string, Invite>()
  #exchange: Exchange | undefined
  #inference: Inference
  #work: Promise<unknown> = Promise.resolve()

  private constructor(
    init: NodeInit,
    parts: {
      identity: Identity
      settings: Settings
      charterEnvelope: Uint8Array
      publicModel: PublicModel
      catalogue: Catalogue
      blobs: BlobStore
    },
  ) {
    const { charter, consortium } = openCharter(parts.charterEnvelope)
    this.paths = homePaths(init.home)
    this.identity = parts.identity
    this.settings = parts.settings
    this.charter = charter
    this.consortium = consortium
    this.publicModel = parts.publicModel
    this.catalogue = parts.catalogue
    this.blobs = parts.blobs
    this.engine = init.engine
    this.topK = init.topK ?? DEFAULT_TOP_K
    this.now = init.now
    this.#policy = init.policy ?? DEFAULT_POLICY
    this.#emit = init.onEvent ?? (() => undefined)
    this.#charterEnvelope = parts.charterEnvelope
    this.#inference = this.#newInference()
  }

  /** @throws InputError `no-home`, `home-in-use`, `not-a-member` before a consortium was joined. */
  static async open(init: NodeInit): Promise<FlexMeshNode> {
    const paths = homePaths(init.home)
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
      const blobs = await BlobStore.open(paths.root)
      const publicModel = await loadPublicModel(paths.publicModel)
      const node = new FlexMeshNode(init, {
        identity,
        settings,
        charterEnvelope,
        publicModel,
        catalogue,
        blobs,
      })
      await node.#restore()
      return node
    } catch (error) {
      await catalogue.close()
      throw error
    }
  }

  /** Bring up the network. @throws InputError `port-in-use`. */
  async start(listen: readonly string[] = this.settings.listen): Promise<void> {
    const exchange = new Exchange(
      {
        blobs: this.blobs,
        handlers: {
          isMember: (peer) => isMember(this.roster(), peer),
          guestsOpen: () => [...this.#invites.values()].some(({ expiresAt }) => expiresAt > this.now()),
          charterFor: (token) => this.#charterFor(token),
          onMembershipRequest: (envelope) => this.#onMembershipRequest(envelope),
          wanted: () => this.#wanted(),
          statementsSince: (request) => this.#statementsSince(request),
          onStatement: (envelope) => this.onStatement(envelope),
          judgeHead: (envelope) => this.#judgeHead(envelope),
          mayRead: (peer, digest) =>
            isMember(this.roster(), peer) ||
            this.charter.publicModel.files.some(({ sha256 }) => sha256 === digest),
        },
      },
      {
        identity: this.identity,
        consortium: this.consortium,
        listen,
        bootstrap: this.settings.bootstrap,
        mdns: this.settings.mdns,
        clock: () => performance.now(),
      },
    )
    await exchange.start()
    this.#exchange = exchange
  }

  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#exchange?.stop()
    await this.#work.catch(() => undefined)
    await this.#inference.dispose()
    await this.catalogue.close()
  }

  addresses(): string[] {
    return this.#exchange?.addresses() ?? []
  }

  connectedMembers(): string[] {
    return this.#exchange?.connectedMembers() ?? []
  }

  inference(): Inference {
    return this.#inference
  }

  roster(): Roster {
    return this.#rosters.at(-1)?.roster ?? rosterFromCharter(this.charter, this.consortium)
  }

  composed(): readonly AcceptedExpert[] {
    return [...this.#experts.values()].filter(({ id }) => !this.#withdrawn.has(id))
  }

  acceptanceContext(): AcceptanceContext {
    const { digest, tokenizerDigest, config } = this.charter.publicModel
    return {
      consortium: this.consortium,
      roster: this.roster(),
      publicModel: { digest, tokenizerDigest, shape: config, params: this.publicModel.params },
      policy: this.#policy,
      withdrawn: this.#withdrawn,
      now: this.now(),
    }
  }

  async ownText(): Promise<readonly HeldOutDocument[]> {
    const documents: HeldOutDocument[] = []
    for (const name of await this.trainings())
      documents.push(...(await ownHeldOut(this.publicModel, this.paths.training, name)))
    return documents
  }

  publicText(): Promise<readonly HeldOutDocument[]> {
    return publicHeldOut(this.publicModel, this.paths.training, this.#stopping.signal)
  }

  /** Names of finished trainings. */
  async trainings(): Promise<string[]> {
    if (!(await pathExists(this.paths.training))) return []
    const names = (await readdir(this.paths.training)).filter((name) => !name.startsWith('.'))
    const finished = await Promise.all(
      names.map((name) => pathExists(`${this.paths.training}/${name}/result.json`)),
    )
    return names.filter((_, i) => finished[i])
  }

  async append(statement: NewStatement): Promise<void> {
    await this.catalogue.append(statement)
    this.#known.set(statement.publisher, Math.max(statement.seq, this.#known.get(statement.publisher) ?? 0))
  }

  /** Invite one more institution. */
  async invite(): Promise<string> {
    const invite: Invite = {
      consortium: this.consortium,
      name: this.charter.name,
      addresses:
        this.addresses().length > 0
          ? this.addresses()
          : this.settings.listen.map((address) => `${address}/p2p/${this.identity.peerId}`),
      token: toHex(randomBytes(16)),
      expiresAt: this.now() + limit('inviteLifetime'),
    }
    const text = encodeInvite(invite)
    await this.catalogue.put('invites', invite.token, utf8(text))
    this.#invites.set(invite.token, invite)
    return text
  }

  /** Requests that wait for approval. */
  async requests(): Promise<{ institution: string; peerId: string }[]> {
    const entries = await this.catalogue.entries('requests')
    return entries
      .map(([, envelope]) => openMembershipRequest(envelope))
      .map(({ institution, peerId }) => ({ institution, peerId }))
  }

  /** Put everyone who waits, or one of them, on the roster. @throws InputError `not-found`. */
  async approve(who?: string): Promise<string[]> {
    const waiting = (await this.catalogue.entries('requests')).map(([, envelope]) =>
      openMembershipRequest(envelope),
    )
    const chosen = waiting.filter(
      ({ institution, peerId }) => who === undefined || who === institution || who === peerId,
    )
    if (chosen.length === 0)
      throw new InputError(
        'not-found',
        who === undefined ? 'nobody waits for approval' : `${who} does not wait for approval`,
      )
    if (findMember(this.roster(), this.identity.peerId)?.role !== 'founder') {
      throw new InputError('not-a-member', 'only a founder approves members')
    }
    for (const { institution, peerId, token } of chosen) {
      const roster = addMember(this.roster(), institution, peerId, this.now())
      const envelope = seal(MEDIA_TYPES.roster, encodeRoster(roster), [this.identity])
      await this.catalogue.write([
        { table: 'rosters', key: rosterKey(roster.version), value: envelope },
        { table: 'requests', key: peerId },
        { table: 'invites', key: token },
      ])
      this.#rosters.push({ envelope, roster })
      const invite = this.#invites.get(token)
      if (invite !== undefined) this.#spent.set(token, invite)
      this.#invites.delete(token)
      this.#emit({ event: 'member', institution })
    }
    await this.#syncAll()
    return chosen.map(({ institution }) => institution)
  }

  /** Publish a finished training. */
  async publish(request: PublishRequest): Promise<Digest> {
    const trained = await loadTrained(this.publicModel, this.paths.training, request.name)
    const id = await publish(this, trained, request)
    this.#emit({ event: 'published', id, expert: request.name })
    const envelope = await this.catalogue.statement(id)
    await this.#enqueue(() => this.#ingest(envelope as Uint8Array))
    await this.#announce()
    return id
  }

  /** Withdraw own packages of one name. @throws InputError `not-found`. */
  async withdraw(name: string): Promise<Digest[]> {
    const own = this.composed().filter(
      (expert) => expert.peerId === this.identity.peerId && expert.name === name,
    )
    if (own.length === 0) throw new InputError('not-found', `no published expert named ${name}`)
    const tip = await this.catalogue.tip(this.identity.peerId)
    const seq = (tip?.seq ?? 0) + 1
    const payload = encodeWithdrawal({
      publisher: this.identity.peerId,
      seq,
      prev: tip?.digest ?? NO_STATEMENT,
      consortium: this.consortium,
      manifests: own.map(({ id }) => id),
      reason: 'owner-request',
      issuedAt: this.now(),
    })
    const envelope = seal(MEDIA_TYPES.withdrawal, payload, [this.identity])
    await this.append({ publisher: this.identity.peerId, seq, digest: digestOf(payload), envelope })
    await this.#leaveOut(own.map(({ id }) => id))
    await this.#announce()
    return own.map(({ id }) => id)
  }

  /** Demo and tests only: what others must refuse. @throws InputError `not-found`. */
  async offerTampered(): Promise<void> {
    const tip = await this.catalogue.tip(this.identity.peerId)
    const envelope = tip === undefined ? undefined : await this.catalogue.statement(tip.digest)
    if (tip === undefined || envelope === undefined)
      throw new InputError('not-found', 'nothing was published yet')
    const { manifest } = openManifest(envelope)
    const payload = encodeCanonical({ ...manifest, seq: tip.seq + 1, prev: tip.digest, license: 'CC0-1.0' })
    const { payloadType, signatures } = readEnvelope(envelope)
    const tampered = encodeCanonical({
      payload: toBase64(payload),
      payloadType,
      signatures: signatures.map(({ key, sig }) => ({ key, sig: toBase64(sig) })),
    })
    await this.append({
      publisher: this.identity.peerId,
      seq: tip.seq + 1,
      digest: digestOf(payload),
      envelope: tampered,
    })
    await this.#announce()
  }

  async verdicts(): Promise<Verdict[]> {
    return (await this.catalogue.entries('verdicts')).map(
      ([, bytes]) => JSON.parse(fromUtf8(bytes)) as Verdict,
    )
  }

  /** Resolves once everything received so far is judged. */
  async settled(): Promise<void> {
    await this.#work.catch(() => undefined)
  }

  /** One statement from the network; what is wrong with it becomes a stored verdict, never a crash. */
  async onStatement(envelope: Uint8Array): Promise<void> {
    let type: string
    try {
      type = readEnvelope(envelope).payloadType
    } catch (error) {
      await this.#refuse(envelope, 'envelope', error)
      return
    }
    try {
      if (type === MEDIA_TYPES.roster) await this.#onRoster(envelope)
      else if (type === MEDIA_TYPES.head) await this.#onHead(envelope)
      else if (type === MEDIA_TYPES.withdrawal) await this.#onWithdrawal(envelope)
      else await this.#onManifest(envelope)
    } catch (error) {
      await this.#refuse(envelope, 'statement', error)
    }
  }

  async #onRoster(envelope: Uint8Array): Promise<void> {
    const roster = openRoster(envelope, this.roster())
    await this.catalogue.put('rosters', rosterKey(roster.version), envelope)
    this.#rosters.push({ envelope, roster })
    this.#emit({ event: 'member', institution: roster.members.at(-1)?.institution ?? '' })
  }

  async #onHead(envelope: Uint8Array): Promise<void> {
    const { head } = openHead(envelope)
    if (head.consortium !== this.consortium)
      throw new VerificationError('wrong-consortium', 'head of another consortium')
    await this.catalogue.put('heads', head.publisher, envelope)
  }

  async #onWithdrawal(envelope: Uint8Array): Promise<void> {
    const { withdrawal, id } = openWithdrawal(envelope)
    this.#mustCount(withdrawal)
    await this.append({ publisher: withdrawal.publisher, seq: withdrawal.seq, digest: id, envelope })
    const own = withdrawal.manifests.filter((digest) => this.#experts.get(digest)?.peerId !== undefined)
    await this.#leaveOut(own.length > 0 ? own : withdrawal.manifests)
  }

  async #onManifest(envelope: Uint8Array): Promise<void> {
    const { manifest, id } = openManifest(envelope)
    this.#mustCount(manifest)
    const tip = await this.catalogue.tip(manifest.publisher)
    if (manifest.prev !== (tip?.digest ?? NO_STATEMENT) && manifest.seq === (tip?.seq ?? 0) + 1) {
      throw new VerificationError(
        'forked',
        `statement ${manifest.seq} does not follow ${tip?.digest ?? 'nothing'}`,
      )
    }
    await this.append({ publisher: manifest.publisher, seq: manifest.seq, digest: id, envelope })
    await this.#enqueue(() => this.#ingest(envelope))
  }

  /** @throws VerificationError `wrong-consortium`, `not-a-member`. */
  #mustCount(statement: { consortium: Digest; publisher: PeerIdString }): void {
    if (statement.consortium !== this.consortium)
      throw new VerificationError('wrong-consortium', `made for consortium ${statement.consortium}`)
    if (!isMember(this.roster(), statement.publisher))
      throw new VerificationError('not-a-member', `${statement.publisher} is not a member`)
  }

  async #ingest(envelope: Uint8Array): Promise<void> {
    const { manifest, id } = openManifest(envelope)
    if (this.#experts.has(id) || this.#withdrawn.has(id)) return
    const institution = this.#institutionOf(manifest.publisher)
    const fetch = async (): Promise<void> => {
      const [file] = manifest.files
      if (await this.blobs.has(file.sha256)) return
      this.#emit({ event: 'fetching', expert: manifest.expert.name, institution, bytes: file.size })
      await this.#exchange?.fetch(file, { signal: this.#stopping.signal })
    }
    let result: Awaited<ReturnType<typeof ingest>>
    try {
      result = await ingest(this, envelope, fetch, this.#stopping.signal)
    } catch (error) {
      if (!(error instanceof FlexMeshError) || this.#stopping.signal.aborted) throw error
      // Not a verdict on the package: the next connection tries again.
      if (error.family === 'exchange') return
      await this.#refuse(envelope, 'fetch', error)
      return
    }
    await this.#store(institution, result.verdict)
    if (result.tensors === undefined) return
    this.#experts.set(id, {
      id,
      name: manifest.expert.name,
      institution,
      peerId: manifest.publisher,
      expert: expertOfTensors(this, result.tensors),
    })
    await this.#recompose()
  }

  async #store(institution: string, verdict: Verdict): Promise<void> {
    await this.catalogue.put('verdicts', verdict.id, utf8(JSON.stringify(verdict)))
    this.#emit({ event: 'verdict', institution, verdict })
  }

  async #refuse(envelope: Uint8Array, check: string, error: unknown): Promise<void> {
    if (!(error instanceof FlexMeshError)) throw error
    let id = digestOf(envelope)
    let publisher: string | undefined
    try {
      const parts = readEnvelope(envelope)
      id = digestOf(parts.payload)
      publisher = parts.signatures[0]?.key
    } catch {
      // Unreadable: the digest of what came is its only name.
    }
    if ((await this.catalogue.get('verdicts', id)) !== undefined) return
    const verdict: Verdict = {
      id,
      ...(publisher === undefined ? {} : { publisher }),
      passed: [],
      at: this.now(),
      outcome: 'refused',
      check,
      code: error.code,
      reason: error.message,
    }
    await this.#store(publisher === undefined ? 'unknown' : this.#institutionOf(publisher), verdict)
  }

  async #leaveOut(ids: readonly Digest[]): Promise<void> {
    for (const id of ids) {
      const expert = this.#experts.get(id)
      this.#withdrawn.add(id)
      await this.catalogue.put('settings', `withdrawn.${id}`, utf8('1'))
      if (expert !== undefined) this.#emit({ event: 'withdrawn', institution: expert.institution, id })
    }
    await this.#recompose()
  }

  #newInference(): Inference {
    const { digest } = this.charter.publicModel
    const composition = compose(
      this.publicModel.config,
      { digest, params: this.publicModel.params },
      this.composed(),
      this.topK,
    )
    return new Inference(this.engine, this.publicModel, composition)
  }

  async #recompose(): Promise<void> {
    const previous = this.#inference
    this.#inference = this.#newInference()
    const { digest, experts } = this.#inference.composition
    this.#emit({ event: 'composed', digest, experts: experts.map(({ institution }) => institution) })
    await previous.dispose()
  }

  /** One piece of judging at a time, in the order of arrival. */
  #enqueue(action: () => Promise<void>): Promise<void> {
    const next = this.#work.catch(() => undefined).then(action)
    this.#work = next
    return next
  }

  async #announce(): Promise<void> {
    const tip = await this.catalogue.tip(this.identity.peerId)
    const own = this.composed().filter(({ peerId }) => peerId === this.identity.peerId)
    const issuedAt = this.now()
    const payload = encodeHead({
      consortium: this.consortium,
      publisher: this.identity.peerId,
      seq: tip?.seq ?? 0,
      last: tip?.digest ?? NO_STATEMENT,
      manifests: own.map(({ id }) => id),
      withdrawals: [],
      issuedAt,
      expiresAt: issuedAt + limit('headLifetime'),
    })
    const envelope = seal(MEDIA_TYPES.head, payload, [this.identity])
    await this.catalogue.put('heads', this.identity.peerId, envelope)
    await this.#exchange?.announce(envelope)
  }

  #judgeHead(envelope: Uint8Array): 'accept' | 'reject' | 'ignore' {
    const { head } = openHead(envelope)
    if (head.consortium !== this.consortium || !isMember(this.roster(), head.publisher)) return 'reject'
    if (head.expiresAt + limit('clockSkew') < this.now() || head.issuedAt > this.now() + limit('clockSkew'))
      return 'reject'
    return head.seq > (this.#known.get(head.publisher) ?? 0) ? 'accept' : 'ignore'
  }

  #wanted(): StatementsRequest {
    return {
      rosterVersion: this.roster().version,
      known: [...this.#known].map(([publisher, seq]) => ({ publisher, seq })),
    }
  }

  async *#statementsSince(request: StatementsRequest): AsyncGenerator<Uint8Array> {
    for (const { envelope, roster } of this.#rosters)
      if (roster.version > request.rosterVersion) yield envelope
    const known = new Map(request.known.map(({ publisher, seq }) => [publisher, seq]))
    for (const publisher of (await this.catalogue.tips()).keys()) {
      const log = await this.catalogue.log(
        publisher,
        (known.get(publisher) ?? 0) + 1,
        STATEMENTS_PER_PUBLISHER,
      )
      for (const { envelope } of log) yield envelope
    }
  }

  #charterFor(token: string): Uint8Array[] | undefined {
    const invite = this.#invites.get(token) ?? this.#spent.get(token)
    if (invite === undefined || invite.expiresAt < this.now()) return undefined
    return [this.#charterEnvelope, ...this.#rosters.map(({ envelope }) => envelope)]
  }

  async #onMembershipRequest(envelope: Uint8Array): Promise<'pending' | 'member' | 'refused'> {
    const request = openMembershipRequest(envelope)
    if (isMember(this.roster(), request.peerId)) return 'member'
    if (request.consortium !== this.consortium || !this.#invites.has(request.token)) return 'refused'
    if ((await this.catalogue.get('requests', request.peerId)) === undefined) {
      await this.catalogue.put('requests', request.peerId, envelope)
      this.#emit({ event: 'request', institution: request.institution, peerId: request.peerId })
    }
    return 'pending'
  }

  async #syncAll(): Promise<void> {
    await this.#announce()
  }

  #institutionOf(peerId: string): string {
    return findMember(this.roster(), peerId)?.institution ?? peerId
  }

  /** Rosters, logs, withdrawals and accepted experts from disk; judging that was cut off goes on. */
  async #restore(): Promise<void> {
    for (const [key, envelope] of await this.catalogue.entries('rosters')) {
      if (key !== rosterKey(0)) this.#rosters.push({ envelope, roster: openRoster(envelope, this.roster()) })
    }
    for (const [key] of await this.catalogue.entries('settings')) {
      if (key.startsWith('withdrawn.')) this.#withdrawn.add(key.slice('withdrawn.'.length) as Digest)
    }
    const invites = await this.catalogue.entries('invites')
    this.#invites = new Map(invites.map(([token, text]) => [token, decodeInvite(fromUtf8(text))]))
    const unjudged: Uint8Array[] = []
    for (const [publisher, tip] of await this.catalogue.tips()) {
      this.#known.set(publisher, tip.seq)
      for (const { envelope, digest } of await this.catalogue.log(publisher, 1, STATEMENTS_PER_PUBLISHER)) {
        if (readEnvelope(envelope).payloadType !== MEDIA_TYPES.manifest) continue
        const stored = await this.catalogue.get('verdicts', digest)
        if (stored === undefined) unjudged.push(envelope)
        else if ((JSON.parse(fromUtf8(stored)) as Verdict).outcome === 'accepted')
          await this.#reload(envelope)
      }
    }
    this.#inference = this.#newInference()
    for (const envelope of unjudged) void this.#enqueue(() => this.#ingest(envelope))
  }

  async #reload(envelope: Uint8Array): Promise<void> {
    const { manifest, id } = openManifest(envelope)
    const [file] = manifest.files
    if (!(await this.blobs.has(file.sha256))) return
    const tensors = unpackExpert(await this.blobs.readAll(file.sha256, file.size), manifest)
    this.#experts.set(id, {
      id,
      name: manifest.expert.name,
      institution: this.#institutionOf(manifest.publisher),
      peerId: manifest.publisher,
      expert: expertOfTensors(this, tensors),
    })
  }
}
