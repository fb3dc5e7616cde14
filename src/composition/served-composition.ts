/**
 * The composition that a node answers with, and earlier ones that still finish answers. Knows neither experts nor
 * network.
 */
import type { Inference } from './composed-model.ts'

export class ServedComposition {
  #current: Inference
  readonly #retiring = new Set<Promise<void>>()

  constructor(first: Inference) {
    this.#current = first
  }

  get current(): Inference {
    return this.#current
  }

  /** New answers come from `next`; those in work are finished by the one before. */
  replace(next: Inference): void {
    const retired = this.#current.dispose().finally(() => this.#retiring.delete(retired))
    this.#retiring.add(retired)
    this.#current = next
  }

  /** Answers in work are finished first. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#retiring, this.#current.dispose()])
  }
}
