/** Gives the event loop a turn during long computations. Does not know what is computed. */
import { setImmediate } from 'node:timers/promises'

export class Turns {
  readonly #longestMs: number
  #started = performance.now()

  /** @param longestMs milliseconds after which `next` lets other work go on */
  constructor(longestMs: number) {
    this.#longestMs = longestMs
  }

  /** Call it between pieces of work. */
  async next(): Promise<void> {
    if (this.isDue) await this.take()
  }

  /** Whether `next` would wait. For loops in which a promise for every piece would cost more than the piece. */
  get isDue(): boolean {
    return performance.now() - this.#started > this.#longestMs
  }

  async take(): Promise<void> {
    await setImmediate()
    this.#started = performance.now()
  }
}
