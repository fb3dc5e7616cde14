/**
 * Runs several generators in a limited number of places, and yields what they yield as it comes. Knows nothing about
 * answers.
 */
import '../lib/node20.ts'
import { setMaxListeners } from 'node:events'

/**
 * The first task has a place from the beginning. Each further one begins when another has ended, or at once if there is
 * another place.
 * @param tasks start a generator, which must end soon when its signal aborts
 * @param anotherPlace takes a free place and returns the function that releases it; undefined if there is none
 * @throws the error of a task, after all others have ended; the reason of `signal`
 */
export async function* concurrently<T>(
  tasks: readonly ((signal: AbortSignal) => AsyncGenerator<T, void, void>)[],
  anotherPlace: () => (() => void) | undefined,
  signal: AbortSignal,
): AsyncGenerator<T, void, void> {
  const ended = new AbortController()
  const inner = AbortSignal.any([signal, ended.signal])
  // Each task listens, which is no leak.
  setMaxListeners(0, inner)
  const waiting = [...tasks]
  const running = new Map<AsyncGenerator<T, void, void>, Promise<Step<T>>>()
  const places: (() => void)[] = []
  const pull = (source: AsyncGenerator<T, void, void>): void => {
    running.set(
      source,
      source.next().then((result) => ({ source, result })),
    )
  }
  const start = (): void => {
    while (waiting.length > 0) {
      if (running.size > places.length) {
        const leave = anotherPlace()
        if (leave === undefined) return
        places.push(leave)
      }
      const task = waiting.shift()
      if (task !== undefined) pull(task(inner))
    }
  }
  try {
    start()
    while (running.size > 0) {
      const { source, result } = await Promise.race(running.values())
      if (result.done !== true) {
        yield result.value
        pull(source)
        continue
      }
      running.delete(source)
      start()
      // The first place belongs to the caller.
      while (places.length > 0 && places.length >= running.size) places.pop()?.()
    }
  } finally {
    ended.abort()
    await Promise.allSettled([...running.keys()].map((source) => source.return()))
    for (const leave of places) leave()
  }
}

interface Step<T> {
  readonly source: AsyncGenerator<T, void, void>
  readonly result: IteratorResult<T, void>
}
