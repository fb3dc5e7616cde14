/**
 * The node's database in LevelDB: statements and their order by publisher, rosters, heads, verdicts, settings. Every
 * write is flushed before it is acknowledged, and a batch is written as a whole or not at all. Stores bytes; does not
 * know what a statement means and verifies nothing.
 */
import { join } from 'node:path'
import { type Digest, digestBytes, fromUtf8, toHex, utf8 } from '../lib/bytes.ts'
import { InputError, VerificationError } from '../lib/errors.ts'
import { ensurePrivateDir } from '../lib/files.ts'
import { openError, writeError } from './catalogue-errors.ts'
import {
  keyOf,
  logKey,
  logRange,
  rangeOf,
  seqOf,
  statementKey,
  type TableName,
  tablePrefix,
  tipKey,
} from './catalogue-keys.ts'
import { DurableLevel, type Operation } from './durable-level.ts'
import { readHolder, removeHolder, writeHolder } from './home-holder.ts'

/** One change of an atomic batch; without `value` the key is removed. */
export interface Change {
  readonly table: TableName
  readonly key: string
  readonly value?: Uint8Array
}

export interface NewStatement {
  readonly publisher: string
  readonly seq: number
  readonly digest: Digest
  readonly envelope: Uint8Array
}

export interface Tip {
  readonly seq: number
  readonly digest: Digest
  /** Size of all envelopes of the log. */
  readonly bytes: number
}

export class Catalogue {
  readonly #dir: string
  readonly #db: DurableLevel
  #queue: Promise<unknown> = Promise.resolve()

  private constructor(dir: string, db: DurableLevel) {
    this.#dir = dir
    this.#db = db
  }

  /**
   * Open or create `catalogue/` inside `dir`, and lock it against other processes.
   * @param command for the message that other processes print meanwhile
   * @throws InputError `home-in-use`, whose fields name the process that uses it, `permissions`, `disk-full`, `io`.
   */
  static async open(dir: string, command = 'flexmesh'): Promise<Catalogue> {
    const path = join(dir, 'catalogue')
    await ensurePrivateDir(path)
    const db = new DurableLevel(path)
    try {
      await db.open()
    } catch (error) {
      throw openError(dir, error, await readHolder(dir))
    }
    await writeHolder(dir, command)
    return new Catalogue(dir, db)
  }

