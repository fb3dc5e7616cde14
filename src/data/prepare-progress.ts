/** Progress of preparing a corpus. Does not know what is prepared. */

/** Bytes read from disk, or bytes of text turned into tokens; reported some hundred times. */
export interface PrepareProgress {
  readonly stage: 'reading' | 'tokenizing'
  readonly done: number
  readonly total: number
  /** Number of documents so far. */
  readonly documents: number
}

/** Reports per stage. */
const REPORTS = 200

/** Counts the bytes of a stage and reports them. */
export class Progress {
  /** Number of documents so far. */
  documents = 0
  readonly #stage: PrepareProgress['stage']
  readonly #total: number
  readonly #report: ((progress: PrepareProgress) => void) | undefined
  #done = 0
  #reported = 0

  /** @param total number of bytes of the stage. */
  constructor(
    stage: PrepareProgress['stage'],
    total: number,
    report: ((progress: PrepareProgress) => void) | undefined,
  ) {
    this.#stage = stage
    this.#total = total
    this.#report = report
  }

  add(bytes: number): void {
    this.#done += bytes
    if (this.#done < this.#total && this.#done - this.#reported < this.#total / REPORTS) return
    this.#reported = this.#done
    this.#report?.({ stage: this.#stage, done: this.#done, total: this.#total, documents: this.documents })
  }
}
