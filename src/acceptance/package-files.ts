/**
 * Which files of the blob store packages need: those in use, those being judged or published, and those kept for later.
 * Deletes a file only if nothing needs it. Does not know why a package is used or kept.
 */
import type { Digest } from '../lib/bytes.ts'
import type { Manifest } from '../packaging/manifest.ts'
import type { BlobStore } from '../store/blob-store.ts'

interface PackageFilesInit {
  readonly blobs: BlobStore
  /** Digests of files that are never deleted: those of the public model. */
  readonly keep: ReadonlySet<Digest>
  /** Manifests of the packages in use. */
  readonly inUse: () => readonly Manifest[]
}

export class PackageFiles {
  readonly #init: PackageFilesInit
  /** Number of holds on each file. */
  readonly #held = new Map<Digest, number>()
  /** Packages that are not used but whose files stay: the operator refused them, or their consent ended lately. */
  readonly #kept = new Map<Digest, Manifest>()

  constructor(init: PackageFilesInit) {
    this.#init = init
  }

  /**
   * Keep the file of a package while it is judged or published, although nothing uses it yet.
   * @returns a function that ends this; a second call does nothing.
   */
  hold({ files }: Manifest): () => void {
    const digests = files.map(({ sha256 }) => sha256)
    for (const digest of digests) this.#held.set(digest, (this.#held.get(digest) ?? 0) + 1)
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      for (const digest of digests) this.#held.set(digest, (this.#held.get(digest) ?? 0) - 1)
    }
  }

  /** Keep the file of a package that is not used, until `release`. */
  keep(id: Digest, manifest: Manifest): void {
    this.#kept.set(id, manifest)
  }

  /** End `keep`. The file stays until `delete`. */
  release(id: Digest): void {
    this.#kept.delete(id)
  }

  /** Delete a package's file, unless another package or the public model needs it. */
  async delete({ files }: Manifest): Promise<void> {
    for (const file of files) {
      const { sha256 } = file
      if (!this.needs(sha256) && !this.#init.keep.has(sha256)) await this.#init.blobs.discard(file)
    }
  }

  /** Whether a package that is in use, being judged or kept has this file. */
  needs(sha256: Digest): boolean {
    if ((this.#held.get(sha256) ?? 0) > 0) return true
    const used = [...this.#init.inUse(), ...this.#kept.values()]
    return used.some((manifest) => manifest.files.some((file) => file.sha256 === sha256))
  }
}
