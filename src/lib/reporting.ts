/** Turns an action that reports its progress into an async generator. Knows nothing about the action. */

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
