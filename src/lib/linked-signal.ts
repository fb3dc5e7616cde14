/**
 * A signal that aborts with the first of others, until it is released. The signals of requests keep what listens to them in
 * memory for good (Node 20: the request's finalizer holds them, `AbortSignal.any` those that it combines), so whoever
 * listens to one must stop when the request has ended.
 */
import { setMaxListeners } from 'node:events'

export interface LinkedSignal {
  readonly signal: AbortSignal
  /** Listen to the sources no longer. */
  release(): void
}

export function linkSignals(...sources: readonly AbortSignal[]): LinkedSignal {
  const linked = new AbortController()
  const aborts = sources.map((source) => {
    const abort = (): void => linked.abort(source.reason)
    // A signal of the whole node has one listener for each request under way; Node warns above ten.
    setMaxListeners(0, source)
    if (source.aborted) abort()
    else source.addEventListener('abort', abort, { once: true })
    return () => source.removeEventListener('abort', abort)
  })
  const release = (): void => {
    for (const remove of aborts) remove()
  }
  return { signal: linked.signal, release }
}
