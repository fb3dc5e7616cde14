/** How far an evaluation is, by the number of multiplications of its steps. Does not know what the steps compute. */
import type { ModelConfig } from './config.ts'
import type { BatchStreams, WindowBatch } from './window-streams.ts'

/** Reports the share of the work that is done after every step, as if every row used all experts. */
export class Progress {
  readonly #onProgress: ((share: number) => void) | undefined
  readonly #total: number
  /** Multiplications of one row in attention, in all experts of a layer, and in the head. */
  readonly #attention: number
  readonly #experts: number
  readonly #head: number
  #done = 0

  constructor(
    batches: readonly WindowBatch[],
    { hiddenSize: C, intermediateSize: F, vocabSize: V, numHiddenLayers: L }: ModelConfig,
    E: number,
    onProgress: ((share: number) => void) | undefined,
  ) {
    this.#attention = 4 * C * C
    this.#experts = 3 * C * F * E
    this.#head = V * C
    this.#onProgress = onProgress
    this.#total = batches.reduce(
      (sum, batch) => sum + windowsOf(batch) * (L * (this.#attention + this.#experts) + this.#head),
      0,
    )
  }

  attended({ batch }: BatchStreams): void {
    this.#add(windowsOf(batch) * this.#attention)
  }

  mixed({ batch }: BatchStreams, share: number): void {
    this.#add(windowsOf(batch) * this.#experts * share)
  }

  predicted(batches: readonly WindowBatch[], share: number): void {
    this.#add(batches.reduce((sum, batch) => sum + windowsOf(batch), 0) * this.#head * share)
  }

  #add(work: number): void {
    this.#done += work
    this.#onProgress?.(Math.min(1, this.#done / this.#total))
  }
}

/** Windows of a batch, counted once for each routing. */
function windowsOf({ lengths, routings }: WindowBatch): number {
  return lengths.length * routings.length
}
