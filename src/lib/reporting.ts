/** An action that tells how far it is, as a generator: its latest news out, its result back. */

/**
 * Run `action`; what it reports is yielded, news that nobody has taken yet gives way to newer.
 * @throws what `action` throws.
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
    const news = new Promise<boolean>((resolve) => {
      wake = () => resolve(false)
    })
    if (await Promise.race([ended, news])) return running
    if (latest !== undefined) yield latest.event
    latest = undefined
  }
}
