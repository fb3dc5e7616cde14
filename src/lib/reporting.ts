/** Turns actions that report their progress into async generators. Knows nothing about the actions. */

/**
 * Run `action`. Yields its latest report, since a new report replaces one that was not consumed yet; returns its
 * result.
 * @throws whatever `action` throws.
 */
export async function* reporting<E, T>(
  action: (report: (event: E) => void) => Promise<T>,
): AsyncGenerator<E, T, void> {
  let latest: { event: E } | undefined
  let wake: () => void = () => undefined
  const running = action((event) => {
    latest = { event }
    wake()
  })
  const ended = running.then(
    () => true,
    () => true,
  )
  for (;;) {
    const reported = new Promise<boolean>((resolve) => {
      wake = () => resolve(false)
    })
    if (await Promise.race([ended, reported])) return running
    if (latest !== undefined) yield latest.event
    latest = undefined
  }
}

/**
 * `reporting` for an action that ends early by a signal. If the consumer leaves the iteration, the action is stopped and
 * its end is awaited; `discard` then frees its result.
 * @throws whatever `action` throws.
 */
export async function* reportingUntilStopped<E, T>(
  action: (report: (event: E) => void, stop: AbortSignal) => Promise<T>,
  discard: (result: T) => Promise<void> = async () => undefined,
): AsyncGenerator<E, T, void> {
  const stop = new AbortController()
  let running: Promise<T> | undefined
  let isDone = false
  try {
    const result = yield* reporting<E, T>((report) => {
      running = action(report, stop.signal)
      return running
    })
    isDone = true
    return result
  } finally {
    if (!isDone) {
      stop.abort()
      await running?.then(discard, () => undefined)
    }
  }
}
