/** A bounded first-come queue for generations. Knows no request. */
export class QueueFullError extends Error {}

export class Queue {
  #running = 0
  readonly #waiting: (() => void)[] = []
  readonly #concurrency: number
  readonly #maxWaiting: number

  constructor(concurrency: number, maxWaiting: number) {
    this.#concurrency = concurrency
    this.#maxWaiting = maxWaiting
  }

  /**
   * Resolves with a function that must be called once, when the place is free again.
   * @throws QueueFullError; the signal's reason when it fires while waiting.
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#running >= this.#concurrency) {
      if (this.#waiting.length >= this.#maxWaiting) throw new QueueFullError()
      await new Promise<void>((resolve, reject) => {
        const proceed = (): void => {
          signal.removeEventListener('abort', leave)
          resolve()
        }
        const leave = (): void => {
          this.#waiting.splice(this.#waiting.indexOf(proceed), 1)
          reject(signal.reason)
        }
        signal.addEventListener('abort', leave, { once: true })
        this.#waiting.push(proceed)
      })
    }
    this.#running++
    let released = false
    return () => {
      if (released) return
      released = true
      this.#running--
      this.#waiting.shift()?.()
    }
  }
}
