/** Lets long activities run one after the other, in the order of arrival, and tells those that wait for whom they wait. */

import './node20.ts'

/** An activity that waits for its turn. */
export interface Waiting {
  readonly stage: 'waiting'
  /** Name of the activity that runs now. */
  readonly behind: string
}

interface Turn {
  readonly name: string
  readonly ended: Promise<void>
}

export class Turns {
  /** The activity that runs, then those that wait. */
  readonly #turns: Turn[] = []

  /** Names of the activities that wait, in order. */
  waiting(): string[] {
    return this.#turns.slice(1).map(({ name }) => name)
  }

  /**
   * Run `body` when every earlier activity has ended. Until then, yields an event for each activity that it waits for.
   * @throws the reason of `signal` while waiting; what `body` throws.
   */
  async *run<P, R>(
    name: string,
    signal: AbortSignal,
    body: () => AsyncGenerator<P, R, void>,
  ): AsyncGenerator<P | Waiting, R, void> {
    const end = Promise.withResolvers<void>()
    const own: Turn = { name, ended: end.promise }
    this.#turns.push(own)
    const aborted = Promise.withResolvers<never>()
    aborted.promise.catch(() => undefined)
    const abort = (): void => aborted.reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    try {
      signal.throwIfAborted()
      for (let first = this.#turns[0]; first !== undefined && first !== own; first = this.#turns[0]) {
        yield { stage: 'waiting', behind: first.name }
        await Promise.race([first.ended, aborted.promise])
      }
      return yield* body()
    } finally {
      signal.removeEventListener('abort', abort)
      this.#turns.splice(this.#turns.indexOf(own), 1)
      end.resolve()
    }
  }
}
