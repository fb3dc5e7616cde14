/**
 * Recognizes weights that were withdrawn when they are published again, under any name. Owns the sketches of judged
 * packages on disk, from which the distance of weights is estimated after their file was deleted. Implements
 * protocols/expert-package, section "Weights that were withdrawn". Knows nothing about logs.
 */
import { randomBytes } from 'node:crypto'
import type { ChainLink } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import type { Manifest } from '../packaging/manifest.ts'
import type { WithdrawalReason } from '../statements/withdrawal.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { OpenedManifest } from './accept.ts'
import { decodeSketch, encodeSketch, isNearlySame, type WeightSketch } from './weight-sketch.ts'

/** What is remembered about a package that was withdrawn. */
export interface WithdrawnPackage {
  /** Package id. */
  readonly id: Digest
  readonly publisher: string
  /** Digest of its file. */
  readonly file: Digest
  readonly publishedAt: number
  readonly reason: WithdrawalReason
  /** Place of the withdrawal in the log of the owner; undefined if a quorum has withdrawn the package. */
  readonly by: Pick<ChainLink, 'publisher' | 'seq'> | undefined
  /** When the withdrawal was issued, Unix seconds. */
  readonly issuedAt: number
  /** When this node received it, Unix seconds; undefined if that was not written down. */
  readonly arrivedAt: number | undefined
}

/** Weights that a candidate must not nearly have. */
export interface ForbiddenWeights {
  /** The withdrawn package. */
  readonly id: Digest
  readonly sketch: WeightSketch
}

export interface WithdrawnWeightsInit {
  readonly catalogue: Catalogue
  /** When this node logged a manifest, Unix seconds; undefined if that was not written down. */
  readonly arrivedAt: (id: Digest) => number | undefined
  /** Every logged manifest of a publisher, in order. */
  readonly packagesOf: (publisher: string) => AsyncIterable<OpenedManifest>
}

/** Age up to which a withdrawal arrives fresh: only then does the order of arrival say what came later, seconds. */
const FRESH_SECONDS = 3600
const SEED_KEY = 'sketch-seed'
const SEED_BYTES = 32
/** Maximum number of withdrawn packages that a candidate is compared with; the latest ones count. */
const MAX_COMPARED = 256

export class WithdrawnWeights {
  readonly #init: WithdrawnWeightsInit
  readonly #withdrawn = new Map<Digest, WithdrawnPackage>()
  #seed: Promise<Uint8Array> | undefined

  constructor(init: WithdrawnWeightsInit) {
    this.#init = init
  }

  /** A package was withdrawn. The first withdrawal stays. */
  add(withdrawn: WithdrawnPackage): void {
    if (!this.#withdrawn.has(withdrawn.id)) this.#withdrawn.set(withdrawn.id, withdrawn)
  }

  /** The secret from which the hashes of this node's sketches follow; created at the first call. */
  seed(): Promise<Uint8Array> {
    this.#seed ??= this.#loadSeed()
    return this.#seed
  }

  async #loadSeed(): Promise<Uint8Array> {
    const { catalogue } = this.#init
    const stored = await catalogue.get('settings', SEED_KEY)
    if (stored !== undefined) return stored
    const seed = new Uint8Array(randomBytes(SEED_BYTES))
    await catalogue.put('settings', SEED_KEY, seed)
    return seed
  }

  /** Keep the sketch of a judged package's weights. @throws InputError `disk-full`, `io`. */
  async keep({ files: [{ sha256 }] }: Manifest, sketch: WeightSketch): Promise<void> {
    if (sketch.size > 0) await this.#init.catalogue.put('sketches', sha256, encodeSketch(sketch))
  }

  /** The withdrawn packages whose weights a package must not have, latest first. */
  async against(opened: OpenedManifest): Promise<WithdrawnPackage[]> {
    const later = [...this.#withdrawn.values()].filter((withdrawn) => this.#counts(withdrawn, opened))
    if (later.length === 0) return []
    const latest = later.sort((a, b) => b.issuedAt - a.issuedAt).slice(0, MAX_COMPARED)
    const own: OpenedManifest[] = []
    for await (const one of this.#init.packagesOf(opened.manifest.publisher)) own.push(one)
    const counting: WithdrawnPackage[] = []
    for (const withdrawn of latest) {
      if (!(await this.#isOriginal(opened, own, withdrawn))) counting.push(withdrawn)
    }
    return counting
  }

  /** Sketches of withdrawn weights; none for a package that this node never judged. */
  async sketchesOf(withdrawn: readonly WithdrawnPackage[]): Promise<ForbiddenWeights[]> {
    const known: ForbiddenWeights[] = []
    for (const { id, file } of withdrawn) {
      const sketch = await this.#sketch(file)
      if (sketch !== undefined) known.push({ id, sketch })
    }
    return known
  }

  #counts(withdrawn: WithdrawnPackage, { id, manifest, isDraft }: OpenedManifest): boolean {
    const { publisher, reason, by, issuedAt, arrivedAt } = withdrawn
    // An owner may go back to an earlier version of its own.
    if (reason === 'superseded' && publisher === manifest.publisher) return false
    if (withdrawn.id === id) return false
    // What this node is about to publish comes after all that it knows, whatever the clocks of others say.
    if (isDraft === true) return true
    // One log says for certain what came later, whatever times its statements name.
    if (by?.publisher === manifest.publisher) return manifest.seq > by.seq
    if (manifest.issuedAt > issuedAt) return true
    const arrived = this.#init.arrivedAt(id)
    const isFresh = arrivedAt !== undefined && arrivedAt - issuedAt <= FRESH_SECONDS
    return isFresh && arrived !== undefined && arrived > arrivedAt
  }

  /**
   * Whether the publisher of a package published these weights before the withdrawn package did, and has not withdrawn
   * them: otherwise a member could end the use of another's expert by publishing and withdrawing a copy of it.
   */
  async #isOriginal(
    { manifest }: OpenedManifest,
    own: readonly OpenedManifest[],
    withdrawn: WithdrawnPackage,
  ): Promise<boolean> {
    if (manifest.publisher === withdrawn.publisher) return false
    const earlier = own.filter(
      (one) =>
        one.manifest.issuedAt < withdrawn.publishedAt &&
        (this.#withdrawn.get(one.id)?.reason ?? 'superseded') === 'superseded',
    )
    const known = await this.#sketch(withdrawn.file)
    for (const one of earlier) {
      const [{ sha256 }] = one.manifest.files
      if (sha256 === withdrawn.file) return true
      const sketch = known === undefined ? undefined : await this.#sketch(sha256)
      if (known !== undefined && sketch !== undefined && isNearlySame(known, sketch)) return true
    }
    return false
  }

  async #sketch(file: Digest): Promise<WeightSketch | undefined> {
    const stored = await this.#init.catalogue.get('sketches', file)
    return stored === undefined ? undefined : decodeSketch(stored)
  }
}
