/**
 * Collects what leaves the node into rows of the egress ledger. Objects of one kind to one receiver share a row for a
 * while: the chunks of a file until its transfer pauses, small messages for an hour. Rows that are still open are handed
 * to the journal too, so that a killed process leaves them. Does not know how rows are stored.
 */
import { createHash, type Hash } from 'node:crypto'
import type { Digest } from '../lib/bytes.ts'
import type { EgressEntry, EgressSink } from '../lib/egress.ts'
import { type EgressBody, MAX_RUNS } from './egress-row.ts'

/** Where rows go. */
export interface EgressJournal {
  /**
   * Keep rows so that the end of this process does not lose them: `closed` for good, `open` until the next call, which
   * brings them again. Calls do not overlap. Nothing was kept if this rejects.
   */
  save(closed: readonly EgressBody[], open: readonly EgressBody[]): Promise<void>
  /** Make everything that was saved survive a loss of power. */
  sync(): Promise<void>
  /** Nothing follows. */
  close(): Promise<void>
}

export interface EgressBookInit {
  readonly journal: EgressJournal
  /** Unix seconds. */
  readonly now: () => number
  /** Called when rows cannot be kept any more; they are tried again, and it is not called again before that succeeds. */
  readonly onFailure: (error: unknown) => void
}

/** Longest time for which bytes are counted in memory alone, unless `persist` is called, ms. */
const PERSIST_MS = 1_000
/** Time between two calls of `sync` while rows are written, ms. */
const SYNC_MS = 10_000
/** A transfer that pauses for so long, or has lasted so long, gets its row, seconds. */
const TRANSFER_PAUSE = 10
const TRANSFER_TIME = 60
/** Time for which messages of one kind share a row, seconds. */
const MESSAGES_TIME = 3_600

export class EgressBook implements EgressSink {
  readonly #init: EgressBookInit
  readonly #open = new Map<string, OpenRow>()
  #closed: EgressBody[] = []
  readonly #timer: ReturnType<typeof setInterval>
  #isDirty = false
  #isFailing = false
  #needsSync = false
  #syncedAt = performance.now()
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(init: EgressBookInit) {
    this.#init = init
    this.#timer = setInterval(() => {
      const isDue =
        this.#isDirty || this.#needsSync || [...this.#open.values()].some((row) => this.#isDue(row))
      if (isDue) void this.persist() // Never rejects.
    }, PERSIST_MS).unref()
  }

  add(entry: EgressEntry): void {
    const now = this.#init.now()
    this.#isDirty = true
    if (entry.isSingle === true && entry.isCorrection !== true) {
      const row = new OpenRow(entry, now)
      row.add(entry, now)
      this.#closed.push(row.body())
      return
    }
    const { kind, to, protocol = '', file = '' } = entry
    const key = [kind, to, protocol, file].join(' ')
    const known = this.#open.get(key)
    if (entry.isCorrection === true) {
      known?.correct(entry.bytes)
      return
    }
    if (known?.accepts(entry) === true) {
      known.add(entry, now)
      return
    }
    if (known !== undefined) this.#closed.push(known.body())
    const row = new OpenRow(entry, now)
    row.add(entry, now)
    this.#open.set(key, row)
  }

  /** Add a row about the ledger itself. */
  note(body: EgressBody): void {
    this.#isDirty = true
    this.#closed.push(body)
  }

  /** Rows that are not in the journal for good yet. */
  pending(): EgressBody[] {
    return [...this.#closed, ...Array.from(this.#open.values(), (row) => row.body())]
  }

  /** Hand everything that was added before this call to the journal. Never rejects. */
  persist(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#persist().finally(() => {
        this.#running = undefined
      })
      return this.#running
    }
    this.#next ??= this.#running.then(() => {
      this.#next = undefined
      return this.persist()
    })
    return this.#next
  }

  /** Close every row and the journal. Never rejects. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.flush()
    await this.#init.journal.close().catch(this.#init.onFailure)
  }

  /** Close every open row now, and hand all rows to the journal for good. Never rejects. */
  async flush(): Promise<void> {
    for (const [key, row] of this.#open) {
      this.#closed.push(row.body())
      this.#open.delete(key)
    }
    await this.persist()
  }

  async #persist(): Promise<void> {
    const { journal, onFailure } = this.#init
    for (const [key, row] of this.#open) {
      if (!this.#isDue(row)) continue
      this.#closed.push(row.body())
      this.#open.delete(key)
    }
    const closed = this.#closed
    this.#closed = []
    this.#isDirty = false
    try {
      const open = Array.from(this.#open.values(), (row) => row.body())
      await journal.save(closed, open)
    } catch (error) {
      this.#closed = [...closed, ...this.#closed]
      this.#isDirty = true
      if (!this.#isFailing) onFailure(error)
      this.#isFailing = true
      return
    }
    this.#needsSync ||= closed.length > 0
    try {
      if (this.#needsSync && performance.now() - this.#syncedAt > SYNC_MS) {
        await journal.sync()
        this.#syncedAt = performance.now()
        this.#needsSync = false
      }
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing) onFailure(error)
      this.#isFailing = true
    }
  }

  #isDue(row: OpenRow): boolean {
    const now = this.#init.now()
    if (!row.isTransfer) return now - row.from >= MESSAGES_TIME
    return now - row.until >= TRANSFER_PAUSE || now - row.from >= TRANSFER_TIME
  }
}

