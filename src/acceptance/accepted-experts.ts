/**
 * The experts that this node has accepted and uses. Owns the state of acceptance: only this file changes the verdict on
 * disk and the expert in memory, and together with them its file, through package-files.ts. Knows nothing about how a
 * verdict is reached, nor about compositions.
 */
import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { ModelConfig } from '../model/config.ts'
import type { Expert } from '../model/params.ts'
import type { Manifest } from '../packaging/manifest.ts'
import type { PrivacyStatement } from '../packaging/manifest-privacy.ts'
import { openPackage } from '../packaging/package.ts'
import type { WithdrawalReason } from '../statements/withdrawal.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { Log } from '../telemetry/log.ts'
import type { OpenedManifest, Verdict } from './accept.ts'
import { loggedManifest } from './logged-manifest.ts'
import { expired, forked, notCovered, type Overruling, REFUSED_BY_OPERATOR, WITHDRAWN } from './overruling.ts'
import { PackageFiles } from './package-files.ts'
import type { Verdicts } from './verdicts.ts'

export interface AcceptedExpert {
  /** Package id. */
  readonly id: Digest
  readonly name: string
  readonly institution: string
  readonly peerId: string
  readonly expert: Expert
  /** What its publisher states about privacy; undefined if it does not state anything. */
  readonly privacy?: PrivacyStatement
  /** Digest of its file in the store; undefined for an expert that is in none. */
  readonly file?: Digest
}

export interface AcceptedExpertsInit {
  readonly config: ModelConfig
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly verdicts: Verdicts
  /** Digests of files that are never deleted: those of the public model. */
  readonly keep: ReadonlySet<Digest>
  /** Name of a publisher for people. */
  readonly institutionOf: (publisher: string) => string
  /** Whether the roster covers statement `seq` of a publisher. */
  readonly mayPublish: (publisher: string, seq: number) => boolean
  /** Whether a publisher signed two statements for one place in its log. */
  readonly isForked: (publisher: string) => boolean
  /** Unix seconds. */
  readonly now: () => number
  /** Default: silent. */
  readonly log?: Log
}

interface Dropped {
  readonly id: Digest
  readonly why: Overruling
  /**
   * Whose files are deleted: those of this manifest, or of the package if it is this publisher's; undefined keeps
   * them.
   */
  readonly files?: Manifest | string
  /** Manifest of a package that is refused before it has a verdict. */
  readonly unjudged?: Manifest
}

export class AcceptedExperts {
  /** The files that packages need. */
  readonly files: PackageFiles
  readonly #init: AcceptedExpertsInit
  readonly #inUse = new Map<Digest, { accepted: AcceptedExpert; manifest: Manifest }>()
  /** Reasons by `publisher id`, because a publisher may withdraw only its own packages. */
  readonly #withdrawn = new Map<string, WithdrawalReason>()
  /** Packages that the operator has refused since the start, and those whose refusal no longer counts. */
  readonly #refused = new Set<Digest>()
  readonly #lifted = new Set<Digest>()
  /** Packages that are no longer used, until that is on disk. */
  readonly #unwritten = new Map<Digest, Dropped>()

