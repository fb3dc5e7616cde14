/** What the benchmark of sizes found of one model, and what it could not measure. Measures nothing. */

export interface Prefill {
  readonly tokensPerSecond: number
  /** Peer's time divided by ours. */
  readonly llamacpp?: number
  readonly transformers?: number
}

export interface Serving {
  readonly peakMB: number
  /** Bytes of all matrices in this format. */
  readonly weightsMB: number
  /** From the start of the process to the end of its first answer, of one token. */
  readonly startSeconds: number
  readonly secondStartSeconds: number
  /** Time to read as many bytes from files that were just written. */
  readonly readSeconds: number
  readonly decodeMs?: number
  /** Bytes of the weights that a token reads, divided by its time and the machine's read bandwidth. */
  readonly bandwidthShare?: number
  /** Peer's time for a token divided by ours. */
  readonly llamacpp?: number
  readonly transformers?: number
  readonly prefill?: Prefill
}

/** Members that were measured of one model. */
export interface ModelFindings {
  createMB?: number
  createSeconds?: number
  trainRank64?: TrainFindings
  publishMB?: number
  publishSeconds?: number
  /** Peak of the node that judges a whole expert, and how much of it the judging added. */
  judgeMB?: number
  judgeAddedMB?: number
  judgeSeconds?: number
  serve?: Record<string, Serving>
  exportMB?: number
  exportSeconds?: number
  importMB?: number
  importSeconds?: number
  exportPairMB?: number
}

export interface TrainFindings {
  readonly peakMB: number
  readonly seconds: number
  readonly tokensPerSecond?: number
  /** Our tokens per second divided by those of PyTorch. */
  torchEager?: number
}

/** Rows of one model; a row that fails is reported and does not stop the others. */
export class Rows {
  readonly notMeasured: string[] = []
  readonly #model: string
  readonly #say: (line: string) => void

  constructor(model: string, say: (line: string) => void) {
    this.#model = model
    this.#say = say
  }

  say(line: string): void {
    this.#say(`${this.#model}: ${line}`)
  }

  skip(row: string, reason: string): void {
    this.notMeasured.push(`${this.#model}: ${row}: ${reason}`)
    this.#say(`${this.#model}: ${row}: not measured: ${reason}`)
  }

  /** Runs a row. Returns undefined, and keeps the reason, if it fails. */
  async measure<T>(row: string, action: () => Promise<T>): Promise<T | undefined> {
    try {
      return await action()
    } catch (error) {
      this.skip(row, error instanceof Error ? error.message : String(error))
      return undefined
    }
  }
}
