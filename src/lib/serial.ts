/** Runs actions one after the other, in the order of the calls. Knows nothing about the actions. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve()

  /** Start `action` when every earlier one has ended, whether it failed or not. @throws what `action` throws. */
  run<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action)
    this.#last = result.catch(() => undefined)
    return result
  }

  /** Resolves when every action so far has ended. */
  async idle(): Promise<void> {
    await this.#last
  }
}