  constructor(init: AcceptedExpertsInit) {
    const { blobs, keep } = init
    this.#init = init
    this.files = new PackageFiles({
      blobs,
      keep,
      inUse: () => [...this.#inUse.values()].map(({ manifest }) => manifest),
    })
  }

  list(): readonly AcceptedExpert[] {
    return [...this.#inUse.values()].map(({ accepted }) => accepted)
  }

  has(id: Digest): boolean {
    return this.#inUse.has(id)
  }

  /** Manifests of the experts in use. */
  manifests(): readonly OpenedManifest[] {
    return [...this.#inUse].map(([id, { manifest }]) => ({ id, manifest }))
  }

  /** @throws InputError `not-found` if the statement log does not hold the package's manifest. */
  async manifestOf(id: Digest): Promise<Manifest> {
    const manifest = this.#inUse.get(id)?.manifest ?? (await loggedManifest(this.#init.catalogue, id))
    if (manifest === undefined) throw new InputError('not-found', `the manifest of package ${id} is missing`)
    return manifest
  }

  isWithdrawn(publisher: string, id: Digest): boolean {
    return this.#withdrawn.has(`${publisher} ${id}`)
  }

  /** Why its publisher has withdrawn a package; undefined if it has not. */
  withdrawalReason(publisher: string, id: Digest): WithdrawalReason | undefined {
    return this.#withdrawn.get(`${publisher} ${id}`)
  }

  /** Whether the operator refused a package and has not asked to judge it again. */
  async isRefusedByOperator(id: Digest): Promise<boolean> {
    if (this.#refused.has(id)) return true
    const verdict = await this.#init.verdicts.get(id)
    const { check } = REFUSED_BY_OPERATOR
    return verdict?.outcome === 'refused' && verdict.check === check && !this.#lifted.has(id)
  }

  /** The operator's word: judge a package again by the checks alone. */
  liftRefusal(id: Digest): void {
    this.#refused.delete(id)
    this.#lifted.add(id)
  }

  /**
   * Store a verdict and use the expert if it was accepted. A package that was withdrawn, refused by the operator or
   * left without a roster that covers it while it was judged is refused. A refused package leaves no file behind.
   * @param release ends the hold on the package's file; called when the file is needed for certain or not at all.
   * @returns whether the expert is in use.
   */
  async decide(
    opened: OpenedManifest,
    verdict: Verdict,
    release: () => void = () => undefined,
  ): Promise<boolean> {
    const { id, manifest } = opened
    if (await this.isRefusedByOperator(id)) {
      release()
      return false
    }
    this.files.release(id)
    const isAccepted = verdict.outcome === 'accepted'
    const early = isAccepted ? this.#whyNot(opened) : undefined
    if (isAccepted && early === undefined) {
      const expert = await this.#open(manifest)
      await this.#init.verdicts.put(verdict)
      // Checked again: a withdrawal or a roster may have arrived while the verdict was written.
      const late = this.#whyNot(opened)
      if (late === undefined) this.#use(opened, expert)
      release()
      if (late !== undefined) await this.#drop([{ id, why: late, files: manifest }])
      return late === undefined
    }
    release()
    await this.files.delete(manifest)
    await this.#init.verdicts.put(
      early === undefined ? verdict : { ...verdict, outcome: 'refused', ...early },
    )
    return false
  }

  #whyNot({ id, manifest }: OpenedManifest): Overruling | undefined {
    const { publisher } = manifest
    if (this.#refused.has(id)) return REFUSED_BY_OPERATOR
    return this.isWithdrawn(publisher, id) ? WITHDRAWN : this.#whyUncovered(manifest)
  }

  #whyUncovered({ publisher, seq }: Manifest): Overruling | undefined {
    if (this.#init.isForked(publisher)) return forked(publisher)
    return this.#init.mayPublish(publisher, seq) ? undefined : notCovered(publisher)
  }

  /**
   * Use an expert whose verdict and file are on disk. Its FFN is read when it is needed.
   * @throws InputError `not-found`, `io`; FormatError or PolicyError for a file that the disk has damaged.
   */
  async use(opened: OpenedManifest): Promise<void> {
    this.#use(opened, await this.#open(opened.manifest))
  }

  async #open(manifest: Manifest): Promise<Expert> {
    const { blobs, config } = this.#init
    const [file] = manifest.files
    return expertOfTensors(config, await openPackage(blobs.path(file.sha256), manifest))
  }

  #use({ id, manifest }: OpenedManifest, expert: Expert): void {
    const accepted: AcceptedExpert = {
      id,
      name: manifest.expert.name,
      institution: this.#init.institutionOf(manifest.publisher),
      peerId: manifest.publisher,
      expert,
      ...(manifest.privacy === undefined ? {} : { privacy: manifest.privacy }),
      file: manifest.files[0].sha256,
    }
    this.#inUse.set(id, { accepted, manifest })
  }

  /**
   * Stop using the packages whose file is `sha256`, because the disk has damaged it. Their verdicts stay, so that they
   * are judged again once the file was fetched again.
   * @returns the packages that were in use.
   */
  async setAside(sha256: Digest): Promise<OpenedManifest[]> {
    const found = this.manifests().filter(({ manifest }) =>
      manifest.files.some((file) => file.sha256 === sha256),
    )
    for (const { id } of found) this.#inUse.delete(id)
    await this.#init.blobs.delete(sha256)
    return found
  }

  /** Remember that a publisher has withdrawn packages. A withdrawal cannot be undone; its first reason stays. */
  rememberWithdrawal(publisher: string, ids: readonly Digest[], reason: WithdrawalReason): void {
    for (const id of ids) {
      const key = `${publisher} ${id}`
      if (!this.#withdrawn.has(key)) this.#withdrawn.set(key, reason)
    }
  }

  /**
   * Stop using packages that their publisher has withdrawn, and delete their files. Ids of other publishers' packages
   * have no effect.
   * @returns the experts that were in use.
   */
  withdraw(
    publisher: string,
    ids: readonly Digest[],
    reason: WithdrawalReason = 'owner-request',
  ): Promise<AcceptedExpert[]> {
    this.rememberWithdrawal(publisher, ids, reason)
    return this.#drop(ids.map((id) => ({ id, why: WITHDRAWN, files: publisher })))
  }

  /**
   * The operator's word: stop using packages, and do not use those that have no verdict yet.
   * @param unjudged packages without a verdict; what was fetched of them is deleted
   * @returns the experts that were in use.
   */
  refuse(ids: readonly Digest[], unjudged: readonly OpenedManifest[] = []): Promise<AcceptedExpert[]> {
    const why = REFUSED_BY_OPERATOR
    const dropped = [
      ...ids.map((id) => ({ id, why })),
      ...unjudged.map(({ id, manifest }) => ({ id, why, files: manifest, unjudged: manifest })),
    ]
    for (const { id } of dropped) {
      this.#lifted.delete(id)
      this.#refused.add(id)
    }
    return this.#drop(dropped)
  }

  /** Stop using packages whose owner's consent has ended. @returns their experts. */
  dropExpired(): Promise<AcceptedExpert[]> {
    const now = this.#init.now()
    const over = this.manifests().filter(({ manifest }) => manifest.expiresAt + limit('clockSkew') < now)
    return this.#drop(
      over.map(({ id, manifest }) => ({
        id,
        why: expired(manifest.expiresAt),
      })),
    )
  }

  /**
   * Stop using packages that the roster no longer covers, or whose publisher has forked, and delete their files.
   * @returns their experts.
   */
  dropUncovered(): Promise<AcceptedExpert[]> {
    const over = this.manifests().flatMap(({ id, manifest }) => {
      const why = this.#whyUncovered(manifest)
      return why === undefined ? [] : [{ id, why, files: manifest }]
    })
    return this.#drop(over)
  }

  /**
   * Stop using packages at once, then write it down. What the disk does not take now is tried again by `flush`: an
   * expert must not stay in use because a verdict cannot be written.
   */
  async #drop(dropped: readonly Dropped[]): Promise<AcceptedExpert[]> {
    const experts: AcceptedExpert[] = []
    for (const one of dropped) {
      const found = this.#inUse.get(one.id)
      const isOwners = typeof one.files !== 'string' || found?.manifest.publisher === one.files
      if (found !== undefined && isOwners) {
        experts.push(found.accepted)
        this.#inUse.delete(one.id)
        if (one.files === undefined) this.files.keep(one.id, found.manifest)
      }
      if (one.files !== undefined && isOwners) this.files.release(one.id)
      this.#unwritten.set(one.id, one)
    }
    await this.flush().catch((error: unknown) => {
      this.#init.log?.warn('packages are no longer used, which could not be written down yet', error)
    })
    return experts
  }

  /** Write down what could not be written before. @throws InputError `disk-full`, `io`. */
  async flush(): Promise<void> {
    for (const [id, { why, files, unjudged }] of [...this.#unwritten]) {
      const manifest = typeof files === 'string' ? await loggedManifest(this.#init.catalogue, id) : files
      const isOwners = typeof files !== 'string' || manifest?.publisher === files
      if (isOwners) {
        const facts = unjudged && { publisher: unjudged.publisher, expert: unjudged.expert.name }
        await this.#init.verdicts.overrule(id, why, this.#init.now(), facts)
        if (manifest !== undefined) await this.files.delete(manifest)
      }
      this.#unwritten.delete(id)
    }
  }
}
