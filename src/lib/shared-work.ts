/**
 * Lets concurrent callers share one run of a piece of work (the "single flight" of Go's `golang.org/x/sync`).
 * Knows nothing about the work.
 */

interface Run<T> {
  readonly result: Promise<T>
  readonly abort: AbortController
  /** Number of callers that wait for the result. */
  callers: number
}

/** Keeps no results: once a run has ended, with a result or an error, the next caller starts a new one. */
export class SharedWork<T> {
  readonly #runs = new Map<string, Run<T>>()

  /**
   * Join the run of `key` that is under way, or start `work`. A caller whose signal fires stops waiting; the run
   * itself is aborted once every caller has left, and the next run of the key starts after it has ended.
   * @throws what `work` throws; the reason of `signal`.
   */
  async run(key: string, work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    const current = this.#runs.get(key)
    const run = current?.abort.signal.aborted === false ? current : this.#start(key, work, current)
    run.callers++
    return new Promise<T>((resolve, reject) => {
      const leave = (): void => {
        run.callers--
        // The last caller waits until the work has stopped, so that nothing writes files behind its back.
        if (run.callers === 0) run.abort.abort(signal?.reason)
        else reject(signal?.reason)
      }
      signal?.addEventListener('abort', leave, { once: true })
      void run.result.then(resolve, reject).finally(() => signal?.removeEventListener('abort', leave))
    })
  }

  #start(key: string, work: (signal: AbortSignal) => Promise<T>, aborted: Run<T> | undefined): Run<T> {
    const abort = new AbortController()
    const forget = (): void => {
      if (this.#runs.get(key) === run) this.#runs.delete(key)
    }
    const begin = async (): Promise<T> => {
      await aborted?.result.catch(() => undefined)
      try {
        return await work(abort.signal)
      } finally {
        forget()
      }
    }
    const run: Run<T> = { result: begin(), abort, callers: 0 }
    this.#runs.set(key, run)
    return run
  }
}
