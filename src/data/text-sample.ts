/**
 * Collects a sample of documents while a corpus is read: those with the smallest hashes that fit into a number of
 * bytes, which is a fair sample whatever the order of the documents. Does not know what the sample is used for.
 */
export interface SampleDocument {
  /** SHA-256 of the text. */
  readonly hash: Buffer
  readonly text: string
  /** Name of the file, for people. */
  readonly name: string
}

interface Candidate extends SampleDocument {
  readonly bytes: number
  /** Position in the order of reading. */
  readonly position: number
}

/** The sample may exceed its size by a quarter before it is sorted and cut. */
const SLACK = 1.25

export class TextSample {
  readonly #maxBytes: number
  #candidates: Candidate[] = []
  #bytes = 0
  #position = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Number of documents. */
  get size(): number {
    return this.#candidates.length
  }

  /** Number of bytes of UTF-8. */
  get bytes(): number {
    return this.#bytes
  }

  /** Add a document. @returns the documents that no longer fit. */
  add({ hash, text, name }: SampleDocument): SampleDocument[] {
    const bytes = Buffer.byteLength(text)
    this.#candidates.push({ hash, text, name, bytes, position: this.#position++ })
    this.#bytes += bytes
    return this.#bytes > SLACK * this.#maxBytes ? this.#cut() : []
  }

  /** All documents, sorted by hash. */
  byHash(): SampleDocument[] {
    this.#sort()
    return this.#candidates
  }

  /** All documents, in the order in which they were added. */
  inReadingOrder(): SampleDocument[] {
    return this.#candidates.sort((a, b) => a.position - b.position)
  }

  #sort(): void {
    this.#candidates.sort((a, b) => a.hash.compare(b.hash))
  }

  #cut(): SampleDocument[] {
    this.#sort()
    const evicted: SampleDocument[] = []
    while (this.#bytes > this.#maxBytes && this.#candidates.length > 1) {
      const candidate = this.#candidates.pop() as Candidate
      this.#bytes -= candidate.bytes
      evicted.push(candidate)
    }
    return evicted
  }
}
