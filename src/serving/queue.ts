/**
 * Admits a limited number of requests at once. Others wait, up to a limit, and are admitted in the order of arrival.
 * Knows nothing about requests.
 */

export class QueueFullError extends Error {}

export class Queue {
  /** Number of admitted requests that have not been released. */
  #running = 0
  /** Functions that admit the waiting requests, in the order of arrival. */
  readonly #waiting = new Set<() => void>()
  readonly #concurrency: number
  readonly #maxWaiting: number

  /**
   * @param concurrency maximum number of requests that are admitted at the same time
   * @param maxWaiting maximum number of requests that wait
   */
  constructor(concurrency: number, maxWaiting: number) {
    this.#concurrency = concurrency
    this.#maxWaiting = maxWaiting
  }

  /**
   * Resolves when the request is admitted, even if `signal` aborts at the same moment.
   * @returns a function that the caller calls when the request has ended; a second call has no effect.
   * @throws QueueFullError; the signal's reason if it aborts while the request waits.
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#running < this.#concurrency) this.#running++
    else await this.#wait(signal)
    return this.#leave()
  }

  #leave(): () => void {
    let isReleased = false
    return () => {
      if (isReleased) return
      isReleased = true
      this.#release()
    }
  }

  /** A place that is free now; undefined if there is none. @returns as `enter` */
  tryEnter(): (() => void) | undefined {
    if (this.#running >= this.#concurrency) return undefined
    this.#running++
    return this.#leave()
  }

  #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.size >= this.#maxWaiting) throw new QueueFullError()
    return new Promise((resolve, reject) => {
      const admit = (): void => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const leave = (): void => {
        this.#waiting.delete(admit)
        reject(signal.reason)
      }
      signal.addEventListener('abort', leave, { once: true })
      this.#waiting.add(admit)
    })
  }

  /** Hands the place to the first waiting request at once, so that no request which enters now can take it. */
  #release(): void {
    const [admit] = this.#waiting
    if (admit === undefined) {
      this.#running--
      return
    }
    this.#waiting.delete(admit)
    admit()
  }
}
