/**
 * Owns the state of every package that has no verdict yet. The queue and the steps of the pipeline report to it;
 * commands read it and never wait for the queue. Nothing of it is on disk. Knows nothing about verdicts.
 */
import type { Digest } from '../lib/bytes.ts'

/** How far a judgement is. */
export interface Judging {
  /** The check that runs: `manifest`, `file`, `tensors` with the other checks of the weights, or `measurement`. */
  readonly check: string
  /** What this check has done, of `total`, in a unit of its own, and the expected time of the rest; absent if unknown. */
  readonly done?: number
  readonly total?: number
  readonly secondsLeft?: number
}

export type PackageState =
  /** Its manifest is here, its turn has not come. */
  | { readonly kind: 'announced' }
  | { readonly kind: 'fetching'; readonly doneBytes: number; readonly totalBytes: number }
  /** No connected member delivers its file now. */
  | { readonly kind: 'waiting-for-holder'; readonly reason: string }
  | { readonly kind: 'disk-full'; readonly neededBytes: number; readonly freeBytes: number }
  /** Its file is here, another package is judged. */
  | { readonly kind: 'fetched' }
  | ({ readonly kind: 'judging' } & Judging)
  /** This node could not judge it. */
  | {
      readonly kind: 'failed'
      readonly reason: string
      /** Whether it is not tried again before the next start of the node. */
      readonly isFinal: boolean
      /** Whether only the operator can have it judged again. */
      readonly needsOperator?: true
    }

export class PackageStates {
  readonly #states = new Map<Digest, PackageState>()
  readonly #listeners = new Set<(id: Digest) => void>()

  get(id: Digest): PackageState | undefined {
    return this.#states.get(id)
  }

  /** Ids and states in the order in which the packages arrived. */
  list(): [Digest, PackageState][] {
    return [...this.#states]
  }

  set(id: Digest, state: PackageState): void {
    this.#states.set(id, state)
    this.#tell(id)
  }

  /** A package has a verdict, or needs none. */
  delete(id: Digest): void {
    if (this.#states.delete(id)) this.#tell(id)
  }

  /** Call `listener` after each change. @returns a function that ends this. */
  onChange(listener: (id: Digest) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  #tell(id: Digest): void {
    for (const listener of this.#listeners) listener(id)
  }
}
