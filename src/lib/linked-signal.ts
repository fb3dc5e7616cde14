/**
 * A signal that aborts with the first of others, for what lives as long as they do. Node keeps a signal of
 * `AbortSignal.any` in memory until one of its sources aborts if anybody still listens to it, and a request that ends well
 * aborts nothing.
 */

/** @param sources signals that end with the work itself, since each keeps a listener. */
export function linkedSignal(...sources: readonly AbortSignal[]): AbortSignal {
  const linked = new AbortController()
  for (const source of sources) {
    const abort = (): void => linked.abort(source.reason)
    if (source.aborted) abort()
    else source.addEventListener('abort', abort, { once: true })
  }
  return linked.signal
}
