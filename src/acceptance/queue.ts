/**
 * From statements of the network to verdicts, and from verdicts to the experts in use. Judges one
 * package at a time, in the order of arrival; what is wrong becomes a stored verdict, never a crash.
 * Knows no stream and no HTTP.
 */

import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import type { ExpertTensor } from '../checkpoint/safetensors.ts'
import type { AcceptedExpert } from '../composition/compose.ts'
import type { Membership } from '../consortium/membership.ts'
import { readEnvelope } from '../identity/envelope.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, digestOf, fromUtf8, utf8 } from '../lib/bytes.ts'
import { FlexMeshError, InputError, VerificationError } from '../lib/errors.ts'
import type { FileRef } from '../lib/file-ref.ts'
import { limit } from '../lib/limits.ts'
import type { OnNodeEvent } from '../node/events.ts'
import type { NodeState } from '../node/node-state.ts'
import { type Manifest, openManifest } from '../packaging/manifest.ts'
import { unpackExpert } from '../packaging/package.ts'
import { ingest } from '../pipeline.ts'
import { openHead } from '../statements/head.ts'
import type { StatementLog } from '../statements/statement-log.ts'
import { openWithdrawal, type Withdrawal } from '../statements/withdrawal.ts'
import type { Verdict } from './accept.ts'

export interface JudgingInit {
  readonly state: NodeState
  readonly membership: Membership
  readonly log: StatementLog
  /** Bring a file into the blob store. */
  readonly fetch: (file: FileRef) => Promise<void>
  readonly onEvent: OnNodeEvent
  /** The experts in use have changed. */
  readonly onChange: () => Promise<void>
  /** Aborted when the node stops. */
  readonly signal: AbortSignal
}

/** Refusals of statements that never entered a log are kept up to this count: anyone can make them. */
const LOOSE_REFUSALS_KEPT = 256

export class Judging {
  readonly #init: JudgingInit
  readonly #accepted = new Map<Digest, AcceptedExpert>()
  readonly #withdrawn = new Set<Digest>()
  /** End of consent of each accepted package, Unix seconds. */
  readonly #expiresAt = new Map<Digest, number>()
  /** Manifests whose file no connected member had. */
  readonly #unfetched = new Map<Digest, Uint8Array>()
  #looseRefusals = 0
  #work: Promise<void> = Promise.resolve()

  constructor(init: JudgingInit) {
    this.#init = init
  }

