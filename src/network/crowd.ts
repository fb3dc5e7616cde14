/**
 * A bounded set of items, each with a source. Once it is full, a new item replaces the oldest one of its own source or,
 * if its source has room, of the source with most items. One source therefore never displaces the items of a smaller
 * one. Does not know what the items are.
 */
import type { Source } from './source.ts'

export class Crowd<T> {
  readonly #perSource: number
  readonly #total: number
  /** Oldest first. */
  readonly #items = new Map<T, Source>()

  constructor(perSource: number, total: number) {
    this.#perSource = perSource
    this.#total = total
  }

  get size(): number {
    return this.#items.size
  }

  has(item: T): boolean {
    return this.#items.has(item)
  }

  /** @returns the item that was replaced. An item that is in the set already stays where it is. */
  add(item: T, source: Source): T | undefined {
    if (this.#items.has(item)) return undefined
    const counts = new Map<Source, number>()
    for (const other of this.#items.values()) counts.set(other, (counts.get(other) ?? 0) + 1)
    const isSourceFull = (counts.get(source) ?? 0) >= this.#perSource
    const largest = Math.max(0, ...counts.values())
    let replaced: T | undefined
    if (isSourceFull || this.#items.size >= this.#total) {
      const isCandidate = (other: Source) => (isSourceFull ? other === source : counts.get(other) === largest)
      replaced = [...this.#items].find(([, other]) => isCandidate(other))?.[0]
      if (replaced !== undefined) this.#items.delete(replaced)
    }
    this.#items.set(item, source)
    return replaced
  }

  delete(item: T): void {
    this.#items.delete(item)
  }
}