  async close(): Promise<void> {
    await this.#queue
    await removeHolder(this.#dir)
    await this.#db.close()
  }

  async get(table: TableName, key: string): Promise<Uint8Array | undefined> {
    return this.#get(keyOf(table, key))
  }

  /** Keys and values, sorted by key. */
  async entries(table: TableName): Promise<[key: string, value: Uint8Array][]> {
    const prefix = tablePrefix(table)
    const found = await this.#db.entries(rangeOf(prefix))
    return found.map(([key, value]) => [key.slice(prefix.length), new Uint8Array(value)])
  }

  async put(table: TableName, key: string, value: Uint8Array): Promise<void> {
    await this.write([{ table, key, value }])
  }

  async delete(table: TableName, key: string): Promise<void> {
    await this.write([{ table, key }])
  }

  /** Write all changes or none, and flush. @throws InputError `disk-full`, `io`. */
  async write(changes: readonly Change[]): Promise<void> {
    await this.#serial(() => this.#batch(changes.map(operationOf)))
  }

  /**
   * Append the next statement to a publisher's log, together with `changes`, in one batch.
   * @returns false if the log has exactly this statement already; `changes` are then not written.
   * @throws VerificationError `forked` if the log has another statement with this number, `replayed` if the number is
   * not the next.
   */
  async append(statement: NewStatement, changes: readonly Change[] = []): Promise<boolean> {
    const { publisher, seq, digest, envelope } = statement
    return this.#serial(async () => {
      const known = await this.statementAt(publisher, seq)
      if (known === digest) return false
      if (known !== undefined) {
        throw new VerificationError(
          'forked',
          `${publisher}: statement ${seq} is ${known} already, not ${digest}`,
        )
      }
      const { seq: last, bytes } = (await this.tip(publisher)) ?? { seq: 0, bytes: 0 }
      if (seq !== last + 1) {
        throw new VerificationError('replayed', `${publisher}: expected statement ${last + 1}, got ${seq}`)
      }
      await this.#batch([
        { type: 'put', key: statementKey(digest), value: envelope },
        { type: 'put', key: logKey(publisher, seq), value: digestBytes(digest) },
        { type: 'put', key: tipKey(publisher), value: utf8(`${seq} ${digest} ${bytes + envelope.length}`) },
        ...changes.map(operationOf),
      ])
      return true
    })
  }

  /** Everything that the catalogue holds, as it is when the first entry is read. Writes may go on meanwhile. */
  snapshot(): AsyncGenerator<[key: string, value: Uint8Array], void, void> {
    return this.#db.snapshot()
  }

  /** Write entries of a `snapshot`. @throws InputError `disk-full`, `io`. */
  async writeSnapshot(entries: readonly (readonly [key: string, value: Uint8Array])[]): Promise<void> {
    await this.#serial(() => this.#batch(entries.map(([key, value]) => ({ type: 'put', key, value }))))
  }

  /** Envelope of the statement whose payload has this digest. */
  async statement(digest: Digest): Promise<Uint8Array | undefined> {
    return this.#get(statementKey(digest))
  }

  async statementAt(publisher: string, seq: number): Promise<Digest | undefined> {
    const bytes = await this.#get(logKey(publisher, seq))
    return bytes === undefined ? undefined : digestFrom(bytes)
  }

  /** Latest statement of a publisher. */
  async tip(publisher: string): Promise<Tip | undefined> {
    const bytes = await this.#get(tipKey(publisher))
    if (bytes === undefined) return undefined
    const tip = parseTip(bytes)
    // Earlier versions did not count bytes.
    return { ...tip, bytes: tip.bytes ?? (await this.#sizeOfLog(publisher)) }
  }

  /** Size of all envelopes of a log. */
  async #sizeOfLog(publisher: string): Promise<number> {
    let size = 0
    for (let from = 1; ; ) {
      const page = await this.log(publisher, from, 64)
      for (const { envelope } of page) size += envelope.length
      if (page.length < 64) return size
      from += page.length
    }
  }

  /** The latest statement of every publisher that has one. */
  async tips(): Promise<Map<string, Omit<Tip, 'bytes'>>> {
    const found = await this.#db.entries(rangeOf('n!'))
    return new Map(found.map(([key, value]) => [key.slice(2), parseTip(value)]))
  }

  /** At most `max` statements of a publisher from number `fromSeq` on, in order. */
  async log(publisher: string, fromSeq: number, max: number): Promise<NewStatement[]> {
    const range = logRange(publisher)
    const found = await this.#db.entries({ ...range, gte: logKey(publisher, fromSeq), limit: max })
    const statements: NewStatement[] = []
    for (const [key, value] of found) {
      const digest = digestFrom(value)
      const envelope = await this.statement(digest)
      if (envelope === undefined)
        throw new InputError('io', `catalogue: the envelope of ${digest} is missing`)
      statements.push({ publisher, seq: seqOf(key), digest, envelope })
    }
    return statements
  }

  /** LevelDB returns Buffers, whose methods and encodings differ from those of Uint8Array. */
  async #get(key: string): Promise<Uint8Array | undefined> {
    const value = await this.#db.get(key)
    return value === undefined ? undefined : new Uint8Array(value)
  }

  async #batch(operations: Operation[]): Promise<void> {
    try {
      await this.#db.batch(operations)
    } catch (error) {
      throw writeError(error)
    }
  }

  /** Run one write after the other, so that what `append` checked still holds when it writes. */
  async #serial<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(action)
    this.#queue = result.catch(() => undefined)
    return result
  }
}

function operationOf({ table, key, value }: Change): Operation {
  return value === undefined
    ? { type: 'del', key: keyOf(table, key) }
    : { type: 'put', key: keyOf(table, key), value }
}

function digestFrom(bytes: Uint8Array): Digest {
  return `sha256:${toHex(bytes)}`
}

function parseTip(bytes: Uint8Array): Omit<Tip, 'bytes'> & { readonly bytes?: number } {
  const [seq, digest, size] = fromUtf8(bytes).split(' ')
  return {
    seq: Number(seq),
    digest: digest as Digest,
    ...(size === undefined ? {} : { bytes: Number(size) }),
  }
}