/** A row that may still grow. */
class OpenRow {
  readonly from: number
  until: number
  readonly #first: EgressEntry
  readonly #chunks = new Map<number, Uint8Array>()
  #runs = 0
  #bytes = 0
  #count = 0
  #tokens = 0
  /** The row as it is now, until it grows. */
  #body: EgressBody | undefined
  /** SHA-256 of the hashes so far; undefined while the row has one object at most. */
  #hash: Hash | undefined
  #only: Uint8Array | undefined

  constructor(first: EgressEntry, now: number) {
    this.#first = first
    this.from = now
    this.until = now
  }

  get isTransfer(): boolean {
    return this.#first.chunk !== undefined
  }

  /** Whether an object of the same kind, receiver and file fits into the row. */
  accepts({ chunk, hash }: EgressEntry): boolean {
    if ((chunk !== undefined) !== this.isTransfer) return false
    if (chunk === undefined) return true
    const known = this.#chunks.get(chunk)
    // A chunk that was sent before with other content must not hide behind the new one.
    if (known !== undefined) return hash !== undefined && Buffer.compare(known, hash) === 0
    return this.#runs < MAX_RUNS
  }

  /** @param bytes negative */
  correct(bytes: number): void {
    this.#body = undefined
    this.#bytes = Math.max(0, this.#bytes + bytes)
  }

  add({ bytes, hash, chunk, tokens = 0 }: EgressEntry, now: number): void {
    this.#body = undefined
    this.until = now
    this.#bytes += bytes
    this.#count++
    this.#tokens += tokens
    if (hash === undefined) return
    if (chunk !== undefined) {
      if (!this.#chunks.has(chunk)) {
        this.#runs += 1 - Number(this.#chunks.has(chunk - 1)) - Number(this.#chunks.has(chunk + 1))
      }
      this.#chunks.set(chunk, hash)
      return
    }
    if (this.#only === undefined) {
      this.#only = hash
      return
    }
    this.#hash ??= createHash('sha256').update(this.#only)
    this.#hash.update(hash)
  }

  body(): EgressBody {
    this.#body ??= this.#bodyNow()
    return this.#body
  }

  #bodyNow(): EgressBody {
    const { kind, to, protocol, file } = this.#first
    const digest = this.#digest()
    return {
      from: this.from,
      until: this.until,
      kind,
      to,
      bytes: this.#bytes,
      count: this.#count,
      ...(protocol === undefined ? {} : { protocol }),
      ...(digest === undefined ? {} : { digest }),
      ...(file === undefined ? {} : { file }),
      ...(this.isTransfer ? { chunks: runsOf([...this.#chunks.keys()]) } : {}),
      ...(this.#tokens === 0 ? {} : { tokens: this.#tokens }),
    }
  }

  #digest(): Digest | undefined {
    if (this.isTransfer) {
      const indices = [...this.#chunks.keys()].sort((a, b) => a - b)
      return digestOfHashes(indices.map((index) => this.#chunks.get(index) as Uint8Array))
    }
    if (this.#hash !== undefined) return `sha256:${this.#hash.copy().digest('hex')}`
    return this.#only === undefined ? undefined : `sha256:${Buffer.from(this.#only).toString('hex')}`
  }
}

/** SHA-256 of hashes in their order. */
export function digestOfHashes(hashes: readonly Uint8Array[]): Digest {
  const hash = createHash('sha256')
  for (const one of hashes) hash.update(one)
  return `sha256:${hash.digest('hex')}`
}

function runsOf(indices: readonly number[]): [number, number][] {
  const runs: [number, number][] = []
  for (const index of [...indices].sort((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last?.[1] === index - 1) last[1] = index
    else runs.push([index, index])
  }
  return runs
}