  /** Withdrawals and accepted experts from disk; judging that was cut off goes on. */
  async restore(): Promise<void> {
    const manifests: { envelope: Uint8Array; id: Digest }[] = []
    for await (const { envelope, digest } of this.#init.log.all()) {
      const { payloadType } = readEnvelope(envelope)
      if (payloadType === MEDIA_TYPES.manifest) manifests.push({ envelope, id: digest })
      if (payloadType === MEDIA_TYPES.withdrawal) {
        const { withdrawal } = openWithdrawal(envelope)
        for (const id of await this.#ofPublisher(withdrawal)) this.#withdrawn.add(id)
      }
    }
    for (const { envelope, id } of manifests) {
      if (this.#withdrawn.has(id)) continue
      const verdict = await this.verdict(id)
      if (verdict === undefined) this.judge(envelope)
      else if (verdict.outcome === 'accepted') await this.#reload(envelope)
    }
    await this.dropExpired()
  }

  /** Stop using packages whose owner's consent has ended. */
  async dropExpired(): Promise<void> {
    const now = this.#init.state.now()
    const expired = [...this.#expiresAt].filter(([, time]) => time + limit('clockSkew') < now)
    for (const [id, time] of expired) {
      const reason = `its consent ended at ${new Date(time * 1000).toISOString()}`
      await this.#overrule(id, { check: 'validity', code: 'expired', reason })
    }
    if (expired.length > 0) await this.#init.onChange()
  }

  /** Experts that were accepted and not withdrawn. */
  composed(): readonly AcceptedExpert[] {
    return [...this.#accepted.values()]
  }

  withdrawn(): ReadonlySet<Digest> {
    return this.#withdrawn
  }

  async verdict(id: Digest): Promise<Verdict | undefined> {
    const stored = await this.#init.state.catalogue.get('verdicts', id)
    return stored === undefined ? undefined : (JSON.parse(fromUtf8(stored)) as Verdict)
  }

  async verdicts(): Promise<Verdict[]> {
    const stored = await this.#init.state.catalogue.entries('verdicts')
    return stored.map(([, bytes]) => JSON.parse(fromUtf8(bytes)) as Verdict)
  }

  /** Resolves once everything received so far is judged. */
  async settled(): Promise<void> {
    await this.#work
  }

  /** One statement from a member. Resolves once it is kept or refused; judging weights goes on later. */
  async onStatement(envelope: Uint8Array): Promise<void> {
    try {
      const { payloadType } = readEnvelope(envelope)
      if (payloadType === MEDIA_TYPES.roster) await this.#init.membership.onRoster(envelope)
      else if (payloadType === MEDIA_TYPES.withdrawal) await this.#onWithdrawal(envelope)
      else if (payloadType === MEDIA_TYPES.manifest) await this.#onManifest(envelope)
      else if (payloadType === MEDIA_TYPES.head) openHead(envelope)
      else throw new VerificationError('wrong-type', `no statement has the type ${payloadType}`)
    } catch (error) {
      // Named by the envelope: a bad copy of a statement must not be taken for the statement.
      await this.#refuse(envelope, digestOf(envelope), 'statement', error)
    }
  }

  /** Put a manifest of a log into the queue. */
  judge(envelope: Uint8Array): void {
    this.#work = this.#work.then(async () => {
      if (this.#init.signal.aborted) return
      await this.#judge(envelope)
    })
  }

  /**
   * Judge a package of our own, whose file is in the store, and only then let `keep` log it: what we
   * refuse ourselves is nobody else's business. @throws InputError `not-acceptable`.
   */
  async admit(envelope: Uint8Array, keep: () => Promise<unknown>): Promise<void> {
    const { state, signal } = this.#init
    const { manifest, id } = openManifest(envelope)
    const { verdict, tensors } = await ingest(state, envelope, async () => undefined, signal)
    if (verdict.outcome === 'refused' || tensors === undefined) {
      const why = verdict.outcome === 'refused' ? `${verdict.code}, ${verdict.reason}` : 'it has no weights'
      throw new InputError('not-acceptable', `not published, because this node refuses it itself: ${why}`)
    }
    await keep()
    await this.#store(verdict)
    this.#accepted.set(id, this.#expert(id, manifest, tensors))
    await this.#init.onChange()
  }

  /** Try again what could not be fetched: a member has connected. */
  retry(): void {
    const waiting = [...this.#unfetched.values()]
    this.#unfetched.clear()
    for (const envelope of waiting) this.judge(envelope)
  }

  /** Leave packages out for good: their owner took them back. */
  async leaveOut(ids: readonly Digest[]): Promise<void> {
    for (const id of ids) {
      this.#withdrawn.add(id)
      const expert = this.#accepted.get(id)
      await this.#overrule(id, { check: 'withdrawn', code: 'withdrawn', reason: 'its owner took it back' })
      if (expert !== undefined) {
        this.#init.onEvent({ event: 'withdrawn', institution: expert.institution, id })
      }
    }
    await this.#init.onChange()
    for (const id of ids) await this.#dropFile(id)
  }

  /** The operator's word against a package. @throws InputError `not-found`. */
  async refuse(name: string): Promise<Digest[]> {
    const found = (await this.#find(name)).filter(({ outcome }) => outcome === 'accepted')
    if (found.length === 0) throw new InputError('not-found', `no accepted package matches "${name}"`)
    const reason = 'the operator of this node refused it'
    for (const { id } of found)
      await this.#overrule(id, { check: 'operator', code: 'refused-by-operator', reason })
    await this.#init.onChange()
    return found.map(({ id }) => id)
  }

  /** Take an accepted package out of use, whatever was measured of it. */
  async #overrule(id: Digest, why: { check: string; code: string; reason: string }): Promise<void> {
    this.#accepted.delete(id)
    this.#expiresAt.delete(id)
    const verdict = await this.verdict(id)
    if (verdict?.outcome !== 'accepted') return
    await this.#store({ ...verdict, at: this.#init.state.now(), outcome: 'refused', ...why })
  }

  /** Judge refused packages again, by the same checks. @throws InputError `not-found`. */
  async reconsider(name: string): Promise<Digest[]> {
    const ids: Digest[] = []
    for (const { id, outcome } of await this.#find(name)) {
      const envelope = await this.#init.state.catalogue.statement(id)
      if (outcome === 'accepted' || envelope === undefined) continue
      ids.push(id)
      this.judge(envelope)
    }
    if (ids.length === 0) throw new InputError('not-found', `no refused package matches "${name}"`)
    await this.settled()
    return ids
  }

  async #find(name: string): Promise<Verdict[]> {
    const digest = name.startsWith('sha256:') ? name : `sha256:${name}`
    const verdicts = await this.verdicts()
    return verdicts.filter(
      ({ id, expert, publisher }) =>
        expert === name ||
        (name.length >= 8 && id.startsWith(digest)) ||
        (publisher !== undefined && this.#init.membership.institutionOf(publisher) === name),
    )
  }

  async #onWithdrawal(envelope: Uint8Array): Promise<void> {
    const { withdrawal, id } = openWithdrawal(envelope)
    if (!(await this.#init.log.append(withdrawal, id, envelope))) return
    await this.leaveOut(await this.#ofPublisher(withdrawal))
  }

  /** A publisher takes back only its own. */
  async #ofPublisher({ publisher, manifests }: Withdrawal): Promise<Digest[]> {
    const own: Digest[] = []
    for (const id of manifests) {
      const envelope = await this.#init.state.catalogue.statement(id)
      if (envelope === undefined || readEnvelope(envelope).payloadType !== MEDIA_TYPES.manifest) continue
      if (openManifest(envelope).manifest.publisher === publisher) own.push(id)
    }
    return own
  }

  async #onManifest(envelope: Uint8Array): Promise<void> {
    const { manifest, id } = openManifest(envelope)
    if (await this.#init.log.append(manifest, id, envelope)) this.judge(envelope)
  }

  async #judge(envelope: Uint8Array): Promise<void> {
    const { state, signal } = this.#init
    // Even our own log may hold what nobody signed: it is refused as from anybody else.
    let id = digestOf(envelope)
    let check = 'statement'
    try {
      const { manifest, id: named } = openManifest(envelope)
      id = named
      check = 'fetch'
      if (this.#accepted.has(id) || this.#withdrawn.has(id)) return
      const { verdict, tensors } = await ingest(state, envelope, () => this.#fetch(manifest), signal)
      await this.#store(verdict)
      if (tensors === undefined || this.#withdrawn.has(id)) return
      this.#accepted.set(id, this.#expert(id, manifest, tensors))
      await this.#init.onChange()
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof FlexMeshError && error.family === 'exchange') this.#unfetched.set(id, envelope)
      else await this.#refuse(envelope, id, check, error)
    }
  }

  async #fetch(manifest: Manifest): Promise<void> {
    const [file] = manifest.files
    if (await this.#init.state.blobs.has(file.sha256)) return
    const institution = this.#init.membership.institutionOf(manifest.publisher)
    this.#init.onEvent({
      event: 'fetching',
      expert: manifest.expert.name,
      institution,
      bytes: file.size,
    })
    await this.#init.fetch(file)
  }

  /** Only refusals are verdicts: what is not ours to explain is a fault of the program. */
  async #refuse(envelope: Uint8Array, id: Digest, check: string, error: unknown): Promise<void> {
    if (!(error instanceof FlexMeshError)) throw error
    let publisher: string | undefined
    try {
      publisher = readEnvelope(envelope).signatures[0]?.key
    } catch {
      // Unreadable, so nobody is named.
    }
    if ((await this.verdict(id)) !== undefined || this.#looseRefusals >= LOOSE_REFUSALS_KEPT) return
    this.#looseRefusals++
    await this.#store({
      id,
      ...(publisher === undefined ? {} : { publisher }),
      passed: [],
      at: this.#init.state.now(),
      outcome: 'refused',
      check,
      code: error.code,
      reason: error.message,
    })
  }

  async #store(verdict: Verdict): Promise<void> {
    await this.#init.state.catalogue.put('verdicts', verdict.id, utf8(JSON.stringify(verdict)))
    const institution =
      verdict.publisher === undefined ? 'unknown' : this.#init.membership.institutionOf(verdict.publisher)
    this.#init.onEvent({ event: 'verdict', institution, verdict })
  }

  async #dropFile(id: Digest): Promise<void> {
    const envelope = await this.#init.state.catalogue.statement(id)
    if (envelope === undefined) return
    for (const { sha256 } of openManifest(envelope).manifest.files)
      await this.#init.state.blobs.delete(sha256)
  }

  async #reload(envelope: Uint8Array): Promise<void> {
    const { manifest, id } = openManifest(envelope)
    const [file] = manifest.files
    const { blobs } = this.#init.state
    if (!(await blobs.has(file.sha256))) {
      this.judge(envelope)
      return
    }
    const tensors = unpackExpert(await blobs.readAll(file.sha256, file.size), manifest)
    this.#accepted.set(id, this.#expert(id, manifest, tensors))
  }

  #expert(id: Digest, manifest: Manifest, tensors: ReadonlyMap<string, ExpertTensor>): AcceptedExpert {
    this.#expiresAt.set(id, manifest.expiresAt)
    return {
      id,
      name: manifest.expert.name,
      institution: this.#init.membership.institutionOf(manifest.publisher),
      peerId: manifest.publisher,
      expert: expertOfTensors(this.#init.state.publicModel.config, tensors),
    }
  }
}
