/**
 * At most one sync with each member runs and at most one waits: callers that come while one runs share the one
 * that waits, because it starts after their call and so brings everything that they know of.
 */
export class SyncQueue<T> {
  readonly #sync: (peer: string) => Promise<T>
  readonly #entries = new Map<string, { readonly running: Promise<T>; waiting?: Promise<T> }>()

  constructor(sync: (peer: string) => Promise<T>) {
    this.#sync = sync
  }

  /** Resolves or rejects with a sync that started after this call. */
  run(peer: string): Promise<T> {
    const entry = this.#entries.get(peer)
    if (entry === undefined) return this.#start(peer)
    entry.waiting ??= entry.running.then(
      () => this.#start(peer),
      () => this.#start(peer),
    )
    return entry.waiting
  }

  /** Resolves once nothing runs or waits. */
  async settled(): Promise<void> {
    while (this.#entries.size > 0) {
      const syncs = [...this.#entries.values()].map(({ running, waiting }) => waiting ?? running)
      await Promise.allSettled(syncs)
    }
  }

  #start(peer: string): Promise<T> {
    const running = this.#sync(peer).finally(() => {
      // The waiting sync replaces the entry itself, so that no third one starts before it.
      if (this.#entries.get(peer)?.waiting === undefined) this.#entries.delete(peer)
    })
    this.#entries.set(peer, { running })
    return running
  }
}
