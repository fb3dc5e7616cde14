/**
 * Collects held-out documents while a corpus is read: those with the smallest hashes that fit into a number of bytes,
 * which is a fair sample whatever the order of the documents. Knows nothing about training.
 */
interface Candidate {
  readonly hash: Buffer
  readonly text: string
  readonly bytes: number
}

/** The sample may exceed its size by a quarter before it is sorted and cut. */
const SLACK = 1.25

export class HeldOutSample {
  readonly #maxBytes: number
  #candidates: Candidate[] = []
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get size(): number {
    return this.#candidates.length
  }

  /** Add a document. @returns the documents that no longer fit. */
  add(hash: Buffer, text: string): string[] {
    const bytes = Buffer.byteLength(text)
    this.#candidates.push({ hash, text, bytes })
    this.#bytes += bytes
    return this.#bytes > SLACK * this.#maxBytes ? this.#cut() : []
  }

  /** All documents, sorted by hash. */
  inOrder(): string[] {
    this.#sort()
    return this.#candidates.map(({ text }) => text)
  }

  #sort(): void {
    this.#candidates.sort((a, b) => a.hash.compare(b.hash))
  }

  #cut(): string[] {
    this.#sort()
    const evicted: string[] = []
    while (this.#bytes > this.#maxBytes && this.#candidates.length > 1) {
      const { text, bytes } = this.#candidates.pop() as Candidate
      this.#bytes -= bytes
      evicted.push(text)
    }
    return evicted
  }
}
