/**
 * Keeps rows of the egress ledger for a process that does not hold the lock of the home and so may not append to the
 * ledger, such as one that joins a consortium. All rows are in one file, which the next start of the node takes over.
 */
import { ensurePrivateDir } from '../lib/files.ts'
import type { EgressJournal } from './egress-book.ts'
import { foreignPath, handOver, writePending } from './egress-files.ts'
import type { EgressBody } from './egress-row.ts'

export class ForeignJournal implements EgressJournal {
  readonly #dir: string
  readonly #path: string
  readonly #now: () => number
  #closed: readonly EgressBody[] = []

  private constructor(dir: string, now: () => number) {
    this.#dir = dir
    this.#path = foreignPath(dir, process.pid)
    this.#now = now
  }

  /** @param now Unix seconds. @throws InputError `disk-full`, `permissions`. */
  static async open(dir: string, now: () => number): Promise<ForeignJournal> {
    await ensurePrivateDir(dir)
    const journal = new ForeignJournal(dir, now)
    await journal.save([], [])
    return journal
  }

  async save(closed: readonly EgressBody[], open: readonly EgressBody[]): Promise<void> {
    const all = [...this.#closed, ...closed]
    await writePending(this.#path, { lines: [], open: [...all, ...open], savedAt: this.#now() })
    this.#closed = all
  }

  /** Nothing to do: the rows become durable when the node takes them over. */
  async sync(): Promise<void> {}

  async close(): Promise<void> {
    await handOver(this.#path, this.#dir)
  }
}
