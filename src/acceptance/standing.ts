/**
 * The packages of each publisher that stand: logged, not withdrawn, not expired. A publisher may have only a number of
 * packages in use; the earliest ones that stand have the places, and later ones wait. What has a place depends on the
 * log alone, so all nodes with one policy agree. Knows nothing about verdicts and weights.
 */
import type { Digest } from '../lib/bytes.ts'
import { limit } from '../lib/limits.ts'
import type { OpenedManifest } from './accept.ts'
import type { QueuedPackage } from './fair-lines.ts'

interface Package extends QueuedPackage {
  /** Unix seconds. */
  readonly expiresAt: number
}

export class Standing {
  readonly #places: number
  readonly #now: () => number
  /** In order of sequence numbers, because that is the order of a log. */
  readonly #packages = new Map<string, Package[]>()
  readonly #waiting = new Map<string, Set<Digest>>()

  /**
   * @param places number of packages of one publisher that may be in use
   * @param now Unix seconds
   */
  constructor(places: number, now: () => number) {
    this.#places = places
    this.#now = now
  }

  /** Add the next manifest of its publisher's log. @returns whether it has a place; if not, it waits for one. */
  add({ id, manifest: { publisher, seq, expiresAt } }: OpenedManifest): boolean {
    const packages = this.#packages.get(publisher) ?? []
    packages.push({ id, publisher, seq, expiresAt })
    this.#packages.set(publisher, packages)
    return this.#claim(publisher, id)
  }

  /** Ask again for a package that was added. @returns whether it has a place; if not, it waits for one. */
  claim({ id, manifest: { publisher } }: OpenedManifest): boolean {
    return this.#claim(publisher, id)
  }

  #claim(publisher: string, id: Digest): boolean {
    if (this.has(publisher, id)) return true
    const waiting = this.#waiting.get(publisher) ?? new Set()
    waiting.add(id)
    this.#waiting.set(publisher, waiting)
    return false
  }

  /** Whether a package need not wait: it has one of its publisher's places, or its consent has ended. */
  has(publisher: string, id: Digest): boolean {
    const isStanding = this.#standing(publisher).some((one) => one.id === id)
    return !isStanding || this.#placed(publisher).some((one) => one.id === id)
  }

  /** Packages that wait for a place. */
  waiting(): Digest[] {
    return [...this.#waiting.values()].flatMap((ids) => [...ids])
  }

  /** Number of packages of a publisher that stand, without those in `except`. */
  count(publisher: string, except: readonly Digest[] = []): number {
    return this.#standing(publisher).filter(({ id }) => !except.includes(id)).length
  }

  /** A withdrawal ends the use of packages. */
  remove(publisher: string, ids: readonly Digest[]): void {
    const left = (this.#packages.get(publisher) ?? []).filter(({ id }) => !ids.includes(id))
    this.#packages.set(publisher, left)
    for (const id of ids) this.#waiting.get(publisher)?.delete(id)
  }

  /** Packages that have waited and have a place now. Each is returned once. */
  takePlaced(): QueuedPackage[] {
    const placed: QueuedPackage[] = []
    for (const [publisher, waiting] of this.#waiting) {
      if (waiting.size === 0) continue
      placed.push(...this.#placed(publisher).filter(({ id }) => waiting.delete(id)))
    }
    return placed
  }

  #placed(publisher: string): Package[] {
    return this.#standing(publisher).slice(0, this.#places)
  }

  #standing(publisher: string): Package[] {
    const oldest = this.#now() - limit('clockSkew')
    return (this.#packages.get(publisher) ?? []).filter(({ expiresAt }) => expiresAt >= oldest)
  }
}
