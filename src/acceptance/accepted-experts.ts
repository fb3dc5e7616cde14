/**
 * The experts that this node has accepted and uses. Owns the state of acceptance: only this file changes the verdict on
 * disk, the expert in memory and its file in the blob store, and changes them together. Knows nothing about how a
 * verdict is reached, nor about compositions.
 */
import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { ModelConfig } from '../model/config.ts'
import type { Expert } from '../model/params.ts'
import type { Manifest } from '../packaging/manifest.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { OpenedManifest, Tensors, Verdict } from './accept.ts'
import { loggedManifest } from './logged-manifest.ts'
import type { Verdicts } from './verdicts.ts'

export interface AcceptedExpert {
  /** Package id. */
  readonly id: Digest
  readonly name: string
  readonly institution: string
  readonly peerId: string
  readonly expert: Expert
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
  /** Unix seconds. */
  readonly now: () => number
}

/** Why an accepted package is no longer used. */
export interface Overruling {
  readonly check: string
  readonly code: string
  readonly reason: string
}

const WITHDRAWN: Overruling = {
  check: 'withdrawal',
  code: 'withdrawn',
  reason: 'its owner took it back',
}

export class AcceptedExperts {
  readonly #init: AcceptedExpertsInit
  readonly #inUse = new Map<Digest, { accepted: AcceptedExpert; manifest: Manifest }>()
  /** Entries are `publisher id`, because a publisher may withdraw only its own packages. */
  readonly #withdrawn = new Set<string>()

  constructor(init: AcceptedExpertsInit) {
    this.#init = init
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

  /**
   * Store a verdict and use the expert if it was accepted. A package that was withdrawn while it was judged is
   * refused. A refused package leaves no file behind.
   * @returns whether the expert is in use.
   */
  async decide(opened: OpenedManifest, verdict: Verdict, tensors: Tensors | undefined): Promise<boolean> {
    const { id, manifest } = opened
    const isBack = (): boolean => this.isWithdrawn(manifest.publisher, id)
    const isAccepted = verdict.outcome === 'accepted' && tensors !== undefined
    if (isAccepted && !isBack()) {
      await this.#init.verdicts.put(verdict)
      // Checked again: the withdrawal may have arrived while the verdict was written.
      if (!isBack()) {
        this.use(opened, tensors)
        return true
      }
    }
    await this.deleteFiles(manifest)
    if (isAccepted) await this.#init.verdicts.put({ ...verdict, outcome: 'refused', ...WITHDRAWN })
    else await this.#init.verdicts.put(verdict)
    return false
  }

  /** Use an expert whose verdict is on disk. */
  use({ id, manifest }: OpenedManifest, tensors: Tensors): void {
    const accepted: AcceptedExpert = {
      id,
      name: manifest.expert.name,
      institution: this.#init.institutionOf(manifest.publisher),
      peerId: manifest.publisher,
      expert: expertOfTensors(this.#init.config, tensors),
    }
    this.#inUse.set(id, { accepted, manifest })
  }

  /** Remember that a publisher has withdrawn packages. A withdrawal cannot be undone. */
  rememberWithdrawal(publisher: string, ids: readonly Digest[]): void {
    for (const id of ids) this.#withdrawn.add(`${publisher} ${id}`)
  }

  /**
   * Stop using packages that their publisher has withdrawn, and delete their files. Ids of other publishers' packages
   * have no effect.
   * @returns the experts that were in use.
   */
  async withdraw(publisher: string, ids: readonly Digest[]): Promise<AcceptedExpert[]> {
    this.rememberWithdrawal(publisher, ids)
    const left: AcceptedExpert[] = []
    for (const id of ids) {
      const manifest = await loggedManifest(this.#init.catalogue, id)
      if (manifest?.publisher !== publisher) continue
      const expert = await this.overrule(id, WITHDRAWN)
      if (expert !== undefined) left.push(expert)
      await this.deleteFiles(manifest)
    }
    return left
  }

  /** Stop using a package and turn its verdict into a refusal. @returns the expert, if it was in use. */
  async overrule(id: Digest, why: Overruling): Promise<AcceptedExpert | undefined> {
    const found = this.#inUse.get(id)?.accepted
    this.#inUse.delete(id)
    await this.#init.verdicts.overrule(id, why, this.#init.now())
    return found
  }

  /** Stop using packages whose owner's consent has ended. @returns their experts. */
  async dropExpired(): Promise<AcceptedExpert[]> {
    const now = this.#init.now()
    return this.#dropWhere(
      ({ expiresAt }) => expiresAt + limit('clockSkew') < now,
      ({ expiresAt }) => ({
        check: 'validity',
        code: 'expired',
        reason: `its consent ended at ${new Date(expiresAt * 1000).toISOString()}`,
      }),
    )
  }

  /** Stop using packages that the roster no longer covers. @returns their experts. */
  dropUncovered(mayPublish: (publisher: string, seq: number) => boolean): Promise<AcceptedExpert[]> {
    return this.#dropWhere(
      ({ publisher, seq }) => !mayPublish(publisher, seq),
      ({ publisher }) => ({
        check: 'signer',
        code: 'not-a-member',
        reason: `${publisher} was taken off the roster before it published this`,
      }),
    )
  }

  async #dropWhere(
    isOver: (manifest: Manifest) => boolean,
    why: (manifest: Manifest) => Overruling,
  ): Promise<AcceptedExpert[]> {
    const dropped: AcceptedExpert[] = []
    for (const { id, manifest } of this.manifests()) {
      if (!isOver(manifest)) continue
      const expert = await this.overrule(id, why(manifest))
      if (expert !== undefined) dropped.push(expert)
    }
    return dropped
  }

  /** Delete a package's file, unless another expert in use or the public model needs it. */
  async deleteFiles({ files }: Manifest): Promise<void> {
    const needed = new Set(this.manifests().flatMap(({ manifest }) => manifest.files.map((f) => f.sha256)))
    for (const { sha256 } of files) {
      if (!needed.has(sha256) && !this.#init.keep.has(sha256)) await this.#init.blobs.delete(sha256)
    }
  }
}
