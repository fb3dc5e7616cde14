/**
 * LevelDB that loses no acknowledged write after a failed one, and keeps no write that it reported as failed. A write that
 * fails halfway, as on a full disk, leaves half a record at the end of LevelDB's log; when the log is read again, the
 * records behind it in the same block of 32 KiB are dropped with it. A write of which only the flush failed leaves a whole
 * record, which has its effect when the log is read again. So after a failed write nothing is written until the database
 * has been opened anew, which ends the damaged log, and until what it then holds of the failed write has been undone. If
 * that fails, too, each later call tries again. Stores bytes and does not know what they mean.
 */
import { readdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { equalBytes } from '../lib/bytes.ts'

export type Operation = { type: 'put'; key: string; value: Uint8Array } | { type: 'del'; key: string }

/** Space that opening needs besides twice the log, which is written into a table, bytes. */
const OPENING_BYTES = 256 * 1024

interface FailedWrite {
  readonly operations: readonly Operation[]
  /** Values that the keys of the operations had before; undefined until they have been read. */
  before?: readonly (Uint8Array | undefined)[]
}

export class DurableLevel {
  readonly #path: string
  readonly #db: ClassicLevel<string, Uint8Array>
  readonly #reads = new Set<Promise<unknown>>()
  /** The write that has failed, until the database has been opened anew without it. */
  #failed: FailedWrite | undefined
  #isEnded = false
  #reopening: Promise<void> | undefined

  constructor(path: string) {
    this.#path = path
    this.#db = new ClassicLevel(path, { keyEncoding: 'utf8', valueEncoding: 'view' })
  }

  /** Open or create the database, and lock it against other processes. @throws the error of LevelDB. */
  open(): Promise<void> {
    return this.#db.open()
  }

  async close(): Promise<void> {
    // Otherwise the next process would find the write that was reported as failed.
    if (this.#failed !== undefined) await this.#reopen(this.#failed).catch(() => undefined)
    this.#isEnded = true
    return this.#db.close()
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#read(() => this.#db.get(key))
  }

  /** Keys and values in the order of the keys. */
  async entries(range: { gte: string; lt: string; limit?: number }): Promise<[string, Uint8Array][]> {
    return this.#read(() => this.#db.iterator(range).all())
  }

  /** Every key and value, in the order of the keys, as they are when the first one is read. */
  async *snapshot(): AsyncGenerator<[string, Uint8Array], void, void> {
    await this.#opened()
    let end: () => void = () => undefined
    const reading = new Promise<void>((resolve) => {
      end = resolve
    })
    this.#reads.add(reading)
    try {
      // LevelDB's iterator reads the state in which it was created.
      for await (const entry of this.#db.iterator()) yield entry
    } finally {
      this.#reads.delete(reading)
      end()
    }
  }

  /**
   * Write all operations or none, and flush. Must not be called while another call runs. After an error none has an effect,
   * unless the process ends before the disk can be written again.
   * @throws the error of LevelDB.
   */
  async batch(operations: Operation[]): Promise<void> {
    if (this.#failed !== undefined) await this.#reopen(this.#failed)
    try {
      await this.#db.batch(operations, { sync: true })
    } catch (error) {
      this.#failed = { operations }
      throw error
    }
  }

  /** Resolves once the database can be read: a disk that failed while it was opened anew has left it closed. */
  async #opened(): Promise<void> {
    await this.#reopening?.catch(() => undefined) // The call that began it gets the error.
    if (this.#failed === undefined || this.#isEnded || this.#db.status === 'open') return
    await this.#reopen(this.#failed)
  }

  #reopen(failed: FailedWrite): Promise<void> {
    const reopen = async (): Promise<void> => {
      try {
        await this.#checkRoom()
        await Promise.allSettled(this.#reads)
        // LevelDB shows the values before a failed write until it reads its log again.
        failed.before ??= await this.#db.getMany(failed.operations.map(({ key }) => key))
        await this.#db.close()
        await this.#db.open()
        try {
          await this.#undo(failed)
        } catch (error) {
          await this.#db.close() // So that nobody reads what the failed write has stored.
          throw error
        }
        this.#failed = undefined
      } finally {
        this.#reopening = undefined
      }
    }
    this.#reopening ??= reopen()
    return this.#reopening
  }

  /** Give the keys of a failed write the values that they had before it. */
  async #undo({ operations, before = [] }: FailedWrite): Promise<void> {
    const now = await this.#db.getMany(operations.map(({ key }) => key))
    const restored = operations.flatMap(({ key }, i): Operation[] => {
      const value = before[i]
      if (isSame(now[i], value)) return []
      return value === undefined ? [{ type: 'del', key }] : [{ type: 'put', key, value }]
    })
    if (restored.length > 0) await this.#db.batch(restored, { sync: true })
  }

  /** @throws Error if opening would fail, after which nothing could be read any more. */
  async #checkRoom(): Promise<void> {
    const { bavail, bsize, blocks } = await statfs(this.#path)
    const logs = (await readdir(this.#path)).filter((name) => name.endsWith('.log'))
    const sizes = await Promise.all(logs.map(async (name) => (await stat(join(this.#path, name))).size))
    const needed = 2 * sizes.reduce((sum, size) => sum + size, 0) + OPENING_BYTES
    if (blocks > 0 && bavail * bsize < needed) throw new Error('no space left to open the catalogue anew')
  }

  async #read<T>(action: () => Promise<T>): Promise<T> {
    await this.#opened()
    const reading = action()
    this.#reads.add(reading)
    try {
      return await reading
    } finally {
      this.#reads.delete(reading)
    }
  }
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equalBytes(a, b)
}
