/** A line of waiting packages for each publisher. Publishers take turns, so that a long line delays only its own. */
import type { Digest } from '../lib/bytes.ts'

export interface QueuedPackage {
  /** Package id. */
  readonly id: Digest
  readonly publisher: string
  /** Number of the manifest in its publisher's log. */
  readonly seq: number
}

export class FairLines<T extends QueuedPackage> {
  /** In the order of their turns. Lines are never empty. */
  readonly #lines = new Map<string, T[]>()

  get size(): number {
    let size = 0
    for (const line of this.#lines.values()) size += line.length
    return size
  }

  length(publisher: string): number {
    return this.#lines.get(publisher)?.length ?? 0
  }

  /** @param first ahead of everything that waits */
  add(item: T, first = false): void {
    const line = this.#lines.get(item.publisher) ?? []
    if (!first) {
      this.#lines.set(item.publisher, [...line, item])
      return
    }
    const others = [...this.#lines].filter(([publisher]) => publisher !== item.publisher)
    this.#lines.clear()
    this.#lines.set(item.publisher, [item, ...line])
    for (const [publisher, rest] of others) this.#lines.set(publisher, rest)
  }

  /** Remove and return the next item of the first publisher whose turn it is and that may have one now. */
  take(mayTake: (publisher: string) => boolean = () => true): T | undefined {
    for (const [publisher, [next, ...rest]] of this.#lines) {
      if (!mayTake(publisher)) continue
      this.#lines.delete(publisher)
      if (rest.length > 0) this.#lines.set(publisher, rest)
      return next
    }
    return undefined
  }

  remove(item: T): void {
    const rest = this.#lines.get(item.publisher)?.filter((other) => other !== item) ?? []
    if (rest.length > 0) this.#lines.set(item.publisher, rest)
    else this.#lines.delete(item.publisher)
  }
}
